//! The rules of design §6, "Robust by rule", as scenarios.

use super::tenant::Service;
use crate::{
    agent_api::fixtures::{IndexFixture, agent, cell, raw_entry, tenant, upstream},
    domain::{
        entry::{Entry, EntryKind, TenantEntry, TenantState},
        ident::{AgentName, TenantId, Uid, Version},
        keys::{KeyBytes, Kid},
        tokens::TokenRules,
    },
};

fn kid(text: &str) -> Kid {
    Kid::parse(text).unwrap()
}

fn verifies(fixture: &IndexFixture, key: &str) -> bool {
    fixture.index.snapshot().keys.get(&kid(key)).is_some()
}

fn loaded(fixture: &IndexFixture, id: &str) -> Option<std::sync::Arc<super::tenant::Tenant>> {
    fixture.index.snapshot().tenants.get(&TenantId::parse(id).unwrap()).cloned()
}

fn served(fixture: &IndexFixture, id: &str) -> bool {
    loaded(fixture, id).is_some_and(|t| t.service == Service::Served)
}

fn with_state(mut entry: TenantEntry, state: TenantState) -> TenantEntry {
    entry.state = state;
    entry
}

#[test]
fn a_damaged_entry_keeps_the_last_good_one_less_revoked_keys() {
    let mut fixture = IndexFixture::new();
    fixture.apply_tenant(&tenant("acme"));
    fixture.apply_tenant(&tenant("beta"));
    let text = r#"{"format": 1, "revokedKids": {"acme-current": "2030-01-01T00:00:00Z"}, "tenantId": 7}"#;
    fixture.apply_text("tenant-acme", EntryKind::Tenant, text);
    assert!(fixture.reason("acme").unwrap().contains("does not parse"));
    assert!(served(&fixture, "acme") && served(&fixture, "beta"));
    assert!(!verifies(&fixture, "acme-current") && verifies(&fixture, "acme-standby"));
    // A later entry that lists the key again does not bring it back.
    fixture.apply_tenant(&tenant("acme"));
    assert_eq!(fixture.reason("acme"), None);
    assert!(!verifies(&fixture, "acme-current") && verifies(&fixture, "acme-previous"));
}

#[test]
fn a_newer_format_is_quarantined_and_its_incarnation_named() {
    let mut fixture = IndexFixture::new();
    let mut entry = tenant("acme");
    entry.format = 99;
    fixture.apply_tenant(&entry);
    assert!(fixture.reason("acme").unwrap().contains("format 99"));
    assert!(fixture.index.acknowledged_quarantine().0.contains_key(&entry.incarnation));
    entry.format = 1;
    fixture.apply_tenant(&entry);
    assert!(served(&fixture, "acme") && fixture.index.quarantined().is_empty());
}

#[test]
fn an_entry_under_another_name_is_refused() {
    let mut fixture = IndexFixture::new();
    let mut raw = raw_entry(&Entry::Tenant(Box::new(tenant("acme"))), 9);
    raw.name = "tenant-beta".into();
    fixture.index.apply(&raw);
    assert!(fixture.reason("beta").unwrap().contains("belongs to 'tenant-acme'"));
    assert!(loaded(&fixture, "acme").is_none() && loaded(&fixture, "beta").is_none());
}

#[test]
fn a_missing_agent_quarantines_its_tenants_until_it_comes() {
    let mut fixture = IndexFixture::new();
    let mut entry = tenant("acme");
    for agent in entry.agents.values_mut() {
        agent.config_uid = Uid("a2".into());
    }
    fixture.apply_tenant(&entry);
    assert_eq!(fixture.reason("acme"), Some("'agent-a2' is missing"));
    // Its token is known, so it gets a 503 and no 401.
    assert!(verifies(&fixture, "acme-current") && !served(&fixture, "acme"));
    fixture.apply(&agent("a2", Some("h")));
    assert!(fixture.reason("acme").unwrap().contains("'upstream-h' is missing"));
    fixture.apply(&upstream("h"));
    assert_eq!(fixture.reason("acme"), None);
    assert!(served(&fixture, "acme"));
    assert!(fixture.index.snapshot().agents.get(&Uid("a2".into())).is_some());
}

#[test]
fn a_damaged_agent_leaves_its_tenants_on_the_last_good_one() {
    let mut fixture = IndexFixture::new();
    fixture.apply_tenant(&tenant("acme"));
    fixture.apply_text("agent-a1", EntryKind::Agent, "{");
    assert!(fixture.reason("acme").unwrap().contains("'agent-a1'"));
    assert!(served(&fixture, "acme") && fixture.index.snapshot().agents.get(&Uid("a1".into())).is_some());
    // The same for one with a new credential that is missing.
    fixture.apply(&agent("a1", Some("gone")));
    assert!(fixture.reason("acme").unwrap().contains("'upstream-gone' is missing"));
    let running = fixture.index.snapshot().agents.get(&Uid("a1".into())).cloned().unwrap();
    assert_eq!(running.current.upstream, None);
    fixture.apply(&agent("a1", None));
    assert_eq!(fixture.reason("acme"), None);
}

#[test]
fn a_new_cell_holds_the_acknowledgement_until_one_login() {
    let mut fixture = IndexFixture::new();
    let before = fixture.version;
    fixture.apply(&cell(2, "pw"));
    let mut entry = tenant("acme");
    entry.database.location.cell = crate::domain::ident::CellNumber(2);
    fixture.apply_tenant(&entry);
    assert_eq!(fixture.index.acknowledgeable(), Version(before));
    assert!(!served(&fixture, "acme"));
    assert_eq!(fixture.reason("acme"), None, "waiting is no quarantine");
    fixture.settle_logins(&Err("the database can't be reached".into()));
    assert_eq!(fixture.index.acknowledgeable(), Version(fixture.version), "a failed login is reported, not waited for");
    assert!(fixture.reason("acme").unwrap().contains("can't be reached"));
    fixture.index.login("cell-main-2", Version(before + 1), Ok(()));
    assert!(served(&fixture, "acme") && fixture.reason("acme").is_none());
}

#[test]
fn a_rotated_login_that_fails_keeps_the_old_one() {
    let mut fixture = IndexFixture::new();
    fixture.apply_tenant(&tenant("acme"));
    fixture.apply(&cell(1, "new"));
    fixture.settle_logins(&Err("the login was refused".into()));
    assert!(fixture.reason("acme").unwrap().contains("refused"));
    assert!(served(&fixture, "acme"));
    let password = |fixture: &IndexFixture| {
        fixture.index.snapshot().cells.get("cell-main-1").unwrap().entry.password.expose().to_vec()
    };
    assert_eq!(password(&fixture), b"pw");
    // Back to the old one: known to work, so no login is needed.
    fixture.apply(&cell(1, "pw"));
    assert!(fixture.index.take_logins().is_empty() && fixture.reason("acme").is_none());
}

#[test]
fn only_a_tenant_that_is_being_deleted_can_disappear() {
    let mut fixture = IndexFixture::new();
    let entry = tenant("acme");
    fixture.apply_tenant(&entry);
    fixture.delete("tenant-acme");
    assert!(served(&fixture, "acme"));
    assert!(fixture.index.ignored().contains_key("tenant-acme"));
    assert_eq!(fixture.index.acknowledgeable(), Version(fixture.version), "the deletion was seen");
    fixture.apply_tenant(&with_state(entry, TenantState::Deleting));
    assert!(fixture.index.ignored().is_empty());
    assert!(verifies(&fixture, "acme-current"), "410 needs a token that verifies");
    fixture.delete("tenant-acme");
    assert!(loaded(&fixture, "acme").is_none() && !verifies(&fixture, "acme-current"));
}

#[test]
fn a_tenant_goes_also_where_its_last_entry_holds_next_to_nothing() {
    let mut fixture = IndexFixture::new();
    fixture.apply_tenant(&tenant("acme"));
    fixture.apply_tenant(&tenant("beta"));
    // As the operator writes it where nothing of the tenant could be read any more (plan/entry.rs).
    let mut minimal = with_state(tenant("acme"), TenantState::Deleting);
    minimal.agents = [].into();
    minimal.default_agent = AgentName::parse("none").unwrap();
    minimal.auth = TokenRules::UNKNOWN;
    minimal.keys = vec![];
    let version = fixture.apply_tenant(&minimal);
    assert_eq!((fixture.reason("acme"), fixture.index.acknowledgeable()), (None, Version(version)));
    assert_eq!(loaded(&fixture, "acme").unwrap().state, TenantState::Deleting);
    assert!(!verifies(&fixture, "acme-current") && served(&fixture, "beta"));
    fixture.delete("tenant-acme");
    assert!(loaded(&fixture, "acme").is_none() && fixture.index.ignored().is_empty());

    // What another tenant has stays with that one, and holds up no deletion.
    let mut clashing = with_state(tenant("gamma"), TenantState::Deleting);
    clashing.database = tenant("beta").database;
    clashing.keys.extend(tenant("beta").keys);
    fixture.apply_tenant(&tenant("gamma"));
    fixture.apply_tenant(&clashing);
    assert_eq!((fixture.reason("gamma"), loaded(&fixture, "gamma").unwrap().state), (None, TenantState::Deleting));
    assert!(served(&fixture, "beta") && verifies(&fixture, "beta-current") && !verifies(&fixture, "gamma-current"));
    fixture.delete("tenant-gamma");
    assert!(served(&fixture, "beta") && verifies(&fixture, "beta-current"));
}

#[test]
fn what_a_loaded_entry_refers_to_stays_until_nobody_does() {
    let mut fixture = IndexFixture::new();
    let entry = tenant("acme");
    fixture.apply_tenant(&entry);
    fixture.delete("agent-a1");
    fixture.delete("cell-main-1");
    assert!(served(&fixture, "acme"));
    assert_eq!(fixture.index.ignored().len(), 2);
    fixture.apply_tenant(&with_state(entry, TenantState::Deleting));
    fixture.delete("tenant-acme");
    assert!(fixture.index.ignored().is_empty());
    let snapshot = fixture.index.snapshot();
    assert!(snapshot.agents.is_empty() && snapshot.cells.is_empty() && snapshot.keys.is_empty());
}

#[test]
fn whoever_was_loaded_first_keeps_schema_and_keys() {
    let mut fixture = IndexFixture::new();
    let first = tenant("acme");
    fixture.apply_tenant(&first);
    let mut thief = tenant("beta");
    thief.database.location.schema = "at_acme".into();
    fixture.apply_tenant(&thief);
    assert!(fixture.reason("beta").unwrap().contains("the schema 'at_acme'"));
    let mut thief = tenant("gamma");
    thief.keys[0].key = KeyBytes::new(first.keys[0].key.expose().to_vec());
    fixture.apply_tenant(&thief);
    assert!(fixture.reason("gamma").unwrap().contains("the same bytes"));
    let mut thief = tenant("delta");
    thief.keys[0].kid = first.keys[0].kid.clone();
    fixture.apply_tenant(&thief);
    assert!(fixture.reason("delta").unwrap().contains("the key id 'acme-standby'"));
    assert!(served(&fixture, "acme") && fixture.reason("acme").is_none());
    // When the owner goes, the others get their turn.
    fixture.apply_tenant(&with_state(first, TenantState::Deleting));
    fixture.delete("tenant-acme");
    assert!(served(&fixture, "beta") && served(&fixture, "gamma") && served(&fixture, "delta"));
}

#[test]
fn a_short_key_is_refused() {
    let mut fixture = IndexFixture::new();
    let mut entry = tenant("acme");
    entry.keys[1].key = KeyBytes::new(b"short".to_vec());
    fixture.apply_tenant(&entry);
    assert!(fixture.reason("acme").unwrap().contains("does not fit the algorithm HS256"));
    assert!(!verifies(&fixture, "acme-current"));
}

#[test]
fn a_suspended_tenant_needs_nothing_to_be_loaded() {
    let mut fixture = IndexFixture::new();
    fixture.apply_text("agent-a1", EntryKind::Agent, "{");
    fixture.apply_tenant(&with_state(tenant("acme"), TenantState::Suspended));
    assert_eq!(fixture.reason("acme"), None);
    assert_eq!(loaded(&fixture, "acme").unwrap().state, TenantState::Suspended);
}

#[test]
fn a_changed_agent_costs_the_same_for_any_number_of_tenants() {
    let mut fixture = IndexFixture::new();
    for n in 0..50 {
        fixture.apply_tenant(&tenant(&format!("t{n}")));
    }
    let before: Vec<_> = (0..50).map(|n| loaded(&fixture, &format!("t{n}")).unwrap()).collect();
    let Entry::Agent(mut next) = agent("a1", None) else { unreachable!() };
    next.current.number = 2;
    fixture.apply(&Entry::Agent(next));
    assert_eq!(fixture.index.snapshot().agents.get(&Uid("a1".into())).unwrap().current.number, 2);
    for (n, before) in before.iter().enumerate() {
        assert!(std::sync::Arc::ptr_eq(before, &loaded(&fixture, &format!("t{n}")).unwrap()), "no tenant was touched");
    }
}

#[test]
fn running_transactions_survive_a_new_entry() {
    let mut fixture = IndexFixture::new();
    let mut entry = tenant("acme");
    fixture.apply_tenant(&entry);
    let before = loaded(&fixture, "acme").unwrap();
    let held = std::sync::Arc::clone(&before.place.permits).try_acquire_owned().unwrap();
    entry.generation = 2;
    fixture.apply_tenant(&entry);
    assert_eq!(loaded(&fixture, "acme").unwrap().place.permits.available_permits(), 3);
    drop(held);
}

#[test]
fn many_tenants_are_applied_in_microseconds_each() {
    let mut fixture = IndexFixture::new();
    let entries: Vec<_> = (0..2000).map(|n| Entry::Tenant(Box::new(tenant(&format!("t{n}"))))).collect();
    let began = std::time::Instant::now();
    for entry in &entries {
        fixture.apply(entry);
    }
    let all = began.elapsed();
    let began = std::time::Instant::now();
    for entry in &entries[..100] {
        fixture.apply(entry);
        // What publishing costs: one more copy of the snapshot.
        let _published = fixture.index.snapshot().clone();
    }
    println!("2,000 tenants applied in {all:?}; 100 changes published in {:?}", began.elapsed());
    assert_eq!(fixture.index.snapshot().tenants.len(), 2000);
}

#[test]
fn ids_that_differ_in_case_only_are_served_side_by_side() {
    let mut fixture = IndexFixture::new();
    for id in ["acme", "Acme", "tenant_123", "acme_com"] {
        fixture.apply_tenant(&tenant_of_any_id(id));
    }
    for id in ["acme", "Acme", "tenant_123", "acme_com"] {
        assert!(served(&fixture, id), "{id}");
    }
    assert!(loaded(&fixture, "ACME").is_none() && fixture.index.quarantined().is_empty());
}

/// Its keys have names of their own, whatever the id.
fn tenant_of_any_id(id: &str) -> TenantEntry {
    let id = TenantId::parse(id).unwrap();
    let name = id.entry_name();
    let mut entry = tenant(name.trim_start_matches("tenant-"));
    entry.format = TenantEntry::resolve_format(&id, None);
    entry.tenant_id = id;
    entry
}

#[test]
fn an_entry_that_an_earlier_version_named_keeps_its_name() {
    let id = "xaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut fixture = IndexFixture::new();
    let mut entry = tenant_of_any_id(id);
    entry.format = TenantEntry::resolve_format(&entry.tenant_id, Some(1));
    assert_eq!((entry.format, entry.entry_name()), (1, format!("tenant-{id}")));
    fixture.apply_tenant(&entry);
    assert!(served(&fixture, id) && fixture.index.quarantined().is_empty());
    // Under the name that a new entry of this id would get, its content belongs elsewhere.
    let text = String::from_utf8(crate::domain::entry::Entry::Tenant(Box::new(entry)).render()).unwrap();
    fixture.apply_text("tenant-xdzc7wommnkx5h5frcdfg724mly", EntryKind::Tenant, &text);
    assert!(fixture.reason("xdzc7wommnkx5h5frcdfg724mly").unwrap().contains(&format!("'tenant-{id}'")));
    assert!(served(&fixture, id));
}
