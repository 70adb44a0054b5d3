//! Tenants: observed → planned, row by row.

use super::fixtures::{
    Tweak, access_of, converged, damage_entry, edit_entry, facts, facts_of, incarnation, object, present, read_error,
    replica, row, set_member, stranger, untouched, words,
};
use agent_tenancy::{
    api::{ConditionType as Part, Reason},
    domain::{
        class::ErrorClass,
        entry::TenantState,
        ident::{DatabaseId, ObjectId, Uid},
        keyring::KeyringError,
        resolve::AgentLookup,
    },
    plan::{
        observed::{DatabaseView, KeysView, ObservedTenant, RowState, Seen},
        report::PartState,
    },
};
use uuid::Uuid;

const CONFLICT: PartState = PartState::Refused(ErrorClass::Conflict);
const UNREAD: PartState = PartState::Unread(ErrorClass::Transient);

/// Name, what is different, the steps that are planned, and one report.
type Row = (&'static str, Tweak, &'static str, (Part, PartState, Reason));

#[test]
fn a_tenant_that_should_exist() {
    let from_nothing: &[Row] = &[
        (
            "new",
            |_| (),
            "AddFinalizer Provision CreateKeys PutEntry",
            (Part::Served, PartState::Waiting, Reason::WaitingForReplicas),
        ),
        (
            "no replica",
            |o| o.replicas.all.clear(),
            "AddFinalizer Provision CreateKeys PutEntry",
            (Part::Served, PartState::Waiting, Reason::NoReplicas),
        ),
        (
            "no cell",
            |o| facts_of(o).offer.as_mut().unwrap().exists = false,
            "AddFinalizer CreateCell Provision CreateKeys PutEntry",
            (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned),
        ),
        (
            "cell not published",
            |o| o.cell_entry = false,
            "AddFinalizer CreateCell Provision CreateKeys PutEntry",
            (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned),
        ),
        (
            "an older claimant",
            |o| o.rival = Some(ObjectId { uid: Uid("u".into()), ..object() }),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "another's row",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Active)), true)),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "another is going",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Deleting)), true)),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "another's data kept",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Retained)), true)),
            "",
            (Part::Accepted, CONFLICT, Reason::RetainedDataExists),
        ),
        (
            "another's tombstone",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Dropped)), false)),
            "AddFinalizer Provision CreateKeys PutEntry",
            (Part::Accepted, PartState::Ready, Reason::Accepted),
        ),
        (
            "a tombstone, and yet a schema",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Dropped)), true)),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "a schema without a row",
            |o| o.database = DatabaseView::Facts(facts(None, true)),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "another's entry",
            |o| o.entry = Seen::Foreign("not ours".into()),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        ("entry unreadable", |o| o.entry = Seen::Unknown(read_error()), "", (Part::Accepted, UNREAD, Reason::Retrying)),
        (
            "database unreadable",
            |o| o.database = DatabaseView::Unknown(read_error()),
            "",
            (Part::DatabaseReady, UNREAD, Reason::DatabaseUnavailable),
        ),
        (
            "another database",
            |o| o.database = DatabaseView::Changed { expected: DatabaseId(Uuid::nil()), found: None },
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DatabaseChanged),
        ),
        (
            "AgentConfig missing",
            |o| o.agents.clear(),
            "",
            (Part::Accepted, PartState::Refused(ErrorClass::Waiting), Reason::AgentConfigNotFound),
        ),
        (
            "AgentConfig leaving",
            |o| o.agents.values_mut().for_each(|a| *a = AgentLookup::Leaving(Uid("uid-x".into()))),
            "",
            (Part::Accepted, PartState::Refused(ErrorClass::Waiting), Reason::AgentConfigNotFound),
        ),
        (
            "AgentConfig not published",
            |o| o.agents.values_mut().for_each(|a| *a = AgentLookup::Unpublished(Uid("uid-x".into()))),
            "AddFinalizer Provision CreateKeys",
            (Part::Published, PartState::Waiting, Reason::AgentConfigNotPublished),
        ),
        (
            "another's Secret",
            |o| o.keys = Seen::Foreign("not ours".into()),
            "AddFinalizer Provision",
            (Part::SigningKeysReady, CONFLICT, Reason::Conflict),
        ),
        (
            "Secret unreadable",
            |o| o.keys = Seen::Unknown(read_error()),
            "AddFinalizer Provision",
            (Part::SigningKeysReady, UNREAD, Reason::Retrying),
        ),
    ];
    let from_converged: &[Row] = &[
        ("at rest", |_| (), "", (Part::Served, PartState::Ready, Reason::Served)),
        (
            "an older claimant, but ours",
            |o| o.rival = Some(ObjectId { uid: Uid("u".into()), ..object() }),
            "",
            (Part::Accepted, PartState::Ready, Reason::Accepted),
        ),
        (
            "finalizer taken off",
            |o| o.finalizer = false,
            "AddFinalizer",
            (Part::Served, PartState::Ready, Reason::Served),
        ),
        (
            "finalizer taken off, no database",
            |o| {
                o.finalizer = false;
                o.database = DatabaseView::Unknown(read_error())
            },
            "AddFinalizer",
            (Part::DatabaseReady, UNREAD, Reason::DatabaseUnavailable),
        ),
        (
            "finalizer taken off, AgentConfig missing",
            |o| {
                o.finalizer = false;
                o.agents.clear()
            },
            "AddFinalizer",
            (Part::Accepted, PartState::Refused(ErrorClass::Waiting), Reason::AgentConfigNotFound),
        ),
        (
            "membership lost",
            |o| set_member(o, false),
            "RepairDatabase",
            (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned),
        ),
        (
            "grants lost",
            |o| access_of(o).schema.acl.as_mut().unwrap().truncate(1),
            "RepairDatabase",
            (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned),
        ),
        (
            "cell entry lost",
            |o| o.cell_entry = false,
            "CreateCell",
            (Part::DatabaseReady, PartState::Ready, Reason::Provisioned),
        ),
        (
            "row lost",
            |o| o.database = DatabaseView::Facts(facts(None, true)),
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DataLost),
        ),
        (
            "row lost, status too",
            |o| {
                o.database = DatabaseView::Facts(facts(None, false));
                o.recorded = Default::default()
            },
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DataLost),
        ),
        ("schema lost", |o| facts_of(o).schema_mark = None, "", (Part::DatabaseReady, CONFLICT, Reason::DataLost)),
        ("role lost", |o| facts_of(o).role_mark = None, "", (Part::DatabaseReady, CONFLICT, Reason::DataLost)),
        (
            "another mark",
            |o| facts_of(o).role_mark = Some("mine".into()),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "another database answers",
            |o| facts_of(o).database_id = DatabaseId(Uuid::nil()),
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DatabaseChanged),
        ),
        (
            "an older database came back",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Dropped)), false)),
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DataLost),
        ),
        (
            "own tombstone",
            |o| o.database = DatabaseView::Facts(facts(Some(row(RowState::Dropped)), false)),
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DataLost),
        ),
        (
            "entry deleted",
            |o| o.entry = Seen::Missing,
            "PutEntry RecordEvent",
            (Part::Published, PartState::InProgress, Reason::Published),
        ),
        (
            "entry damaged",
            damage_entry,
            "PutEntry RecordEvent",
            (Part::Published, PartState::InProgress, Reason::Published),
        ),
        (
            "entry edited",
            |o| edit_entry(o, |e| e.state = TenantState::Deleting),
            "PutEntry RecordEvent",
            (Part::Published, PartState::InProgress, Reason::Published),
        ),
        (
            "entry of another leader and time",
            |o| {
                edit_entry(o, |e| {
                    e.epoch.0 += 1;
                    e.generation = 9;
                    e.state_since = jiff::Timestamp::UNIX_EPOCH
                })
            },
            "",
            (Part::Published, PartState::Ready, Reason::Published),
        ),
        (
            "entry unreadable",
            |o| o.entry = Seen::Unknown(read_error()),
            "",
            (Part::Published, UNREAD, Reason::Retrying),
        ),
        (
            "entry unreadable, keys lost",
            |o| {
                o.entry = Seen::Unknown(read_error());
                o.keys = Seen::Missing
            },
            "",
            (Part::SigningKeysReady, UNREAD, Reason::Retrying),
        ),
        (
            "keys lost",
            |o| o.keys = Seen::Missing,
            "CreateKeys",
            (Part::SigningKeysReady, PartState::InProgress, Reason::Issued),
        ),
        (
            "keys damaged",
            |o| {
                if let Seen::Ours(KeysView { keyring, .. }) = &mut o.keys {
                    *keyring = Err(KeyringError::Mismatch)
                }
            },
            "ReplaceKeys",
            (Part::SigningKeysReady, PartState::InProgress, Reason::Issued),
        ),
        (
            "keys damaged, entry gone",
            |o| {
                o.entry = Seen::Missing;
                if let Seen::Ours(KeysView { keyring, .. }) = &mut o.keys {
                    *keyring = Err(KeyringError::Mismatch)
                }
            },
            "",
            (Part::SigningKeysReady, CONFLICT, Reason::Conflict),
        ),
        (
            "keys one step ahead of the ledger",
            |o| {
                if let Seen::Ours(KeysView { keyring: Ok(keyring), .. }) = &mut o.keys {
                    *keyring = keyring.with_version(2).unwrap()
                }
            },
            "RecordRing PutEntry",
            (Part::SigningKeysReady, PartState::InProgress, Reason::Issued),
        ),
        (
            "AgentConfig leaving",
            |o| o.agents.values_mut().for_each(|a| *a = AgentLookup::Leaving(Uid("uid-x".into()))),
            "",
            (Part::Accepted, PartState::Ready, Reason::Accepted),
        ),
        (
            "AgentConfig recreated",
            |o| o.agents.values_mut().for_each(|a| *a = AgentLookup::Published(Uid("uid-y".into()))),
            "PutEntry",
            (Part::Published, PartState::InProgress, Reason::Published),
        ),
        (
            "not proved, replica behind",
            |o| {
                o.recorded.served = None;
                o.replicas.all.push(replica("r3", 3))
            },
            "",
            (Part::Served, PartState::Waiting, Reason::WaitingForReplicas),
        ),
        (
            "proved, replica behind",
            |o| o.replicas.all.push(replica("r3", 3)),
            "",
            (Part::Served, PartState::Ready, Reason::Served),
        ),
        (
            "refused",
            |o| {
                o.recorded.served = None;
                let a = o.replicas.all[0].acknowledged.as_mut();
                a.unwrap().quarantined.insert(incarnation(), "no".into());
            },
            "",
            (Part::Served, PartState::Refused(ErrorClass::Transient), Reason::Quarantined),
        ),
        (
            "an overfull quarantine",
            |o| {
                o.recorded.served = None;
                o.replicas.all[0].acknowledged.as_mut().unwrap().quarantine_overflow = true
            },
            "",
            (Part::Served, PartState::Refused(ErrorClass::Transient), Reason::Quarantined),
        ),
    ];
    for (start, rows) in [(untouched as fn() -> ObservedTenant, from_nothing), (converged, from_converged)] {
        for (name, tweak, steps, report) in rows {
            let mut observed = start();
            tweak(&mut observed);
            let plan = present(&observed);
            assert_eq!(words(&plan), *steps, "{name}");
            let found = plan.reports.iter().find(|v| v.part == report.0).unwrap();
            assert_eq!((found.part, found.state, found.reason), *report, "{name}: {}", found.note);
        }
    }
}
