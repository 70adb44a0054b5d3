//! Upgrading the tables of a whole fleet: whose turn it is. A few tenants first (canaries), a pause to see how they do, then
//! the others, a few at a time; and nobody any more when too many failed. Decided anew from the ledger each time, so that a
//! restart, or another leader, goes on where the last one was.

use crate::domain::ident::ObjectId;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};

/// How a fleet is upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRules {
    /// Tenants that go first, at least.
    pub canaries: usize,
    /// How long nothing further happens after the last of them, in seconds.
    pub hold_seconds: u64,
    /// Tenants at the same time.
    pub parallel: usize,
    /// Failures that stop nobody else.
    pub max_failures: usize,
}

/// What the ledger says of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FleetFacts {
    /// Tenants in use.
    pub tenants: usize,
    /// Those that have not had every file.
    pub behind: usize,
    /// Those of them that get no further: a file failed, or is not the one that was applied.
    pub blocked: usize,
    /// Canaries that have not had every file.
    pub canaries_behind: usize,
    /// Those of them that get no further.
    pub canaries_blocked: usize,
    /// Seconds since a canary last got a file; `None` if there is none.
    pub canary_seconds: Option<u64>,
    /// How many tenants have which version of the program's tables.
    pub versions: BTreeMap<i32, usize>,
    /// Some of those that are behind and not blocked, in the order of their turns.
    pub next: Vec<RolloutCandidate>,
}

impl FleetFacts {
    /// With those of another database: one fleet, whose canaries go first in each.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let mut versions = self.versions;
        for (version, count) in other.versions {
            *versions.entry(version).or_default() += count;
        }
        let mut next: Vec<RolloutCandidate> = self.next.into_iter().chain(other.next).collect();
        next.sort_by_key(|candidate| !candidate.canary);
        Self {
            tenants: self.tenants + other.tenants,
            behind: self.behind + other.behind,
            blocked: self.blocked + other.blocked,
            canaries_behind: self.canaries_behind + other.canaries_behind,
            canaries_blocked: self.canaries_blocked + other.canaries_blocked,
            canary_seconds: self.canary_seconds.into_iter().chain(other.canary_seconds).min(),
            versions,
            next,
        }
    }
}

/// A tenant that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RolloutCandidate {
    /// Its Tenant.
    #[serde(flatten)]
    pub object: ObjectId,
    /// It is a canary.
    pub canary: bool,
}

/// Where the upgrade of a fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Everybody has everything.
    Done,
    /// The canaries are under way.
    Canaries,
    /// The canaries are done, and are being watched for a while.
    Ownership,
    /// Everybody else is under way.
    Rolling,
    /// Too many failed, or a canary did: nobody further begins until a person has mended that.
    Halted,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 5] = [Self::Done, Self::Canaries, Self::Ownership, Self::Rolling, Self::Halted];

    /// Label value for metrics and logs, and the reason of a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Canaries => "Canaries",
            Self::Ownership => "Holding",
            Self::Rolling => "Rolling",
            Self::Halted => "Halted",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Where the upgrade is.
    pub stage: Stage,
    /// Those who may begin, in order; no more than [`RolloutRules::parallel`] of them at the same time.
    pub rollout_slots: Vec<ObjectId>,
}

/// Decides.
pub fn plan_rollout(facts: &FleetFacts, rules: &RolloutRules) -> Rollout {
    let stage = resolve_stage(facts, rules);
    let all = facts.next.iter();
    let rollout_slots = match stage {
        Stage::Done | Stage::Ownership | Stage::Halted => Vec::new(),
        Stage::Canaries => all.filter(|c| c.canary).map(|c| c.object.clone()).collect(),
        Stage::Rolling => all.map(|c| c.object.clone()).collect(),
    };
    Rollout { stage, rollout_slots }
}

fn resolve_stage(facts: &FleetFacts, rules: &RolloutRules) -> Stage {
    if facts.behind == 0 {
        return Stage::Done;
    }
    if facts.canaries_blocked > 0 || facts.blocked > rules.max_failures || facts.blocked >= facts.behind {
        return Stage::Halted;
    }
    if facts.canaries_behind > 0 {
        return Stage::Canaries;
    }
    match facts.canary_seconds {
        Some(seconds) if seconds < rules.hold_seconds => Stage::Ownership,
        Some(_) | None => Stage::Rolling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ident::Uid;

    const RULES: RolloutRules = RolloutRules { canaries: 2, hold_seconds: 60, parallel: 4, max_failures: 1 };

    fn candidate(name: &str, canary: bool) -> RolloutCandidate {
        let object = ObjectId { namespace: "team".into(), name: name.into(), uid: Uid(name.into()) };
        RolloutCandidate { object, canary }
    }

    /// Ten tenants at the beginning of an upgrade; two of them are canaries.
    fn begun() -> FleetFacts {
        FleetFacts {
            tenants: 10,
            behind: 10,
            canaries_behind: 2,
            canary_seconds: Some(86_400),
            next: vec![candidate("a", true), candidate("b", true), candidate("c", false)],
            ..FleetFacts::default()
        }
    }

    #[test]
    fn canaries_go_first_and_are_watched_before_the_others_follow() {
        let stage = |facts: &FleetFacts| plan_rollout(facts, &RULES);
        let names = |rollout: Rollout| rollout.rollout_slots.into_iter().map(|o| o.name).collect::<Vec<_>>();
        let mut facts = begun();
        assert_eq!(
            (stage(&facts).stage, names(stage(&facts))),
            (Stage::Canaries, vec!["a".to_owned(), "b".to_owned()])
        );
        (facts.behind, facts.canaries_behind, facts.canary_seconds) = (8, 0, Some(59));
        facts.next.drain(..2);
        assert_eq!((stage(&facts).stage, names(stage(&facts))), (Stage::Ownership, vec![]));
        facts.canary_seconds = Some(60);
        assert_eq!((stage(&facts).stage, names(stage(&facts))), (Stage::Rolling, vec!["c".to_owned()]));
        (facts.behind, facts.next) = (0, vec![]);
        assert_eq!(stage(&facts).stage, Stage::Done);
    }

    #[test]
    fn of_several_databases_every_canary_goes_first_and_the_last_of_them_is_waited_for() {
        let other = FleetFacts {
            tenants: 3,
            behind: 2,
            canaries_behind: 1,
            canary_seconds: Some(5),
            versions: [(1, 2), (2, 1)].into(),
            next: vec![candidate("x", true), candidate("y", false)],
            ..FleetFacts::default()
        };
        let one = FleetFacts { versions: [(1, 10)].into(), ..begun() };
        let all = FleetFacts::default().merge(one.clone()).merge(other.clone());
        assert_eq!((all.tenants, all.behind, all.canaries_behind, all.canary_seconds), (13, 12, 3, Some(5)));
        assert_eq!(all.versions, [(1, 12), (2, 1)].into());
        let names: Vec<_> = plan_rollout(&all, &RULES).rollout_slots.into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["a", "b", "x"]);
        let failed = FleetFacts { blocked: 1, canaries_blocked: 1, ..other };
        assert_eq!(plan_rollout(&one.merge(failed), &RULES).stage, Stage::Halted, "one fleet");
    }

    #[test]
    fn a_canary_that_fails_halts_all_and_others_only_when_there_are_too_many() {
        let stage = |change: fn(&mut FleetFacts)| {
            let mut facts = FleetFacts { behind: 8, canaries_behind: 0, ..begun() };
            change(&mut facts);
            let rollout = plan_rollout(&facts, &RULES);
            assert!(rollout.stage != Stage::Halted || rollout.rollout_slots.is_empty());
            rollout.stage
        };
        assert_eq!(stage(|f| f.blocked = 1), Stage::Rolling);
        assert_eq!(stage(|f| f.blocked = 2), Stage::Halted);
        assert_eq!(stage(|f| (f.blocked, f.canaries_blocked, f.canaries_behind) = (1, 1, 2)), Stage::Halted);
        assert_eq!(stage(|f| (f.behind, f.blocked) = (1, 1)), Stage::Halted, "nobody is left but who failed");
    }
}
