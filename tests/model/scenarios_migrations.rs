//! Scenarios of migrations for the crash matrix.

use super::{
    operator::Operator,
    run::settle,
    scenarios::{alpha, created, id},
    state::State,
    user::{key, tenant_spec},
};
use agent_tenancy::{
    api::DeletionPolicy::{Delete, Retain},
    domain::{
        custom_migrations::CustomMigrations,
        migrations::{TENANT_VERSION, Track},
    },
};

fn ready(op: &Operator) -> (String, String) {
    let state = op.state();
    let status = state.tenants[&alpha()].status.clone().unwrap();
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    (ready.status.clone(), ready.reason.clone())
}

fn is(op: &Operator, status: &str, reason: &str) {
    assert_eq!(ready(op), (status.to_owned(), reason.to_owned()));
}

/// Versions of the program's tables and of the platform team's own, and what the entry and the status say.
fn versions(op: &Operator) -> (i32, i32) {
    let state = op.state();
    let row = &state.database.rows[&id("alpha")];
    let status = state.tenants[&alpha()].status.as_ref().unwrap().database.as_ref().unwrap().schema_version;
    let entry = state.tenant_entry(&id("alpha")).unwrap().database.location.schema_version;
    assert_eq!((status, entry), (row.schema_version, row.schema_version));
    (row.schema_version, row.own.version)
}

/// So many files of the platform team's own; the last one says something else with each `edition`.
pub fn own_files(count: usize, edition: u8) -> Option<CustomMigrations> {
    let file = |n: usize| {
        let last = if n == count { edition } else { 0 };
        (format!("{n:04}_own.sql"), format!("CREATE TABLE own_{n} (edition int DEFAULT {last});"))
    };
    Some(CustomMigrations::parse(&(1..=count).map(file).collect()).unwrap())
}

fn old(op: &mut Operator) {
    op.state().schema_version = 1;
    created(op, Delete);
    assert_eq!(versions(op), (1, 0));
}

/// A served tenant waits for its slot while everything else continues; then it gets all files at once.
pub fn upgraded(op: &mut Operator) {
    old(op);
    {
        let mut state = op.state();
        (state.schema_version, state.rolling, state.own) = (TENANT_VERSION, false, own_files(2, 0));
        // A new tenant does not wait for a slot.
        state.apply_tenant(&key("a", "beta"), tenant_spec(&["x"], Delete));
    }
    settle(op);
    assert_eq!(versions(op), (1, 0));
    is(op, "True", "Ready");
    assert_eq!(op.state().database.rows[&id("beta")].schema_version, TENANT_VERSION);
    op.state().rolling = true;
    settle(op);
    assert_eq!(versions(op), (TENANT_VERSION, 2));
    is(op, "True", "Ready");
}

/// A failure is reported and not retried; the tenant is served and maintained with the tables that it has.
pub fn failed(op: &mut Operator) {
    old(op);
    let unfit =
        |state: &mut State, track, version| state.database.unfit.insert(("at_alpha".to_owned(), track, version));
    {
        let mut state = op.state();
        state.schema_version = TENANT_VERSION;
        unfit(&mut state, Track::Base, 2);
    }
    settle(op);
    is(op, "False", "MigrationFailed");
    assert_eq!(versions(op), (1, 0));
    let mut spec = tenant_spec(&["x"], Delete);
    spec.auth.audience = "other".to_owned();
    op.state().apply_tenant(&alpha(), spec);
    settle(op);
    assert_eq!(op.state().tenant_entry(&id("alpha")).unwrap().auth.audience, "other");
    // Asked for again too early, and then when it fits.
    op.state().ask_migration(&alpha(), "first");
    settle(op);
    is(op, "False", "MigrationFailed");
    op.state().database.unfit.clear();
    settle(op);
    is(op, "False", "MigrationFailed");
    op.state().ask_migration(&alpha(), "second");
    settle(op);
    is(op, "True", "Ready");
    assert_eq!(versions(op), (TENANT_VERSION, 0));

    // A custom migration: a corrected file counts as another file.
    {
        let mut state = op.state();
        state.own = own_files(2, 0);
        unfit(&mut state, Track::Custom, 2);
    }
    settle(op);
    is(op, "False", "MigrationFailed");
    assert_eq!(versions(op), (TENANT_VERSION, 1));
    op.state().database.unfit.clear();
    op.state().own = own_files(2, 1);
    settle(op);
    is(op, "True", "Ready");
    assert_eq!(versions(op), (TENANT_VERSION, 2));
}

/// Files that are not what they were, tables from the future, and both corrected.
pub fn changed_and_newer(op: &mut Operator) {
    op.state().own = own_files(1, 0);
    created(op, Delete);
    settle(op);
    for (wrong, reason) in [(own_files(1, 1), "MigrationChanged"), (own_files(0, 0), "SchemaNewer")] {
        op.state().own = wrong;
        settle(op);
        is(op, "False", reason);
        // They can't be read, so nothing is reported about them.
        op.state().own = None;
        settle(op);
        is(op, "True", "Ready");
    }
    op.state().own = own_files(1, 0);
    op.state().set_schema_version(&id("alpha"), TENANT_VERSION + 1);
    settle(op);
    is(op, "False", "SchemaNewer");
    op.state().set_schema_version(&id("alpha"), TENANT_VERSION);
    settle(op);
    is(op, "True", "Ready");
}

/// Kept data of an older version is brought up to date before it is served.
pub fn adopted(op: &mut Operator) {
    op.state().schema_version = 1;
    created(op, Retain);
    let previous = op.state().tenants[&alpha()].metadata.uid.clone().unwrap();
    op.state().delete_tenant(&alpha());
    settle(op);
    {
        let mut state = op.state();
        (state.schema_version, state.rolling) = (TENANT_VERSION, false);
        let mut spec = tenant_spec(&["x"], Delete);
        spec.database.adopt = Some(agent_tenancy::api::TenantAdoption { previous_uid: previous });
        state.apply_tenant(&alpha(), spec);
    }
    settle(op);
    is(op, "True", "Ready");
    assert_eq!(versions(op), (TENANT_VERSION, 0));
}

/// Out of service, or on its way out, in the middle of an upgrade.
pub fn suspended_and_deleted(op: &mut Operator) {
    old(op);
    {
        let mut state = op.state();
        let mut spec = tenant_spec(&["x"], Delete);
        spec.suspend = true;
        state.apply_tenant(&alpha(), spec);
        (state.schema_version, state.own) = (TENANT_VERSION, own_files(1, 0));
    }
    settle(op);
    is(op, "True", "Suspended");
    assert_eq!(versions(op), (TENANT_VERSION, 1));
    op.state().own = own_files(2, 0);
    op.state().delete_tenant(&alpha());
    settle(op);
    assert!(op.state().database.schemas.is_empty());
}
