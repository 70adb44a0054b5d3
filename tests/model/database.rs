//! The model's Postgres: each step is one transaction that checks fence, row and marks.

use super::drift::{access_facts, repair_edits};
use super::state::{CELL_SIZE, CLUSTER, Database, State, transient};
use agent_tenancy::{
    api::{DeletionPolicy, Reason},
    domain::{
        class::ErrorClass,
        entry::{Entry, TenantState},
        ident::{CellNumber, DatabaseId, Incarnation, ObjectId, TenantId, Uid},
        keyring::KeyringMark,
        keys::KeyBytes,
        migrations::{Track, tenant_checksums},
    },
    effects::{error::EffectError, world::TenantScope},
    plan::{
        drift::Drift,
        observed::{
            CellOffer, DatabaseView, LedgerFacts, LedgerRow, ReadError, RowState,
            applied::{Applied, MigrationFailure, render_failure},
            render_mark,
            takeover_grant::TakeoverGrant,
        },
        step::{CloseDatabase, Done, Migrate, Provision},
    },
};

pub fn conflict(what: impl Into<String>) -> EffectError {
    EffectError::new(ErrorClass::Conflict, what)
}

/// The database this installation was provisioned in, if another one answers.
pub fn changed(state: &State) -> Option<(DatabaseId, Option<DatabaseId>)> {
    let from_cells = state.registry.values().filter_map(|s| match &s.entry {
        Some(Entry::Cell(cell)) => Some(cell.database_id),
        _ => None,
    });
    let from_status = state.tenants.values().filter_map(|t| {
        let id = &t.status.as_ref()?.database.as_ref()?.database_id;
        id.parse().ok().map(DatabaseId)
    });
    let expected = from_cells.chain(from_status).find(|id| *id != state.database.id)?;
    Some((expected, state.database.control.then_some(state.database.id)))
}

pub fn observe(state: &State, id: &TenantId, scope: &TenantScope) -> DatabaseView {
    let deleting = scope.claim.deleting;
    let adopt = scope.adopt.as_ref().filter(|_| !deleting);
    if !state.database.up {
        let note = "the database does not answer".to_owned();
        return DatabaseView::Unknown(ReadError::new(ErrorClass::Transient, note));
    }
    if let Some((expected, found)) = changed(state) {
        return DatabaseView::Changed { expected, found };
    }
    let database = &state.database;
    let row = database.rows.get(id).cloned();
    let name = row.as_ref().map_or_else(|| format!("{}_{id}", super::state::PREFIX), |r| r.schema.clone());
    let free = row.as_ref().is_none_or(|r| r.state == RowState::Dropped);
    DatabaseView::Facts(LedgerFacts {
        database_id: database.id,
        heartbeat_age_seconds: row.as_ref().map(|r| if r.cluster_id == CLUSTER { 0 } else { 3600 }),
        permitted: row.as_ref().map(|r| permitted(database, r.incarnation)).unwrap_or_default(),
        failure: row.as_ref().and_then(|r| database.failures.get(&r.incarnation).cloned()),
        role_mark: database.roles.get(&name).cloned(),
        schema_mark: database.schemas.get(&name).cloned(),
        access: row.as_ref().filter(|r| r.state.in_use()).map(|r| access_facts(database, &name, r.schema_version)),
        open_transactions: if deleting || scope.suspend {
            database.open.get(&name).copied().unwrap_or_default()
        } else {
            0
        },
        offer: (free && !deleting && adopt.is_none()).then(|| offer(database)),
        archives: adopt.map(|_| super::archives::observe(database, id)).unwrap_or_default(),
        row,
    })
}

/// The Tenants that may take over this data.
pub fn permitted(database: &Database, incarnation: Incarnation) -> Vec<TakeoverGrant> {
    let of_data = database.permissions.iter().filter(|(granted, _)| *granted == incarnation);
    of_data.map(|(_, uid)| TakeoverGrant { cluster_id: CLUSTER.to_owned(), uid: uid.clone() }).collect()
}

fn offer(database: &Database) -> CellOffer {
    let used = |cell: i32| {
        let kept = database.archives.values().filter(|a| a.archive.cell.0 == cell).count();
        let tenants = database.rows.values().filter(|r| r.cell.0 == cell && r.state != RowState::Dropped).count();
        kept + tenants < CELL_SIZE
    };
    let cell = (1..).find(|n| used(*n)).unwrap_or(1);
    CellOffer { cell: CellNumber(cell), exists: database.cells.contains_key(&cell) }
}

pub fn create_cell(state: &mut State, cell: CellNumber, password: &KeyBytes) -> Done {
    if state.database.cells.get(&cell.0) != Some(password) {
        state.database.cells.insert(cell.0, password.clone());
        state.wrote();
    }
    Done::Plain
}

pub fn provision(state: &mut State, wanted: &Provision, owner: &ObjectId) -> Result<Done, EffectError> {
    let asks = state.live_tenant(&owner.uid).is_some_and(|t| t.spec.database.adopt.is_some());
    if asks && !state.stale && !state.database.rows.values().any(|r| r.uid == owner.uid) {
        state.violation(format!("{owner} begins with nothing, though it is to take data over"));
    }
    let database = &mut state.database;
    match (database.rows.get(&wanted.tenant_id), wanted.replaces) {
        (None, None) => {}
        (Some(row), _) if row.incarnation == wanted.incarnation && row.state == RowState::Active => {
            return Ok(Done::Plain);
        }
        (Some(row), Some(old)) if row.incarnation == old && row.state == RowState::Dropped => {}
        (Some(row), _) if row.state != RowState::Dropped && row.uid != owner.uid => {
            return Err(conflict("the tenant id has another row"));
        }
        (None, Some(_)) => return Err(conflict("the tombstone is gone")),
        (Some(_), _) => return Err(transient("the row is another one by now")),
    }
    if database.roles.contains_key(&wanted.role) || database.schemas.contains_key(&wanted.schema) {
        return Err(conflict("role or schema exists"));
    }
    if !database.cells.contains_key(&wanted.cell.0) {
        return Err(EffectError::new(ErrorClass::Bug, "the cell does not exist"));
    }
    let mark = render_mark(database.id, wanted.incarnation);
    database.roles.insert(wanted.role.clone(), mark.clone());
    database.schemas.insert(wanted.schema.clone(), mark);
    let row = NewRow {
        incarnation: wanted.incarnation,
        cell: wanted.cell,
        schema: &wanted.schema,
        role: &wanted.role,
        schema_version: wanted.schema_version,
        own: Applied::default(),
        keyring: &wanted.keyring,
    };
    enter_row(state, owner, &wanted.tenant_id, row);
    Ok(Done::Plain)
}

/// What a tenant's row says of its data.
pub struct NewRow<'a> {
    pub incarnation: Incarnation,
    pub cell: CellNumber,
    pub schema: &'a str,
    pub role: &'a str,
    pub schema_version: i32,
    pub own: Applied,
    pub keyring: &'a KeyringMark,
}

/// A tenant's row, in use from now on, with its privileges and access.
pub fn enter_row(state: &mut State, owner: &ObjectId, id: &TenantId, new: NewRow<'_>) {
    let row = LedgerRow {
        incarnation: new.incarnation,
        uid: owner.uid.clone(),
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
        cluster_id: CLUSTER.to_owned(),
        cell: new.cell,
        schema: new.schema.to_owned(),
        role: new.role.to_owned(),
        schema_version: new.schema_version,
        schema_checksums: tenant_checksums(new.schema_version),
        own: new.own,
        keyring: new.keyring.clone(),
        state: RowState::Active,
        state_since: state.now,
    };
    state.database.members.insert(row.role.clone());
    state.database.grants.insert(row.role.clone());
    state.database.rows.insert(id.clone(), row);
    state.wrote();
}

/// The row, if it is still this one and in one of these states.
pub fn hold<'a>(
    database: &'a mut Database,
    row: &LedgerRow,
    states: &[RowState],
) -> Result<&'a mut LedgerRow, EffectError> {
    let found = database.rows.values_mut().find(|r| r.incarnation == row.incarnation && r.uid == row.uid);
    found.filter(|r| states.contains(&r.state)).ok_or_else(|| conflict("the row changed"))
}

fn marked(database: &Database, row: &LedgerRow) -> bool {
    let mark = render_mark(database.id, row.incarnation);
    [database.roles.get(&row.role), database.schemas.get(&row.schema)].iter().flatten().all(|m| **m == mark)
}

pub fn repair(state: &mut State, row: &LedgerRow, found: &[Drift]) -> Result<Done, EffectError> {
    hold(&mut state.database, row, &[row.state])?;
    let whole = state.database.roles.contains_key(&row.role) && state.database.schemas.contains_key(&row.schema);
    if !whole || !marked(&state.database, row) {
        return Err(conflict("role or schema is gone or carries another mark"));
    }
    repair_edits(&mut state.database, row, found);
    state.wrote();
    Ok(Done::Plain)
}

/// One file. A file that the data does not fit is noted, and nothing of it stays.
pub fn migrate(state: &mut State, step: &Migrate) -> Result<Done, EffectError> {
    let (track, file) = (step.track, &step.file);
    if !marked(&state.database, &step.row) || !state.database.schemas.contains_key(&step.row.schema) {
        return Err(conflict("role or schema is gone or carries another mark"));
    }
    let unfit = state.database.unfit.contains(&(step.row.schema.clone(), track, file.version));
    let held = hold(&mut state.database, &step.row, &[RowState::Active, RowState::Suspended])?;
    let had = match track {
        Track::Base => held.schema_version,
        Track::Custom => held.own.version,
    };
    if had >= file.version {
        return Ok(Done::Plain);
    }
    if had + 1 != file.version {
        return Err(transient("the schema has another version by now"));
    }
    if unfit {
        let message = "the data does not fit".to_owned();
        let failure = MigrationFailure {
            track,
            version: file.version,
            checksum: file.checksum(),
            request: step.request.clone(),
            message: message.clone(),
        };
        let incarnation = step.row.incarnation;
        if state.database.failures.get(&incarnation) == Some(&failure) {
            state.violation(format!("{} was tried again though it failed and no retry was requested", file.name));
        }
        state.database.failures.insert(incarnation, failure);
        state.wrote();
        let error = EffectError::new(ErrorClass::Transient, render_failure(track, &file.name, &message));
        return Err(EffectError { reason: Some(Reason::MigrationFailed), ..error });
    }
    match track {
        Track::Base => (held.schema_version, held.schema_checksums) = (file.version, step.checksums.clone()),
        Track::Custom => held.own = Applied { version: file.version, checksums: step.checksums.clone() },
    }
    let incarnation = step.row.incarnation;
    state.database.failures.remove(&incarnation);
    state.wrote();
    Ok(Done::Plain)
}

pub fn suspend(state: &mut State, tenant: &Option<TenantId>, row: &LedgerRow) -> Result<Done, EffectError> {
    enter(state, row, RowState::Suspended)?;
    state.database.members.remove(&row.role);
    let entry = tenant.as_ref().and_then(|id| state.tenant_entry(id)).filter(|e| e.uid == row.uid);
    if entry.is_some_and(|e| e.state == TenantState::Active) && !state.stale {
        state.violation(format!("access of {} was suspended while its entry is still served", row.role));
    }
    Ok(Done::Plain)
}

pub fn resume(state: &mut State, row: &LedgerRow) -> Result<Done, EffectError> {
    enter(state, row, RowState::Active)?;
    state.database.members.insert(row.role.clone());
    Ok(Done::Plain)
}

fn enter(state: &mut State, row: &LedgerRow, wanted: RowState) -> Result<(), EffectError> {
    let now = state.now;
    let held = hold(&mut state.database, row, &[RowState::Active, RowState::Suspended])?;
    if held.state != wanted {
        (held.state, held.state_since) = (wanted, now);
    }
    state.wrote();
    Ok(())
}

pub fn record_ring(state: &mut State, row: &LedgerRow, mark: &KeyringMark) -> Result<Done, EffectError> {
    let held = hold(&mut state.database, row, &[RowState::Active, RowState::Suspended])?;
    if held.keyring.version < mark.version {
        held.keyring = mark.clone();
    }
    state.wrote();
    Ok(Done::Plain)
}

pub fn revoke(state: &mut State, tenant: &TenantId, row: &LedgerRow) -> Result<Done, EffectError> {
    let now = state.now;
    let held = hold(&mut state.database, row, &[RowState::Active, RowState::Suspended, RowState::Deleting])?;
    if held.state != RowState::Deleting {
        held.state = RowState::Deleting;
        held.state_since = now;
    }
    state.database.members.remove(&row.role);
    let entry = state.tenant_entry(tenant).filter(|e| e.uid == row.uid);
    let served = entry.is_some_and(|e| e.state != TenantState::Deleting);
    if served && !state.stale {
        state.violation(format!("access of {tenant} was revoked while its entry is still served"));
    }
    state.wrote();
    Ok(Done::Plain)
}

pub fn close(state: &mut State, wanted: &CloseDatabase, owner: &ObjectId) -> Result<Done, EffectError> {
    let Some(row) = &wanted.row else { return bury(state, wanted, owner) };
    let (drop, archive) = (wanted.policy == DeletionPolicy::Delete, wanted.policy == DeletionPolicy::Archive);
    let all = &RowState::ALL[..];
    let (now, target) = (state.now, if drop || archive { RowState::Dropped } else { RowState::Retained });
    let before = hold(&mut state.database, row, if drop || archive { all } else { &all[..4] })?.state;
    if (drop || archive) && before != RowState::Dropped && !marked(&state.database, row) {
        return Err(conflict("role or schema carries another mark"));
    }
    let open = state.database.open.get(&row.schema).copied().unwrap_or_default();
    let waited = now.duration_since(row.state_since).as_secs() >= super::state::ACK_TIMEOUT;
    if before == RowState::Deleting && open > 0 && !waited {
        state.violation("closed over open transactions");
    }
    if before == target {
        return Ok(Done::Plain);
    }
    if archive {
        super::archives::put_aside(state, row, wanted);
    }
    if drop {
        state.database.roles.remove(&row.role);
        state.database.schemas.remove(&row.schema);
        state.database.grants.remove(&row.role);
        state.database.edited.remove(&row.role);
        if !state.droppable.contains(&row.uid) {
            state.violation(format!("the data of {} was dropped though it was to be kept", wanted.tenant_id));
        }
    }
    state.database.members.remove(&row.role);
    let held = hold(&mut state.database, row, all)?;
    (held.state, held.state_since) = (target, now);
    state.wrote();
    Ok(Done::Plain)
}

fn bury(state: &mut State, wanted: &CloseDatabase, owner: &ObjectId) -> Result<Done, EffectError> {
    if let Some(row) = state.database.rows.get(&wanted.tenant_id) {
        let dropped = row.state == RowState::Dropped;
        if dropped && row.uid == owner.uid {
            return Ok(Done::Plain);
        }
        if !dropped || wanted.replaces != Some(row.incarnation) {
            return Err(transient("there is another row by now"));
        }
    }
    let name = format!("{}_{}", super::state::PREFIX, wanted.tenant_id);
    let row = LedgerRow {
        incarnation: wanted.incarnation,
        uid: Uid(owner.uid.0.clone()),
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
        cluster_id: CLUSTER.to_owned(),
        cell: CellNumber(0),
        schema: name.clone(),
        role: name,
        schema_version: 0,
        schema_checksums: Vec::new(),
        own: Applied::default(),
        keyring: KeyringMark { version: 0, digest: String::new() },
        state: RowState::Dropped,
        state_since: state.now,
    };
    state.database.rows.insert(wanted.tenant_id.clone(), row);
    state.wrote();
    Ok(Done::Plain)
}
