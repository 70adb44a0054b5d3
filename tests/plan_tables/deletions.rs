//! Tenants that go: observed → planned, row by row.

use super::{
    fixtures::{
        Tweak, absent, converged, damage_entry, edit_entry, facts, facts_of, incarnation, object, read_error, replica,
        stranger, untouched, words,
    },
    without_instance::unplaced,
};
use agent_tenancy::{
    agent_api::registry::{RawEntry, index::RegistryIndex, tenant::TenantCaps},
    api::DeletionPolicy,
    domain::{
        entry::{Entry, EntryKind, TenantState},
        ident::{DatabaseId, Version},
        keyring::KeyringError,
    },
    plan::{
        observed::{DatabaseView, ObservedTenant, Presence, Recorded, RowState, Seen, unplaced::Unplaced},
        step::{DatabaseStep, EntryStep, TenantStep},
    },
};
use jiff::SignedDuration;
use std::time::Duration;
use uuid::Uuid;

/// Everything of the tenant, as its entry says `deleting` and every replica knows.
fn withdrawn() -> ObservedTenant {
    let mut observed = converged();
    edit_entry(&mut observed, |e| (e.state, e.state_since) = (TenantState::Deleting, super::fixtures::now()));
    observed
}

/// The object is gone, and with it what its status recorded.
fn vanish(o: &mut ObservedTenant) {
    (o.object, o.finalizer, o.recorded) = (Presence::Gone, false, Recorded::default());
}

pub fn in_state(o: &mut ObservedTenant, state: RowState) {
    facts_of(o).row.as_mut().unwrap().state = state;
}

const LATER: SignedDuration = SignedDuration::from_secs(61);

/// Name, start, what is different, the steps that are planned.
type Row = (&'static str, fn() -> ObservedTenant, Tweak, &'static str);

#[test]
fn a_tenant_that_should_be_gone() {
    const END: &str = "CloseDatabase DeleteEntry DeleteKeys RemoveFinalizer";
    let rows: &[Row] = &[
        ("served", converged, |_| (), "PutEntry"),
        ("served, no database", converged, |o| o.database = DatabaseView::Unknown(read_error()), "PutEntry"),
        ("served, entry damaged", converged, damage_entry, "PutEntry"),
        ("served, entry deleted by hand", converged, |o| o.entry = Seen::Missing, "PutEntry"),
        ("entry unreadable", converged, |o| o.entry = Seen::Unknown(read_error()), ""),
        ("a replica behind", withdrawn, |o| o.replicas.all.push(replica("r3", 3)), ""),
        (
            "a replica behind for long",
            withdrawn,
            |o| {
                o.replicas.all.push(replica("r3", 3));
                edit_entry(o, |e| e.state_since -= LATER)
            },
            "RevokeAccess RecordEvent",
        ),
        (
            "a replica that does not run",
            withdrawn,
            |o| {
                let mut r = replica("r3", 3);
                r.running = false;
                o.replicas.all.push(r)
            },
            "RevokeAccess",
        ),
        ("known everywhere", withdrawn, |_| (), "RevokeAccess"),
        ("no database", withdrawn, |o| o.database = DatabaseView::Unknown(read_error()), ""),
        (
            "another database",
            withdrawn,
            |o| o.database = DatabaseView::Changed { expected: DatabaseId(Uuid::nil()), found: None },
            "",
        ),
        (
            "an instance that the settings don't name",
            withdrawn,
            |o| unplaced(o, Unplaced::Unknown { name: "main".into(), recorded: true, known: vec!["other".into()] }),
            "",
        ),
        ("another mark on our objects", withdrawn, |o| facts_of(o).role_mark = Some("mine".into()), ""),
        ("access revoked", withdrawn, |o| in_state(o, RowState::Deleting), END),
        (
            "open transactions",
            withdrawn,
            |o| {
                in_state(o, RowState::Deleting);
                facts_of(o).open_transactions = 1
            },
            "",
        ),
        (
            "open transactions, a replica that timed out",
            withdrawn,
            |o| {
                in_state(o, RowState::Deleting);
                facts_of(o).open_transactions = 1;
                o.replicas.all.push(replica("r3", 3));
                edit_entry(o, |e| e.state_since -= LATER)
            },
            "",
        ),
        (
            "open transactions for long",
            withdrawn,
            |o| {
                in_state(o, RowState::Deleting);
                facts_of(o).open_transactions = 1;
                facts_of(o).row.as_mut().unwrap().state_since -= LATER
            },
            END,
        ),
        (
            "data lost",
            withdrawn,
            |o| {
                facts_of(o).role_mark = None;
                facts_of(o).schema_mark = None
            },
            END,
        ),
        ("row lost", withdrawn, |o| facts_of(o).row = None, END),
        ("closed", withdrawn, |o| in_state(o, RowState::Dropped), "DeleteEntry DeleteKeys RemoveFinalizer"),
        (
            "closed, entry gone",
            withdrawn,
            |o| {
                in_state(o, RowState::Retained);
                o.entry = Seen::Missing
            },
            "DeleteKeys RemoveFinalizer",
        ),
        (
            "closed, keys unreadable",
            withdrawn,
            |o| {
                in_state(o, RowState::Retained);
                o.keys = Seen::Unknown(read_error())
            },
            "",
        ),
        (
            "closed, keys damaged",
            withdrawn,
            |o| {
                in_state(o, RowState::Retained);
                if let Seen::Ours(k) = &mut o.keys {
                    k.keyring = Err(KeyringError::Mismatch)
                }
            },
            "DeleteEntry DeleteKeys RemoveFinalizer",
        ),
        ("nothing made", untouched, |o| o.finalizer = true, "CloseDatabase RemoveFinalizer"),
        (
            "nothing made, an older claimant waits",
            untouched,
            |o| {
                o.finalizer = true;
                o.rival = Some(object())
            },
            "CloseDatabase RemoveFinalizer",
        ),
        (
            "nothing made, an earlier tenant's tombstone",
            untouched,
            |o| {
                o.finalizer = true;
                o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Dropped)), false))
            },
            "CloseDatabase RemoveFinalizer",
        ),
        ("nothing made, no finalizer", untouched, |_| (), ""),
        (
            "a loser",
            untouched,
            |o| {
                o.finalizer = true;
                o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Active)), true));
                o.entry = Seen::Foreign("not ours".into())
            },
            "RemoveFinalizer",
        ),
        ("vanished, served", converged, vanish, "PutEntry"),
        (
            "vanished, with its entry",
            converged,
            |o| {
                vanish(o);
                o.entry = Seen::Missing
            },
            "PutEntry",
        ),
        (
            "vanished, nobody serves it",
            withdrawn,
            |o| {
                vanish(o);
                in_state(o, RowState::Deleting)
            },
            "CloseDatabase DeleteKeys DeleteEntry",
        ),
        (
            // The row alone brings us back: it goes last.
            "vanished, row and keys left",
            withdrawn,
            |o| {
                vanish(o);
                in_state(o, RowState::Deleting);
                o.entry = Seen::Missing
            },
            "DeleteKeys CloseDatabase",
        ),
        ("vanished, nothing left", untouched, |o| o.object = Presence::Gone, ""),
        (
            "vanished, and recreated by somebody else",
            converged,
            |o| {
                vanish(o);
                o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Active)), true));
                o.entry = Seen::Foreign("not ours".into());
                o.keys = Seen::Foreign("not ours".into())
            },
            "",
        ),
        ("finalizer taken off, served", converged, |o| o.finalizer = false, "PutEntry"),
        (
            "finalizer taken off, access revoked",
            withdrawn,
            |o| {
                o.finalizer = false;
                in_state(o, RowState::Deleting)
            },
            "CloseDatabase DeleteKeys DeleteEntry",
        ),
    ];
    for (name, start, tweak, steps) in rows {
        let mut observed = start();
        tweak(&mut observed);
        let plan = absent(&observed, DeletionPolicy::Delete);
        assert_eq!(words(&plan), *steps, "{name}: {:?}", plan.reports);
        let kept = |step: &TenantStep| matches!(step, TenantStep::Database(DatabaseStep::Close(c)) if c.policy == DeletionPolicy::Retain);
        let policy_counts = observed.finalizer;
        assert!(
            policy_counts
                || plan.steps.iter().all(|s| !matches!(s, TenantStep::Database(DatabaseStep::Close(_))) || kept(s)),
            "{name}"
        );
    }
}

#[test]
fn the_entry_that_takes_a_damaged_one_out_of_service_names_the_same_data() {
    let mut observed = converged();
    damage_entry(&mut observed);
    let [TenantStep::Entry(EntryStep::Put { entry, .. })] = &absent(&observed, DeletionPolicy::Delete).steps[..] else {
        panic!("one step")
    };
    assert_eq!((entry.state, entry.incarnation), (TenantState::Deleting, incarnation()));
    assert_eq!((entry.database.location.schema.as_str(), entry.keys.len()), ("at_alpha", 1));
}

#[test]
fn whatever_is_left_of_a_tenant_a_replica_takes_it_out_of_service_and_says_so() {
    let nothing: Tweak = |o| {
        damage_entry(o);
        o.keys = Seen::Missing;
        o.database = DatabaseView::Unknown(read_error());
        o.recorded.incarnation = None;
    };
    let rows: [(&str, Tweak); 4] = [
        ("the entry", |_| ()),
        ("the row and the keys", damage_entry),
        ("nothing", nothing),
        ("no entry", |o| {
            o.entry = Seen::Missing;
            o.keys = Seen::Missing
        }),
    ];
    for (left, tweak) in rows {
        let mut observed = converged();
        let Seen::Ours(view) = &observed.entry else { panic!("it is there") };
        let active = Entry::Tenant(Box::new(view.entry.clone().unwrap()));
        tweak(&mut observed);
        let plan = absent(&observed, DeletionPolicy::Delete);
        let Some(TenantStep::Entry(EntryStep::Put { entry, .. })) = plan.steps.first() else {
            panic!("{left}: {plan:?}")
        };
        let deleting = Entry::Tenant(entry.clone());

        let mut index =
            RegistryIndex::new(TenantCaps { transactions: 16, idle_in_transaction: Duration::from_secs(10) });
        let document = |entry: &Entry, version| RawEntry {
            name: entry.name(),
            kind: EntryKind::Tenant,
            version: Version(version),
            content: entry.render().into(),
        };
        index.apply(&document(&active, 1));
        index.apply(&document(&deleting, 2));
        let loaded = index.snapshot().tenants.get(&super::fixtures::tenant_id()).map(|t| t.state);
        assert_eq!(loaded, Some(TenantState::Deleting), "{left}: {:?}", index.quarantined());
        assert!(index.quarantined().is_empty() && index.acknowledgeable() == Version(2), "{left}");
        index.delete(&deleting.name(), Version(3));
        assert!(index.names().is_empty() && index.ignored().is_empty(), "{left}");
    }
}
