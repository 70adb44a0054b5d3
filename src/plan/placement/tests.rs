//! Where a Tenant goes, from what is known.

use super::*;
use crate::{
    domain::{
        ident::{CellNumber, DatabaseId, Incarnation},
        keyring::KeyringMark,
    },
    plan::observed::{Archive, LedgerRow},
};
use uuid::Uuid;

fn open(name: &str, tenants: usize) -> PlacementCandidate {
    PlacementCandidate { name: name.to_owned(), accepts: true, open: true, tenants, held: Some(false) }
}

fn out(name: &str, held: Option<bool>) -> PlacementCandidate {
    PlacementCandidate { open: false, held, ..open(name, 0) }
}

fn drained(candidate: PlacementCandidate) -> PlacementCandidate {
    PlacementCandidate { accepts: false, ..candidate }
}

fn ask(others: &[usize], chosen: usize) -> Search {
    Search::Ask { others: others.into(), chosen: Ok(chosen) }
}

fn nobody(others: &[usize], name: Option<&str>) -> Search {
    Search::Ask { others: others.into(), chosen: Err(Unplaced::Closed(name.map(str::to_owned))) }
}

fn unasked(name: &str, held: bool) -> Search {
    Search::Nowhere(Unplaced::Unasked { name: name.to_owned(), held })
}

fn unknown(name: &str, recorded: bool) -> Search {
    Search::Nowhere(Unplaced::Unknown { name: name.to_owned(), recorded, known: vec!["a".into(), "b".into()] })
}

const NEW: PlacementRequest<'static> =
    PlacementRequest { recorded: None, begun: None, intended: None, named: None, deleting: false };
const NAMED: PlacementRequest<'static> = PlacementRequest { named: Some("b"), ..NEW };
const GOING: PlacementRequest<'static> = PlacementRequest { deleting: true, ..NEW };

#[test]
fn of_one_instance_nobody_is_asked_twice() {
    for request in [NEW, PlacementRequest { named: Some("a"), ..NEW }, GOING] {
        assert_eq!(resolve_search(request, &[open("a", 7)]), Search::At(0), "{request:?}");
    }
    assert_eq!(resolve_search(NEW, &[out("a", None)]), Search::Out(0));
    assert_eq!(resolve_search(NEW, &[drained(open("a", 7))]), nobody(&[0], Some("a")));
    assert_eq!(resolve_search(GOING, &[drained(open("a", 7))]), Search::At(0));
}

#[test]
fn evidence_goes_before_everything() {
    let both = [drained(out("a", None)), open("b", 0)];
    for (request, found) in [
        (PlacementRequest { recorded: Some("a"), begun: Some(1), named: Some("b"), ..NEW }, Search::At(0)),
        (PlacementRequest { recorded: Some("a"), ..GOING }, Search::At(0)),
        (PlacementRequest { recorded: Some("gone"), begun: Some(1), named: Some("b"), ..NEW }, unknown("gone", true)),
        (PlacementRequest { begun: Some(0), intended: Some(1), named: Some("b"), ..NEW }, Search::At(0)),
        (PlacementRequest { named: Some("nowhere"), ..NEW }, unknown("nowhere", false)),
        (PlacementRequest { named: Some("nowhere"), ..GOING }, unknown("nowhere", false)),
    ] {
        assert_eq!(resolve_search(request, &both), found, "{request:?}");
    }
}

#[test]
fn a_new_tenant_goes_to_the_emptiest_after_all_answered_that_they_hold_nothing() {
    for (what, candidates, found) in [
        ("the emptiest", vec![open("a", 5), open("b", 3), open("c", 4)], ask(&[0, 2], 1)),
        ("the first of several", vec![open("a", 3), open("b", 3)], ask(&[1], 0)),
        ("not the drained one", vec![drained(open("a", 0)), open("b", 9)], ask(&[0], 1)),
        ("one is out, and had nothing", vec![out("a", Some(false)), open("b", 9)], Search::At(1)),
        ("one is out, and had something", vec![out("a", Some(true)), open("b", 9)], unasked("a", true)),
        ("one is out, and was never read", vec![out("a", None), open("b", 9)], unasked("a", false)),
        ("even a drained one", vec![drained(out("a", None)), open("b", 9)], unasked("a", false)),
        ("none takes any", vec![drained(open("a", 0)), drained(open("b", 0))], nobody(&[0, 1], None)),
        ("the only one that takes any is out", vec![drained(open("a", 0)), out("b", Some(false))], ask(&[0], 1)),
    ] {
        assert_eq!(resolve_search(NEW, &candidates), found, "{what}");
    }
}

#[test]
fn where_it_was_meant_to_go_it_goes_as_long_as_it_can() {
    let meant = PlacementRequest { intended: Some(1), ..NEW };
    assert_eq!(resolve_search(meant, &[open("a", 3), open("b", 9)]), ask(&[0], 1));
    assert_eq!(resolve_search(meant, &[open("a", 3), out("b", Some(false))]), Search::At(0));
    assert_eq!(resolve_search(meant, &[open("a", 3), drained(open("b", 9))]), ask(&[1], 0));
}

#[test]
fn a_tenant_that_names_an_instance_waits_only_for_that_one() {
    for (what, candidates, found) in [
        ("named", vec![open("a", 0), open("b", 9)], ask(&[0], 1)),
        ("the other one is out", vec![out("a", None), open("b", 9)], Search::At(1)),
        ("the other one had something", vec![out("a", Some(true)), open("b", 9)], unasked("a", true)),
        ("the named one is out", vec![open("a", 0), out("b", None)], Search::Out(1)),
        ("the named one takes none", vec![open("a", 0), drained(open("b", 9))], nobody(&[0, 1], Some("b"))),
    ] {
        assert_eq!(resolve_search(NAMED, &candidates), found, "{what}");
    }
    let going = PlacementRequest { deleting: true, ..NAMED };
    assert_eq!(resolve_search(going, &[out("a", Some(true)), drained(open("b", 9))]), Search::At(1));
}

#[test]
fn what_is_to_go_needs_no_instance_that_takes_new_tenants_but_all_that_may_hold_it() {
    assert_eq!(resolve_search(GOING, &[drained(open("a", 0)), drained(open("b", 0))]), ask(&[1], 0));
    assert_eq!(resolve_search(GOING, &[open("a", 0), out("b", None)]), unasked("b", false));
}

const INCARNATION: Incarnation = Incarnation(Uuid::nil());

fn row(uid: &str, state: RowState) -> Option<LedgerRow> {
    Some(LedgerRow {
        incarnation: INCARNATION,
        uid: Uid(uid.to_owned()),
        namespace: "ns".to_owned(),
        name: "n".to_owned(),
        cluster_id: "c".to_owned(),
        cell: CellNumber(1),
        schema: "at_acme".to_owned(),
        role: "at_acme".to_owned(),
        schema_version: 1,
        schema_checksums: Vec::new(),
        own: Default::default(),
        keyring: KeyringMark { version: 1, digest: String::new() },
        state,
        state_since: jiff::Timestamp::UNIX_EPOCH,
    })
}

fn archive(uid: &str) -> Option<Archive> {
    Some(Archive {
        incarnation: INCARNATION,
        uid: Uid(uid.to_owned()),
        namespace: "ns".to_owned(),
        name: "n".to_owned(),
        cluster_id: "c".to_owned(),
        permitted: Vec::new(),
        cell: CellNumber(1),
        schema: "at_acme_0".to_owned(),
        role: "at_acme_0".to_owned(),
        schema_version: 1,
        schema_checksums: Vec::new(),
        ring_version: 1,
        role_mark: None,
        schema_mark: None,
    })
}

fn facts(row: Option<LedgerRow>, archive: Option<Archive>) -> LedgerFacts {
    LedgerFacts {
        database_id: DatabaseId(Uuid::nil()),
        row,
        heartbeat_age_seconds: None,
        role_mark: None,
        schema_mark: None,
        access: None,
        open_transactions: 0,
        permitted: Vec::new(),
        failure: None,
        offer: None,
        archives: archive.into_iter().collect(),
    }
}

fn requesting(namespace: &str) -> ObjectId {
    ObjectId { uid: Uid("me".to_owned()), namespace: namespace.to_owned(), name: "n".to_owned() }
}

#[test]
fn the_instance_that_holds_an_id_is_named_in_the_namespace_of_the_data_only() {
    let candidates = [open("a", 0), open("b", 0)];
    let (nothing, foreign) = (facts(None, None), facts(row("x", RowState::Active), None));
    for (namespace, cluster_id, holder) in [("ns", "c", Some("b")), ("other", "c", None), ("ns", "other", None)] {
        let object = requesting(namespace);
        let requester = Requester { object: &object, cluster_id, previous: None };
        let answers = [InstanceAnswer { at: 0, facts: &nothing }, InstanceAnswer { at: 1, facts: &foreign }];
        let request = PlacementRequest { named: Some("a"), ..NEW };
        let taken = Unplaced::Taken { holder: holder.map(str::to_owned) };
        assert_eq!(resolve_holder(request, requester, &candidates, &answers), Err(taken), "{namespace} {cluster_id}");
    }
}

#[test]
fn after_all_were_asked_the_strongest_claim_holds() {
    let candidates = [open("a", 0), open("b", 0)];
    let (nothing, tombstone) = (|| facts(None, None), || facts(row("old", RowState::Dropped), None));
    let (own, kept) = (|| facts(row("me", RowState::Active), None), || facts(row("old", RowState::Retained), None));
    let (foreign, archived) = (|| facts(row("x", RowState::Active), None), || facts(None, archive("old")));
    let taken = |holder: &str| Err(Unplaced::Taken { holder: Some(holder.to_owned()) });
    for (what, named, adopts, [a, b], found) in [
        ("nothing", None, false, [nothing(), nothing()], Ok(None)),
        ("a tombstone holds nothing", None, false, [nothing(), tombstone()], Ok(None)),
        ("an archive alone neither", None, false, [nothing(), archived()], Ok(None)),
        ("its own row", None, false, [nothing(), own()], Ok(Some(1))),
        ("before an earlier Tenant's", None, true, [kept(), own()], Ok(Some(1))),
        ("an earlier Tenant's", None, false, [nothing(), kept()], Ok(Some(1))),
        ("the archive that it asks for", None, true, [nothing(), archived()], Ok(Some(1))),
        ("before what somebody else has", None, true, [foreign(), archived()], Ok(Some(1))),
        ("of two the first", None, false, [foreign(), kept()], Ok(Some(0))),
        ("named, and nothing", Some("a"), false, [nothing(), nothing()], Ok(None)),
        ("named, and there", Some("a"), false, [kept(), nothing()], Ok(Some(0))),
        ("named, and elsewhere", Some("a"), false, [nothing(), foreign()], taken("b")),
        ("named, and nothing is taken over elsewhere", Some("a"), true, [nothing(), kept()], taken("b")),
        ("named, and no archive elsewhere", Some("a"), true, [nothing(), archived()], Ok(None)),
        ("named, and its own row elsewhere", Some("a"), false, [nothing(), own()], Ok(Some(1))),
    ] {
        let previous = Uid("old".to_owned());
        let object = requesting("ns");
        let requester = Requester { object: &object, cluster_id: "c", previous: adopts.then_some(&previous) };
        let answers = [InstanceAnswer { at: 0, facts: &a }, InstanceAnswer { at: 1, facts: &b }];
        let request = PlacementRequest { named, ..NEW };
        assert_eq!(resolve_holder(request, requester, &candidates, &answers), found, "{what}");
    }
}
