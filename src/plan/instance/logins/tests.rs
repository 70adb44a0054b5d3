//! Each state of a cell's logins, and the next step.

use super::*;
use crate::domain::{
    ack::{Acknowledgement, Replica},
    ident::ProcessId,
    keys::KeyBytes,
};
use jiff::SignedDuration;
use std::collections::BTreeMap;
use uuid::Uuid;

mod world;

const RULES: Rules = Rules { period_seconds: 1000, ack_timeout_seconds: 60 };

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn id(n: u128) -> LoginId {
    LoginId(Uuid::from_u128(n))
}

fn role(can_login: bool, sessions: u64) -> Option<LoginRoleFacts> {
    Some(LoginRoleFacts { can_login, sessions })
}

fn next(n: u128, slot: LoginSlot, requests: LoginRequests) -> NextLogin {
    NextLogin { id: id(n), slot, password: KeyBytes::new(b"canary".to_vec()), requests }
}

fn asks(rotation: Option<&str>, revocation: Option<&str>) -> LoginRequests {
    LoginRequests { rotation: rotation.map(str::to_owned), revocation: revocation.map(str::to_owned) }
}

fn replica(name: &str, version: u64) -> Replica {
    let process = ProcessId(Uuid::from_u128(9));
    let version = Version(version);
    let ack = Acknowledgement {
        process,
        pod: None,
        version,
        format: 1,
        schema_version: None,
        connection_budget: None,
        quarantined: BTreeMap::new(),
        quarantine_overflow: false,
    };
    Replica { name: name.to_owned(), ready: true, running: true, acknowledged: Some(ack) }
}

fn replicas(versions: &[u64]) -> Replicas {
    let all = versions.iter().enumerate().map(|(n, version)| replica(&format!("r{n}"), *version)).collect();
    Replicas { all, none_wanted: false }
}

/// Cell 1, with login `a` in use for 100 s, and `b` locked.
fn at_rest() -> CellView {
    CellView {
        facts: LoginFacts {
            cell: CellNumber(1),
            active: LoginSlot::A,
            login_id: Some(id(1)),
            age_seconds: 100,
            handled: LoginRequests::default(),
            a: role(true, 3),
            b: role(false, 0),
        },
        entry: CellEntryView::Read(EntryFacts {
            version: Version(50),
            slot: LoginSlot::A,
            mark: Some(LoginMark { id: id(1), since: now() - SignedDuration::from_secs(100), revokes: false }),
            next: None,
            asked: LoginRequests::default(),
        }),
        tenants: BTreeSet::from([Incarnation(Uuid::from_u128(7)), Incarnation(Uuid::from_u128(8))]),
    }
}

/// Just changed from `b` to `a`; `b` can still log in.
fn switched() -> CellView {
    let mut cell = at_rest();
    cell.facts.b = role(true, 0);
    entry(&mut cell).mark.as_mut().unwrap().since = now();
    cell
}

fn entry(cell: &mut CellView) -> &mut EntryFacts {
    match &mut cell.entry {
        CellEntryView::Read(entry) => entry,
        CellEntryView::Missing | CellEntryView::Damaged => panic!("no entry"),
    }
}

fn prepare(requests: LoginRequests) -> LoginStep {
    LoginStep::Prepare { slot: LoginSlot::B, requests, keep: None }
}

fn lock(force: bool, replicas_timed_out: &[&str]) -> LoginStep {
    let replicas_timed_out = replicas_timed_out.iter().map(|name| (*name).to_owned()).collect();
    LoginStep::Lock { slot: LoginSlot::B, force, replicas_timed_out }
}

#[test]
fn each_state_has_its_next_step() {
    type Case = (&'static str, CellView, fn(&mut CellView), &'static [u64], LoginPlan);
    let step = LoginPlan::Step;
    let fresh = || next(2, LoginSlot::B, LoginRequests::default());
    let cases: Vec<Case> = vec![
        ("at rest", at_rest(), |_| {}, &[50], LoginPlan::Rest(Some(777))),
        ("old", at_rest(), |c| c.facts.age_seconds = 999, &[50], LoginPlan::Scheduled(prepare(asks(None, None)))),
        ("asked", at_rest(), |c| entry(c).asked = asks(Some("x"), None), &[50], step(prepare(asks(Some("x"), None)))),
        (
            "asked and done",
            at_rest(),
            |c| (entry(c).asked, c.facts.handled) = (asks(Some("x"), None), asks(Some("x"), None)),
            &[50],
            LoginPlan::Rest(Some(777)),
        ),
        (
            "revocation asked",
            at_rest(),
            |c| entry(c).asked = asks(None, Some("x")),
            &[],
            step(prepare(asks(None, Some("x")))),
        ),
        (
            "prepared",
            at_rest(),
            |c| entry(c).next = Some(next(2, LoginSlot::B, LoginRequests::default())),
            &[],
            step(LoginStep::Set(fresh())),
        ),
        (
            "prepared, and then a revocation is asked for",
            at_rest(),
            |c| {
                entry(c).next = Some(next(2, LoginSlot::B, LoginRequests::default()));
                entry(c).asked = asks(None, Some("x"));
            },
            &[],
            step(LoginStep::Prepare { slot: LoginSlot::B, requests: asks(None, Some("x")), keep: Some(fresh()) }),
        ),
        (
            "prepared for the login that is in use",
            at_rest(),
            |c| entry(c).next = Some(next(2, LoginSlot::A, LoginRequests::default())),
            &[],
            step(prepare(asks(None, None))),
        ),
        (
            "set",
            at_rest(),
            |c| {
                entry(c).next = Some(next(2, LoginSlot::B, LoginRequests::default()));
                (c.facts.active, c.facts.login_id, c.facts.b) = (LoginSlot::B, Some(id(2)), role(true, 0));
            },
            &[],
            step(LoginStep::Switch(fresh())),
        ),
        (
            "set, and what was prepared is lost",
            at_rest(),
            |c| (c.facts.active, c.facts.login_id, c.facts.b) = (LoginSlot::B, Some(id(2)), role(true, 0)),
            &[],
            step(prepare(asks(None, None))),
        ),
        (
            "a replica is behind",
            switched(),
            |_| {},
            &[50, 49],
            LoginPlan::Wait(LoginWait::Replicas(vec!["r1".into()], now() + SignedDuration::from_secs(60))),
        ),
        (
            "a replica never came",
            switched(),
            |c| entry(c).mark.as_mut().unwrap().since = now() - SignedDuration::from_secs(60),
            &[50, 49],
            step(lock(false, &["r1"])),
        ),
        (
            "sessions are left",
            switched(),
            |c| c.facts.b = role(true, 2),
            &[50, 51],
            LoginPlan::Wait(LoginWait::Sessions(2)),
        ),
        (
            "sessions are left, and the next one is asked for",
            switched(),
            |c| (c.facts.b, entry(c).asked) = (role(true, 2), asks(Some("x"), None)),
            &[50, 51],
            step(prepare(asks(Some("x"), None))),
        ),
        ("nobody uses it", switched(), |_| {}, &[50, 51], step(lock(false, &[]))),
        ("nobody at all", switched(), |_| {}, &[], step(lock(false, &[]))),
        (
            "a cell of an earlier version",
            switched(),
            |c| (c.facts.login_id, entry(c).mark) = (None, None),
            &[50],
            step(lock(false, &[])),
        ),
        (
            "revoked",
            switched(),
            |c| (entry(c).mark.as_mut().unwrap().revokes, c.facts.b) = (true, role(true, 2)),
            &[1],
            step(lock(true, &[])),
        ),
        (
            "revoked and locked",
            switched(),
            |c| (entry(c).mark.as_mut().unwrap().revokes, c.facts.b) = (true, role(false, 2)),
            &[1],
            step(LoginStep::EndSessions { slot: LoginSlot::B }),
        ),
        ("lost", at_rest(), |c| c.entry = CellEntryView::Missing, &[], step(LoginStep::Restore)),
        ("damaged", at_rest(), |c| c.entry = CellEntryView::Damaged, &[], LoginPlan::Wait(LoginWait::DamagedEntry)),
        ("no role", at_rest(), |c| c.facts.b = None, &[], LoginPlan::Wait(LoginWait::RoleGone(LoginSlot::B))),
    ];
    for (name, mut cell, change, versions, expected) in cases {
        change(&mut cell);
        assert_eq!(plan_login(&cell, RULES, &replicas(versions), now()), expected, "{name}");
    }
    let never = Rules { period_seconds: 0, ..RULES };
    let mut old = at_rest();
    old.facts.age_seconds = u64::MAX;
    assert_eq!(plan_login(&old, never, &replicas(&[]), now()), LoginPlan::Rest(None));
}

#[test]
fn a_login_that_a_replica_can_not_use_keeps_the_one_before() {
    let cell = switched();
    let mut all = replicas(&[50, 50]);
    let refuse = |all: &mut Replicas, tenants: &[u128]| {
        let ack = all.all[1].acknowledged.as_mut().unwrap();
        ack.quarantined = tenants.iter().map(|n| (Incarnation(Uuid::from_u128(*n)), "why".to_owned())).collect();
    };
    refuse(&mut all, &[7]);
    assert_eq!(plan_login(&cell, RULES, &all, now()), LoginPlan::Step(lock(false, &[])), "one tenant's own trouble");
    refuse(&mut all, &[7, 8]);
    let held = LoginPlan::Wait(LoginWait::Refusing(vec!["r1".into()]));
    assert_eq!(plan_login(&cell, RULES, &all, now()), held);
    let later = now() + SignedDuration::from_hours(1);
    assert_eq!(plan_login(&cell, RULES, &all, later), held, "however long");
    refuse(&mut all, &[]);
    all.all[1].acknowledged.as_mut().unwrap().quarantine_overflow = true;
    assert_eq!(plan_login(&cell, RULES, &all, now()), held);
}

#[test]
fn cells_that_were_made_together_are_not_rotated_together() {
    let mut ages: Vec<u64> = (1..=50).map(|n| due_after(2_592_000, CellNumber(n)).unwrap()).collect();
    ages.sort_unstable();
    assert!(ages[0] >= 2_592_000 * 8 / 10 && ages[49] <= 2_592_000, "{ages:?}");
    let closest = ages.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(closest > 3600, "two of fifty cells come within {closest} s");
}
