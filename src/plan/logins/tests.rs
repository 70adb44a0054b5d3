//! Each state and its next step; and a small world in which rotations are begun, broken off and meddled with.

use super::*;
use crate::domain::{
    ack::{Acknowledgement, Replica},
    ident::ProcessId,
    keys::KeyBytes,
};
use jiff::SignedDuration;
use std::collections::BTreeMap;
use uuid::Uuid;

const RULES: Rules = Rules { period_seconds: 1000, ack_timeout_seconds: 60 };

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn id(n: u128) -> LoginId {
    LoginId(Uuid::from_u128(n))
}

fn role(can_login: bool, sessions: u64) -> Option<RoleFacts> {
    Some(RoleFacts { can_login, sessions })
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
    let ack =
        Acknowledgement { process, pod: None, version, format: 1, quarantined: BTreeMap::new(), quarantine_overflow: false };
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
        entry: EntryView::Read(EntryFacts {
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
        EntryView::Read(entry) => entry,
        EntryView::Missing | EntryView::Damaged => panic!("no entry"),
    }
}

fn prepare(requests: LoginRequests) -> LoginStep {
    LoginStep::Prepare { slot: LoginSlot::B, requests, keep: None }
}

fn lock(force: bool, passed_over: &[&str]) -> LoginStep {
    let passed_over = passed_over.iter().map(|name| (*name).to_owned()).collect();
    LoginStep::Lock { slot: LoginSlot::B, force, passed_over }
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
        ("lost", at_rest(), |c| c.entry = EntryView::Missing, &[], step(LoginStep::Restore)),
        ("damaged", at_rest(), |c| c.entry = EntryView::Damaged, &[], LoginPlan::Wait(LoginWait::DamagedEntry)),
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

/// One cell, its Secret, the database and two replicas.
struct World {
    cell: CellView,
    /// What the database takes: password by login.
    passwords: BTreeMap<LoginSlot, LoginId>,
    /// What each replica has applied: version, login, password.
    applied: Vec<(u64, LoginSlot, LoginId)>,
    /// Sessions of each replica, by login.
    sessions: Vec<BTreeMap<LoginSlot, u64>>,
    drawn: u128,
    chance: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            cell: at_rest(),
            passwords: BTreeMap::from([(LoginSlot::A, id(1))]),
            applied: vec![(50, LoginSlot::A, id(1)); 2],
            sessions: vec![BTreeMap::from([(LoginSlot::A, 1)]); 2],
            drawn: 1,
            chance: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    fn chance(&mut self, of: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % of
    }

    fn entry(&mut self) -> &mut EntryFacts {
        entry(&mut self.cell)
    }

    fn count_sessions(&mut self) {
        let count = |slot| self.sessions.iter().filter_map(|s| s.get(&slot)).sum();
        let (a, b) = (count(LoginSlot::A), count(LoginSlot::B));
        self.cell.facts.a.as_mut().unwrap().sessions = a;
        self.cell.facts.b.as_mut().unwrap().sessions = b;
    }

    fn plan(&mut self) -> LoginPlan {
        self.count_sessions();
        let versions: Vec<u64> = self.applied.iter().map(|(version, ..)| *version).collect();
        plan_login(&self.cell, RULES, &replicas(&versions), now())
    }

    fn role(&mut self, slot: LoginSlot) -> &mut RoleFacts {
        let facts = &mut self.cell.facts;
        match slot {
            LoginSlot::A => &mut facts.a,
            LoginSlot::B => &mut facts.b,
        }
        .as_mut()
        .unwrap()
    }

    /// What the effects do: nothing where the step comes too late.
    fn perform(&mut self, step: &LoginStep) {
        match step {
            LoginStep::Prepare { slot, requests, keep } => {
                self.drawn += 1;
                let id = keep.as_ref().map_or(id(self.drawn), |kept| kept.id);
                let next = NextLogin { id, slot: *slot, password: KeyBytes::new(vec![1]), requests: requests.clone() };
                self.entry().next = Some(next);
                self.entry().version.0 += 1;
            }
            LoginStep::Set(next) => {
                self.passwords.insert(next.slot, next.id);
                self.role(next.slot).can_login = true;
                let facts = &mut self.cell.facts;
                (facts.active, facts.login_id, facts.age_seconds) = (next.slot, Some(next.id), 0);
                let LoginRequests { rotation, revocation } = next.requests.clone();
                facts.handled.rotation = rotation.or(facts.handled.rotation.take());
                facts.handled.revocation = revocation.or(facts.handled.revocation.take());
            }
            LoginStep::Switch(next) => {
                let revokes = next.requests.revocation.is_some();
                let entry = self.entry();
                (entry.slot, entry.next) = (next.slot, None);
                entry.mark = Some(LoginMark { id: next.id, since: now(), revokes });
                entry.version.0 += 1;
            }
            LoginStep::Lock { slot, force, .. } => {
                self.count_sessions();
                assert_ne!(self.cell.facts.active, *slot, "the login in use is never locked");
                if *force || self.role(*slot).sessions == 0 {
                    self.role(*slot).can_login = false;
                    self.passwords.remove(slot);
                }
            }
            LoginStep::EndSessions { slot } => {
                self.sessions.iter_mut().for_each(|s| s.retain(|used, _| used != slot));
            }
            LoginStep::Restore => unreachable!("nobody deletes the entry here"),
        }
    }

    /// A replica applies the entry as it stands, and later closes what it had before.
    fn follow(&mut self, replica: usize) {
        let (version, slot) = (self.entry().version.0, self.entry().slot);
        let id = self.entry().mark.as_ref().unwrap().id;
        self.applied[replica] = (version, slot, id);
        self.sessions[replica].insert(slot, 1);
    }

    /// Whether every replica can open a connection with what it knows.
    fn everybody_gets_in(&self) -> bool {
        self.applied.iter().all(|(_, slot, id)| self.passwords.get(slot) == Some(id))
    }
}

#[test]
fn whatever_happens_replicas_get_in_and_every_request_comes_to_its_end() {
    let (mut rotations, mut steps) = (0, 0);
    for seed in 0..2000 {
        let mut world = World::new(seed);
        let revoking = seed % 4 == 0;
        for turn in 0..60 {
            match world.chance(8) {
                // A crash before the step is a turn without one; a lost reply is a step that nobody remembers. Neither has
                // anything to forget.
                0..=3 => {
                    if let LoginPlan::Step(step) | LoginPlan::Scheduled(step) = world.plan() {
                        world.perform(&step);
                        steps += 1;
                    }
                }
                4 => {
                    let replica = usize::try_from(world.chance(2)).unwrap();
                    world.follow(replica);
                }
                5 => {
                    let replica = usize::try_from(world.chance(2)).unwrap();
                    let kept = world.applied[replica].1;
                    world.sessions[replica].retain(|slot, _| *slot == kept);
                }
                6 if turn < 40 => {
                    let value = Some(format!("request {turn}"));
                    if revoking && world.chance(2) == 0 {
                        world.entry().asked.revocation = value;
                    } else {
                        world.entry().asked.rotation = value;
                    }
                    world.entry().version.0 += 1;
                    rotations += 1;
                }
                // Somebody takes out what was prepared.
                7 if turn < 40 && world.chance(4) == 0 => {
                    world.entry().next = None;
                    world.entry().version.0 += 1;
                }
                _ => {}
            }
            // A revocation is meant to lock somebody out.
            assert!(revoking || world.everybody_gets_in(), "seed {seed}, turn {turn}: {:?}", world.cell);
        }
        for _ in 0..20 {
            (0..2).for_each(|replica| world.follow(replica));
            let kept = world.entry().slot;
            world.sessions.iter_mut().for_each(|s| s.retain(|slot, _| *slot == kept));
            if let LoginPlan::Step(step) = world.plan() {
                world.perform(&step);
            }
        }
        assert!(matches!(world.plan(), LoginPlan::Rest(_)), "seed {seed}: {:?} {:?}", world.plan(), world.cell);
        (0..2).for_each(|replica| world.follow(replica));
        assert!(world.everybody_gets_in() && world.passwords.len() == 1, "seed {seed}: {:?}", world.cell);
        let asked = world.entry().asked.clone();
        assert_eq!(asked, world.cell.facts.handled, "seed {seed}");
    }
    println!("{steps} steps, {rotations} requests");
    assert!(rotations > 2000);
}
