//! The rules of design §6, "Robust by rule", as stories.

use super::tenant::Service;
use crate::{
    agent_api::fixtures::{Desk, agent, cell, document, tenant, upstream},
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

fn verifies(desk: &Desk, key: &str) -> bool {
    desk.book.snapshot().keys.get(&kid(key)).is_some()
}

fn loaded(desk: &Desk, id: &str) -> Option<std::sync::Arc<super::tenant::Tenant>> {
    desk.book.snapshot().tenants.get(&TenantId::parse(id).unwrap()).cloned()
}

fn served(desk: &Desk, id: &str) -> bool {
    loaded(desk, id).is_some_and(|t| t.service == Service::Served)
}

fn with_state(mut entry: TenantEntry, state: TenantState) -> TenantEntry {
    entry.state = state;
    entry
}

#[test]
fn a_damaged_entry_keeps_the_last_good_one_less_revoked_keys() {
    let mut desk = Desk::new();
    desk.apply_tenant(&tenant("acme"));
    desk.apply_tenant(&tenant("beta"));
    let text = r#"{"format": 1, "revokedKids": {"acme-current": "2030-01-01T00:00:00Z"}, "tenantId": 7}"#;
    desk.apply_text("tenant-acme", EntryKind::Tenant, text);
    assert!(desk.reason("acme").unwrap().contains("does not parse"));
    assert!(served(&desk, "acme") && served(&desk, "beta"));
    assert!(!verifies(&desk, "acme-current") && verifies(&desk, "acme-standby"));
    // A later entry that lists the key again does not bring it back.
    desk.apply_tenant(&tenant("acme"));
    assert_eq!(desk.reason("acme"), None);
    assert!(!verifies(&desk, "acme-current") && verifies(&desk, "acme-previous"));
}

#[test]
fn a_newer_format_is_quarantined_and_its_incarnation_named() {
    let mut desk = Desk::new();
    let mut entry = tenant("acme");
    entry.format = 99;
    desk.apply_tenant(&entry);
    assert!(desk.reason("acme").unwrap().contains("format 99"));
    assert!(desk.book.acknowledged_quarantine().0.contains_key(&entry.incarnation));
    entry.format = 1;
    desk.apply_tenant(&entry);
    assert!(served(&desk, "acme") && desk.book.quarantined().is_empty());
}

#[test]
fn an_entry_under_another_name_is_refused() {
    let mut desk = Desk::new();
    let mut document = document(&Entry::Tenant(Box::new(tenant("acme"))), 9);
    document.name = "tenant-beta".into();
    desk.book.apply(&document);
    assert!(desk.reason("beta").unwrap().contains("belongs to 'tenant-acme'"));
    assert!(loaded(&desk, "acme").is_none() && loaded(&desk, "beta").is_none());
}

#[test]
fn a_missing_agent_quarantines_its_tenants_until_it_comes() {
    let mut desk = Desk::new();
    let mut entry = tenant("acme");
    for agent in entry.agents.values_mut() {
        agent.config_uid = Uid("a2".into());
    }
    desk.apply_tenant(&entry);
    assert_eq!(desk.reason("acme"), Some("'agent-a2' is missing"));
    // Its token is known, so it gets a 503 and no 401.
    assert!(verifies(&desk, "acme-current") && !served(&desk, "acme"));
    desk.apply(&agent("a2", Some("h")));
    assert!(desk.reason("acme").unwrap().contains("'upstream-h' is missing"));
    desk.apply(&upstream("h"));
    assert_eq!(desk.reason("acme"), None);
    assert!(served(&desk, "acme"));
    assert!(desk.book.snapshot().agents.get(&Uid("a2".into())).is_some());
}

#[test]
fn a_damaged_agent_leaves_its_tenants_on_the_last_good_one() {
    let mut desk = Desk::new();
    desk.apply_tenant(&tenant("acme"));
    desk.apply_text("agent-a1", EntryKind::Agent, "{");
    assert!(desk.reason("acme").unwrap().contains("'agent-a1'"));
    assert!(served(&desk, "acme") && desk.book.snapshot().agents.get(&Uid("a1".into())).is_some());
    // The same for one whose new credential is missing.
    desk.apply(&agent("a1", Some("gone")));
    assert!(desk.reason("acme").unwrap().contains("'upstream-gone' is missing"));
    let running = desk.book.snapshot().agents.get(&Uid("a1".into())).cloned().unwrap();
    assert_eq!(running.current.upstream, None);
    desk.apply(&agent("a1", None));
    assert_eq!(desk.reason("acme"), None);
}

#[test]
fn a_new_cell_holds_the_acknowledgement_until_one_login() {
    let mut desk = Desk::new();
    let before = desk.version;
    desk.apply(&cell(2, "pw"));
    let mut entry = tenant("acme");
    entry.database.location.cell = crate::domain::ident::CellNumber(2);
    desk.apply_tenant(&entry);
    assert_eq!(desk.book.acknowledgeable(), Version(before));
    assert!(!served(&desk, "acme"));
    assert_eq!(desk.reason("acme"), None, "waiting is no quarantine");
    desk.settle_logins(&Err("the database can't be reached".into()));
    assert_eq!(desk.book.acknowledgeable(), Version(desk.version), "a failed login is told, not waited for");
    assert!(desk.reason("acme").unwrap().contains("can't be reached"));
    desk.book.login("cell-main-2", Version(before + 1), Ok(()));
    assert!(served(&desk, "acme") && desk.reason("acme").is_none());
}

#[test]
fn a_rotated_login_that_fails_keeps_the_old_one() {
    let mut desk = Desk::new();
    desk.apply_tenant(&tenant("acme"));
    desk.apply(&cell(1, "new"));
    desk.settle_logins(&Err("the login was refused".into()));
    assert!(desk.reason("acme").unwrap().contains("refused"));
    assert!(served(&desk, "acme"));
    let password =
        |desk: &Desk| desk.book.snapshot().cells.get("cell-main-1").unwrap().entry.password.expose().to_vec();
    assert_eq!(password(&desk), b"pw");
    // Back to the old one: known to work, so no login is needed.
    desk.apply(&cell(1, "pw"));
    assert!(desk.book.take_logins().is_empty() && desk.reason("acme").is_none());
}

#[test]
fn only_a_tenant_that_is_being_deleted_can_disappear() {
    let mut desk = Desk::new();
    let entry = tenant("acme");
    desk.apply_tenant(&entry);
    desk.delete("tenant-acme");
    assert!(served(&desk, "acme"));
    assert!(desk.book.ignored().contains_key("tenant-acme"));
    assert_eq!(desk.book.acknowledgeable(), Version(desk.version), "the deletion was seen");
    desk.apply_tenant(&with_state(entry, TenantState::Deleting));
    assert!(desk.book.ignored().is_empty());
    assert!(verifies(&desk, "acme-current"), "410 needs a token that verifies");
    desk.delete("tenant-acme");
    assert!(loaded(&desk, "acme").is_none() && !verifies(&desk, "acme-current"));
}

#[test]
fn a_tenant_goes_also_where_its_last_entry_holds_next_to_nothing() {
    let mut desk = Desk::new();
    desk.apply_tenant(&tenant("acme"));
    desk.apply_tenant(&tenant("beta"));
    // As the operator writes it where nothing of the tenant could be read any more (plan/entry.rs).
    let mut minimal = with_state(tenant("acme"), TenantState::Deleting);
    minimal.agents = [].into();
    minimal.default_agent = AgentName::parse("none").unwrap();
    minimal.auth = TokenRules::UNKNOWN;
    minimal.keys = vec![];
    let version = desk.apply_tenant(&minimal);
    assert_eq!((desk.reason("acme"), desk.book.acknowledgeable()), (None, Version(version)));
    assert_eq!(loaded(&desk, "acme").unwrap().state, TenantState::Deleting);
    assert!(!verifies(&desk, "acme-current") && served(&desk, "beta"));
    desk.delete("tenant-acme");
    assert!(loaded(&desk, "acme").is_none() && desk.book.ignored().is_empty());

    // What another tenant has stays with that one, and holds up no deletion.
    let mut clashing = with_state(tenant("gamma"), TenantState::Deleting);
    clashing.database = tenant("beta").database;
    clashing.keys.extend(tenant("beta").keys);
    desk.apply_tenant(&tenant("gamma"));
    desk.apply_tenant(&clashing);
    assert_eq!((desk.reason("gamma"), loaded(&desk, "gamma").unwrap().state), (None, TenantState::Deleting));
    assert!(served(&desk, "beta") && verifies(&desk, "beta-current") && !verifies(&desk, "gamma-current"));
    desk.delete("tenant-gamma");
    assert!(served(&desk, "beta") && verifies(&desk, "beta-current"));
}

#[test]
fn what_a_loaded_entry_refers_to_stays_until_nobody_does() {
    let mut desk = Desk::new();
    let entry = tenant("acme");
    desk.apply_tenant(&entry);
    desk.delete("agent-a1");
    desk.delete("cell-main-1");
    assert!(served(&desk, "acme"));
    assert_eq!(desk.book.ignored().len(), 2);
    desk.apply_tenant(&with_state(entry, TenantState::Deleting));
    desk.delete("tenant-acme");
    assert!(desk.book.ignored().is_empty());
    let snapshot = desk.book.snapshot();
    assert!(snapshot.agents.is_empty() && snapshot.cells.is_empty() && snapshot.keys.is_empty());
}

#[test]
fn whoever_was_loaded_first_keeps_schema_and_keys() {
    let mut desk = Desk::new();
    let first = tenant("acme");
    desk.apply_tenant(&first);
    let mut thief = tenant("beta");
    thief.database.location.schema = "at_acme".into();
    desk.apply_tenant(&thief);
    assert!(desk.reason("beta").unwrap().contains("the schema 'at_acme'"));
    let mut thief = tenant("gamma");
    thief.keys[0].key = KeyBytes::new(first.keys[0].key.expose().to_vec());
    desk.apply_tenant(&thief);
    assert!(desk.reason("gamma").unwrap().contains("the same bytes"));
    let mut thief = tenant("delta");
    thief.keys[0].kid = first.keys[0].kid.clone();
    desk.apply_tenant(&thief);
    assert!(desk.reason("delta").unwrap().contains("the key id 'acme-standby'"));
    assert!(served(&desk, "acme") && desk.reason("acme").is_none());
    // When the owner goes, the others get their turn.
    desk.apply_tenant(&with_state(first, TenantState::Deleting));
    desk.delete("tenant-acme");
    assert!(served(&desk, "beta") && served(&desk, "gamma") && served(&desk, "delta"));
}

#[test]
fn a_short_key_is_refused() {
    let mut desk = Desk::new();
    let mut entry = tenant("acme");
    entry.keys[1].key = KeyBytes::new(b"short".to_vec());
    desk.apply_tenant(&entry);
    assert!(desk.reason("acme").unwrap().contains("does not fit the algorithm HS256"));
    assert!(!verifies(&desk, "acme-current"));
}

#[test]
fn a_suspended_tenant_needs_nothing_to_be_loaded() {
    let mut desk = Desk::new();
    desk.apply_text("agent-a1", EntryKind::Agent, "{");
    desk.apply_tenant(&with_state(tenant("acme"), TenantState::Suspended));
    assert_eq!(desk.reason("acme"), None);
    assert_eq!(loaded(&desk, "acme").unwrap().state, TenantState::Suspended);
}

#[test]
fn a_changed_agent_costs_the_same_for_any_number_of_tenants() {
    let mut desk = Desk::new();
    for n in 0..50 {
        desk.apply_tenant(&tenant(&format!("t{n}")));
    }
    let before: Vec<_> = (0..50).map(|n| loaded(&desk, &format!("t{n}")).unwrap()).collect();
    let Entry::Agent(mut next) = agent("a1", None) else { unreachable!() };
    next.current.number = 2;
    desk.apply(&Entry::Agent(next));
    assert_eq!(desk.book.snapshot().agents.get(&Uid("a1".into())).unwrap().current.number, 2);
    for (n, before) in before.iter().enumerate() {
        assert!(std::sync::Arc::ptr_eq(before, &loaded(&desk, &format!("t{n}")).unwrap()), "no tenant was touched");
    }
}

#[test]
fn running_transactions_survive_a_new_entry() {
    let mut desk = Desk::new();
    let mut entry = tenant("acme");
    desk.apply_tenant(&entry);
    let before = loaded(&desk, "acme").unwrap();
    let held = std::sync::Arc::clone(&before.place.permits).try_acquire_owned().unwrap();
    entry.generation = 2;
    desk.apply_tenant(&entry);
    assert_eq!(loaded(&desk, "acme").unwrap().place.permits.available_permits(), 3);
    drop(held);
}

#[test]
fn many_tenants_are_applied_in_microseconds_each() {
    let mut desk = Desk::new();
    let entries: Vec<_> = (0..2000).map(|n| Entry::Tenant(Box::new(tenant(&format!("t{n}"))))).collect();
    let began = std::time::Instant::now();
    for entry in &entries {
        desk.apply(entry);
    }
    let all = began.elapsed();
    let began = std::time::Instant::now();
    for entry in &entries[..100] {
        desk.apply(entry);
        // What publishing costs: one more copy of the snapshot.
        let _published = desk.book.snapshot().clone();
    }
    println!("2,000 tenants applied in {all:?}; 100 changes published in {:?}", began.elapsed());
    assert_eq!(desk.book.snapshot().tenants.len(), 2000);
}
