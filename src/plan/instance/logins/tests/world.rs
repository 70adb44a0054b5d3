//! A small world in which rotations are begun, broken off and meddled with.

use super::*;

/// One cell, its Secret, the database and two replicas.
struct LoginWorld {
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

impl LoginWorld {
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

    fn role(&mut self, slot: LoginSlot) -> &mut LoginRoleFacts {
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
        let mut world = LoginWorld::new(seed);
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
