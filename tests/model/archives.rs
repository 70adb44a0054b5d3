//! The model's archives: putting data aside, taking it over, dropping it when its time is over; and what must hold of them.

use super::{
    database::{NewRow, conflict, enter_row, hold, permitted},
    operator::Operator,
    state::{Archived, CLUSTER, Database, FORMER, Key, STRANGER, State, transient},
};
use agent_tenancy::{
    domain::{
        ident::{Incarnation, ObjectId, TenantId, Uid},
        resolve::DesiredTenant,
    },
    effects::error::EffectError,
    plan::{
        observed::{Archive, LedgerRow, RowState, render_mark},
        step::{Adoption, AdoptionSource, CloseDatabase, Done},
    },
};
use jiff::{SignedDuration, Timestamp};

pub fn observe(database: &Database, id: &TenantId) -> Vec<Archive> {
    let of_id = database.archives.values().filter(|a| a.tenant_id == *id);
    let marked = |a: &Archive| Archive {
        role_mark: database.roles.get(&a.role).cloned(),
        schema_mark: database.schemas.get(&a.schema).cloned(),
        permitted: permitted(database, a.incarnation),
        ..a.clone()
    };
    of_id.map(|a| marked(&a.archive)).collect()
}

fn rename(database: &mut Database, from: &str, to: &str) {
    for names in [&mut database.roles, &mut database.schemas] {
        if let Some(mark) = names.remove(from) {
            names.insert(to.to_owned(), mark);
        }
    }
    if database.grants.remove(from) {
        database.grants.insert(to.to_owned());
    }
}

/// Part of closing a row after its marks were checked.
pub fn put_aside(state: &mut State, row: &LedgerRow, wanted: &CloseDatabase) {
    let name = row.incarnation.archive_name(&row.schema);
    rename(&mut state.database, &row.schema, &name);
    let archive = Archive {
        incarnation: row.incarnation,
        uid: row.uid.clone(),
        namespace: row.namespace.clone(),
        name: row.name.clone(),
        cluster_id: row.cluster_id.clone(),
        permitted: Vec::new(),
        cell: row.cell,
        schema: name.clone(),
        role: name,
        schema_version: row.schema_version,
        schema_checksums: row.schema_checksums.clone(),
        ring_version: row.keyring.version,
        role_mark: None,
        schema_mark: None,
    };
    let drop_after = state.now.checked_add(SignedDuration::from_secs(wanted.archive_seconds)).unwrap();
    let kept = Archived { tenant_id: wanted.tenant_id.clone(), archive, own: row.own.clone(), drop_after };
    if state.database.archives.insert(row.incarnation, kept).is_some() {
        state.violation("an archive was overwritten");
    }
    if !state.archivable.contains(&row.uid) {
        state.violation(format!("the data of {} was archived without a request", wanted.tenant_id));
    }
}

pub fn adopt(state: &mut State, wanted: &Adoption, owner: &ObjectId) -> Result<Done, EffectError> {
    let asked = state.live_tenant(&owner.uid).and_then(|t| t.spec.database.adopt.clone());
    let row = state.database.rows.get(&wanted.tenant_id).cloned();
    if row
        .as_ref()
        .is_some_and(|r| (r.incarnation, &r.uid, r.state) == (wanted.incarnation, &owner.uid, RowState::Active))
    {
        return Ok(Done::Plain);
    }
    let mark = render_mark(state.database.id, wanted.incarnation);
    let marked = |d: &Database, name: &str| d.roles.get(name) == Some(&mark) && d.schemas.get(name) == Some(&mark);
    let mut own = row.as_ref().filter(|r| r.incarnation == wanted.incarnation).map(|r| r.own.clone());
    match &wanted.source {
        AdoptionSource::Retained { since, granted_from } => {
            let kept = |r: &LedgerRow| {
                (r.incarnation, &r.uid, r.state, r.state_since)
                    == (wanted.incarnation, &wanted.previous, RowState::Retained, *since)
            };
            if !row.as_ref().is_some_and(kept) {
                return Err(transient("the data is not kept any more as it was"));
            }
            let from =
                row.as_ref().map(|r| KeptBy { namespace: r.namespace.clone(), cluster_id: r.cluster_id.clone() });
            use_grant(state, wanted, owner, from, granted_from.as_deref())?;
            if !marked(&state.database, &wanted.schema) {
                return Err(conflict("role or schema is gone or carries another mark"));
            }
        }
        AdoptionSource::Predecessor { cluster_id, by_permission, .. } => {
            let left = |r: &LedgerRow| {
                (r.incarnation, &r.uid, &r.cluster_id) == (wanted.incarnation, &wanted.previous, cluster_id)
                    && (&r.namespace, &r.name) == (&owner.namespace, &owner.name)
            };
            if !row.as_ref().is_some_and(left) {
                return Err(transient("the data is not that cluster's any more"));
            }
            let used_up = state.database.permissions.remove(&(wanted.incarnation, owner.uid.clone()));
            match (by_permission, used_up) {
                (true, false) => return Err(conflict("there is no grant any more")),
                (false, _) if cluster_id != FORMER => state.violation(format!("{owner} takes over without a grant")),
                (true, true) | (false, _) => {}
            }
            if !marked(&state.database, &wanted.schema) {
                return Err(conflict("role or schema is gone or carries another mark"));
            }
        }
        AdoptionSource::Archived { schema, replaces, granted_from, .. } => {
            match (&row, replaces) {
                (None, None) => {}
                (Some(row), Some(old)) if row.incarnation == *old && row.state == RowState::Dropped => {}
                (None, Some(_)) | (Some(_), _) => return Err(transient("the row is another one by now")),
            }
            if !state.database.archives.contains_key(&wanted.incarnation) {
                return Err(transient("the archive is gone"));
            }
            let kept = &state.database.archives[&wanted.incarnation].archive;
            let from = Some(KeptBy { namespace: kept.namespace.clone(), cluster_id: kept.cluster_id.clone() });
            use_grant(state, wanted, owner, from, granted_from.as_deref())?;
            if !marked(&state.database, schema) {
                return Err(conflict("role or schema is gone or carries another mark"));
            }
            own = state.database.archives.remove(&wanted.incarnation).map(|kept| kept.own);
            rename(&mut state.database, schema, &wanted.schema);
        }
    }
    if !state.stale && asked.is_some_and(|a| a.previous_uid != wanted.previous.0) {
        state.violation(format!("{owner} takes over what it does not ask for"));
    }
    let row = NewRow {
        incarnation: wanted.incarnation,
        cell: wanted.cell,
        schema: &wanted.schema,
        role: &wanted.role,
        schema_version: wanted.target_version,
        own: own.unwrap_or_default(),
        keyring: &wanted.keyring,
    };
    enter_row(state, owner, &wanted.tenant_id, row);
    Ok(Done::Plain)
}

/// Where the owner of kept data was.
struct KeptBy {
    namespace: String,
    cluster_id: String,
}

/// Kept data of another namespace or cluster is taken over with a grant only, which is used up.
fn use_grant(
    state: &mut State,
    wanted: &Adoption,
    owner: &ObjectId,
    from: Option<KeptBy>,
    granted_from: Option<&str>,
) -> Result<(), EffectError> {
    if granted_from.is_some() && !state.database.permissions.remove(&(wanted.incarnation, owner.uid.clone())) {
        return Err(transient("nobody allows that any more"));
    }
    let own = |kept: KeptBy| kept.namespace == owner.namespace && [CLUSTER, FORMER].contains(&kept.cluster_id.as_str());
    if granted_from.is_none() && !from.is_some_and(own) {
        state.violation(format!("{owner} takes over the data of another namespace"));
    }
    Ok(())
}

pub fn prevent(state: &mut State, row: &LedgerRow) -> Result<Done, EffectError> {
    let held = hold(&mut state.database, row, &[RowState::Retained])?;
    // Time goes on in a database, also where it stands still here.
    held.state_since = held.state_since.checked_add(SignedDuration::from_micros(1)).unwrap();
    state.wrote();
    Ok(Done::Plain)
}

/// What the leader does besides all reconciles.
pub fn sweep(operator: &Operator) {
    let due = |s: &State| -> Vec<Incarnation> {
        let over = s.database.archives.values().filter(|a| a.drop_after <= s.now);
        over.map(|a| a.archive.incarnation).collect()
    };
    let all = due(&operator.state());
    for incarnation in all {
        // What fails is tried in the next round.
        let _ = operator.database_effect(|state| drop_archive(state, incarnation));
    }
}

fn drop_archive(state: &mut State, incarnation: Incarnation) -> Result<Done, EffectError> {
    let now = state.now;
    let Some(old) = state.database.archives.get(&incarnation).filter(|a| a.drop_after <= now).cloned() else {
        return Ok(Done::Plain);
    };
    let mark = render_mark(state.database.id, incarnation);
    let name = &old.archive.schema;
    if [state.database.roles.get(name), state.database.schemas.get(name)].iter().flatten().any(|m| **m != mark) {
        return Err(conflict("role or schema carries another mark"));
    }
    state.database.archives.remove(&incarnation);
    state.database.roles.remove(name);
    state.database.schemas.remove(name);
    state.database.grants.remove(name);
    state.wrote();
    Ok(Done::Plain)
}

/// When the next archive is due, if that is soon.
pub fn soon_due(state: &State) -> Option<Timestamp> {
    let soon = state.now.checked_add(SignedDuration::from_secs(1000)).unwrap();
    let times = state.database.archives.values().map(|a| a.drop_after);
    times.filter(|at| *at > state.now && *at <= soon).min()
}

/// UIDs of the Tenants with kept data for an id.
pub fn kept_uids(state: &State, id: &TenantId) -> Vec<Uid> {
    let row = state.database.rows.get(id).filter(|r| r.state == RowState::Retained).map(|r| r.uid.clone());
    let archives = state.database.archives.values().filter(|a| a.tenant_id == *id).map(|a| a.archive.uid.clone());
    row.into_iter().chain(archives).collect()
}

/// Why a Tenant has no data though no other Tenant has its id.
pub fn check_refusal(state: &State, key: &Key, desired: &DesiredTenant, reason: &str) {
    if reason != "AdoptionRefused" {
        assert_eq!(reason, "AgentConfigNotFound", "{key:?}: no other Tenant has the id");
        return;
    }
    let wanted = desired.adopt.as_ref().expect("it asks for data");
    let own = |archive: &Archive| archive.namespace == key.0 && archive.cluster_id != STRANGER;
    let there = state.database.archives.values().any(|kept| kept.archive.uid == *wanted && own(&kept.archive));
    assert!(!there, "{key:?}: what it asks for is there");
}

/// Archived data is whole and out of reach, and belongs to no other Tenant.
pub fn check_kept(state: &State) {
    let database = &state.database;
    for (incarnation, kept) in &database.archives {
        let (name, mark) = (&kept.archive.schema, Some(render_mark(database.id, *incarnation)));
        assert_eq!((database.schemas.get(name), database.roles.get(name)), (mark.as_ref(), mark.as_ref()));
        assert!(!database.members.contains(name), "{name} is in reach");
        let twice = |r: &LedgerRow| r.incarnation == *incarnation && r.state != RowState::Dropped;
        assert!(!database.rows.values().any(twice), "{name} belongs to a row");
        assert!(kept.drop_after > state.now, "{name} is overdue");
    }
}
