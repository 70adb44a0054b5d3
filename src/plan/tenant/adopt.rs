//! Taking over the data of an earlier Tenant, as `spec.database.adopt.previousUid` asks: kept in the ledger's row of the
//! tenant id, or in an archive of it. Only a Tenant that has no data can; nothing that is in use is ever taken.

use super::{
    ownership::Ownership,
    schema::{find_changed, is_known, resolve_target},
};
use crate::domain::{
    ident::{Incarnation, Uid},
    keyring::KeyringMark,
    migrations::{TENANT, TENANT_VERSION, Track, transactional_version},
    resolve::DesiredTenant,
};
use crate::plan::{
    installation::Installation,
    observed::{Archive, DatabaseView, LedgerFacts, LedgerRow, ObservedTenant, RowState, render_mark},
    step::{Adoption, AdoptionSource},
};

/// The field, as messages name it.
const FIELD: &str = "spec.database.adopt.previousUid";

/// Judges anew what is nobody's yet, for a Tenant that asks for earlier data. Anything else stays as it was judged.
pub(crate) fn judge_adoption(
    ownership: Ownership,
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
) -> Ownership {
    let (Some(previous), DatabaseView::Facts(facts)) = (&desired.adopt, &observed.database) else { return ownership };
    // It had data once: an older state of the database is not begun with again.
    if observed.recorded.incarnation.is_some() {
        return ownership;
    }
    let target = resolve_target(installation, &observed.replicas);
    match ownership {
        Ownership::Retained(note) => match &facts.row {
            Some(row) if row.uid == *previous && row.state == RowState::Retained => {
                let adoption = of_row(desired, row, target);
                adoptable(check_fit(adoption, &row.schema_checksums, (&facts.role_mark, &facts.schema_mark), facts))
            }
            Some(_) | None => Ownership::Retained(note),
        },
        Ownership::Nothing { replaces, .. } => match facts.archive_of(previous) {
            Some(archive) => {
                let adoption = of_archive(desired, installation, archive, replaces, target);
                let marks = (&archive.role_mark, &archive.schema_mark);
                adoptable(check_fit(adoption, &archive.schema_checksums, marks, facts))
            }
            None => Ownership::Unadoptable(nothing_note(previous, desired, facts)),
        },
        Ownership::Ours { .. }
        | Ownership::Foreign(_)
        | Ownership::Awaited(_)
        | Ownership::Adoptable(_)
        | Ownership::Unadoptable(_)
        | Ownership::Lost(_)
        | Ownership::GivenUp(_)
        | Ownership::Changed(_)
        | Ownership::Unplaced(_)
        | Ownership::Unknown(_) => ownership,
    }
}

fn adoptable(fit: Result<Adoption, String>) -> Ownership {
    match fit {
        Ok(adoption) => Ownership::Adoptable(Box::new(adoption)),
        Err(note) => Ownership::Unadoptable(format!("{FIELD}: {note}")),
    }
}

/// The keyring that is made for it follows the last one that there was.
fn next_keyring(version: i32) -> KeyringMark {
    KeyringMark { version: version.saturating_add(1), digest: String::new() }
}

/// All of a row's data, from where it is kept, with tables up to the version `target`.
pub(crate) fn of_row(desired: &DesiredTenant, row: &LedgerRow, target: i32) -> Adoption {
    Adoption {
        tenant_id: desired.tenant_id.clone(),
        incarnation: row.incarnation,
        previous: row.uid.clone(),
        cell: row.cell,
        schema: row.schema.clone(),
        role: row.role.clone(),
        schema_version: row.schema_version,
        target_version: transactional_version(row.schema_version, target),
        keyring: next_keyring(row.keyring.version),
        source: AdoptionSource::Retained { since: row.state_since },
    }
}

fn of_archive(
    desired: &DesiredTenant,
    installation: &Installation,
    archive: &Archive,
    replaces: Option<Incarnation>,
    target: i32,
) -> Adoption {
    let name = desired.tenant_id.database_name(&installation.home.prefix);
    Adoption {
        tenant_id: desired.tenant_id.clone(),
        incarnation: archive.incarnation,
        previous: archive.uid.clone(),
        cell: archive.cell,
        schema: name.clone(),
        role: name,
        schema_version: archive.schema_version,
        target_version: transactional_version(archive.schema_version, target),
        keyring: next_keyring(archive.ring_version),
        source: AdoptionSource::Archived { schema: archive.schema.clone(), role: archive.role.clone(), replaces },
    }
}

/// Whole, ours, and of a version that this operator knows; else what is wrong.
pub(crate) fn check_fit(
    adoption: Adoption,
    checksums: &[String],
    (role_mark, schema_mark): (&Option<String>, &Option<String>),
    facts: &LedgerFacts,
) -> Result<Adoption, String> {
    let uid = &adoption.previous;
    let mark = render_mark(facts.database_id, adoption.incarnation);
    match (role_mark, schema_mark) {
        (Some(role), Some(schema)) if *role == mark && *schema == mark => {}
        (Some(_), Some(_)) => {
            return Err(format!("role or schema of UID {uid} carries another mark than the ledger"));
        }
        (None, _) | (_, None) => return Err(format!("role or schema of UID {uid} is gone")),
    }
    if !is_known(adoption.schema_version) {
        let found = adoption.schema_version;
        return Err(format!(
            "the data of UID {uid} has schema version {found}, and this operator knows versions up to {TENANT_VERSION}: it \
             needs a newer operator"
        ));
    }
    if let Some(changed) = find_changed(Track::Base, TENANT, checksums) {
        return Err(changed);
    }
    Ok(adoption)
}

/// What there would be, for those who may know: the namespace's own people.
fn nothing_note(previous: &Uid, desired: &DesiredTenant, facts: &LedgerFacts) -> String {
    let id = &desired.tenant_id;
    let own = facts.archives.iter().filter(|archive| archive.namespace == desired.object.namespace);
    let own: Vec<&str> = own.map(|archive| archive.uid.0.as_str()).collect();
    let there = match own.is_empty() {
        true => String::new(),
        false => format!("; of this namespace, archives are kept of UID {}", own.join(", ")),
    };
    format!(
        "{FIELD}: the database keeps nothing of tenant id '{id}' from a Tenant with UID {previous}{there}; name the UID of \
         a deleted Tenant whose data is kept, or remove the field to begin with nothing"
    )
}
