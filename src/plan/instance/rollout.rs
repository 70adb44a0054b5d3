//! Rolling a migration out to all tenants: which tenants may begin. A few tenants first (canaries), a pause to see how they do, then
//! the others, a few at a time; and nobody any more when too many failed. Decided from the ledger each time, so that a
//! restart, or another leader, goes on where the last one was.

use crate::domain::ident::ObjectId;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};

/// The rules of a rollout.
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

/// What the ledger says of the tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RolloutFacts {
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
    /// Some of those that are behind and not blocked, in the order in which they may begin.
    pub next: Vec<RolloutCandidate>,
}

impl RolloutFacts {
    /// Together with those of another database: one rollout, and the canaries of each database go first.
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

/// A tenant that waits for its slot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RolloutCandidate {
    /// Its Tenant.
    #[serde(flatten)]
    pub object: ObjectId,
    /// It is a canary.
    pub canary: bool,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RolloutStage {
    /// Every tenant is up to date.
    Done,
    /// The canaries are under way.
    Canaries,
    /// The canaries are done, and are being watched for a while.
    Holding,
    /// The other tenants are under way.
    Rolling,
    /// Too many tenants failed, or a canary did: no other tenant starts until that is fixed.
    Halted,
}

impl RolloutStage {
    /// Every stage.
    pub const ALL: [Self; 5] = [Self::Done, Self::Canaries, Self::Holding, Self::Rolling, Self::Halted];

    /// Label value for metrics and logs, and the reason of a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Canaries => "Canaries",
            Self::Holding => "Holding",
            Self::Rolling => "Rolling",
            Self::Halted => "Halted",
        }
    }
}

impl fmt::Display for RolloutStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tenants that may begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// How far it is.
    pub stage: RolloutStage,
    /// The tenants that may begin, in order; no more than [`RolloutRules::parallel`] of them at the same time.
    pub rollout_slots: Vec<ObjectId>,
}

/// Decides.
pub fn plan_rollout(facts: &RolloutFacts, rules: &RolloutRules) -> Rollout {
    let stage = resolve_stage(facts, rules);
    let all = facts.next.iter();
    let rollout_slots = match stage {
        RolloutStage::Done | RolloutStage::Holding | RolloutStage::Halted => Vec::new(),
        RolloutStage::Canaries => all.filter(|c| c.canary).map(|c| c.object.clone()).collect(),
        RolloutStage::Rolling => all.map(|c| c.object.clone()).collect(),
    };
    Rollout { stage, rollout_slots }
}

fn resolve_stage(facts: &RolloutFacts, rules: &RolloutRules) -> RolloutStage {
    if facts.behind == 0 {
        return RolloutStage::Done;
    }
    if facts.canaries_blocked > 0 || facts.blocked > rules.max_failures || facts.blocked >= facts.behind {
        return RolloutStage::Halted;
    }
    if facts.canaries_behind > 0 {
        return RolloutStage::Canaries;
    }
    match facts.canary_seconds {
        Some(seconds) if seconds < rules.hold_seconds => RolloutStage::Holding,
        Some(_) | None => RolloutStage::Rolling,
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
    fn begun() -> RolloutFacts {
        RolloutFacts {
            tenants: 10,
            behind: 10,
            canaries_behind: 2,
            canary_seconds: Some(86_400),
            next: vec![candidate("a", true), candidate("b", true), candidate("c", false)],
            ..RolloutFacts::default()
        }
    }

    #[test]
    fn canaries_go_first_and_are_watched_before_the_others_follow() {
        let stage = |facts: &RolloutFacts| plan_rollout(facts, &RULES);
        let names = |rollout: Rollout| rollout.rollout_slots.into_iter().map(|o| o.name).collect::<Vec<_>>();
        let mut facts = begun();
        assert_eq!(
            (stage(&facts).stage, names(stage(&facts))),
            (RolloutStage::Canaries, vec!["a".to_owned(), "b".to_owned()])
        );
        (facts.behind, facts.canaries_behind, facts.canary_seconds) = (8, 0, Some(59));
        facts.next.drain(..2);
        assert_eq!((stage(&facts).stage, names(stage(&facts))), (RolloutStage::Holding, vec![]));
        facts.canary_seconds = Some(60);
        assert_eq!((stage(&facts).stage, names(stage(&facts))), (RolloutStage::Rolling, vec!["c".to_owned()]));
        (facts.behind, facts.next) = (0, vec![]);
        assert_eq!(stage(&facts).stage, RolloutStage::Done);
    }

    #[test]
    fn of_several_databases_every_canary_goes_first_and_the_last_of_them_is_waited_for() {
        let other = RolloutFacts {
            tenants: 3,
            behind: 2,
            canaries_behind: 1,
            canary_seconds: Some(5),
            versions: [(1, 2), (2, 1)].into(),
            next: vec![candidate("x", true), candidate("y", false)],
            ..RolloutFacts::default()
        };
        let one = RolloutFacts { versions: [(1, 10)].into(), ..begun() };
        let all = RolloutFacts::default().merge(one.clone()).merge(other.clone());
        assert_eq!((all.tenants, all.behind, all.canaries_behind, all.canary_seconds), (13, 12, 3, Some(5)));
        assert_eq!(all.versions, [(1, 12), (2, 1)].into());
        let names: Vec<_> = plan_rollout(&all, &RULES).rollout_slots.into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["a", "b", "x"]);
        let failed = RolloutFacts { blocked: 1, canaries_blocked: 1, ..other };
        assert_eq!(plan_rollout(&one.merge(failed), &RULES).stage, RolloutStage::Halted, "one rollout");
    }

    #[test]
    fn a_canary_that_fails_halts_all_and_others_only_when_there_are_too_many() {
        let stage = |change: fn(&mut RolloutFacts)| {
            let mut facts = RolloutFacts { behind: 8, canaries_behind: 0, ..begun() };
            change(&mut facts);
            let rollout = plan_rollout(&facts, &RULES);
            assert!(rollout.stage != RolloutStage::Halted || rollout.rollout_slots.is_empty());
            rollout.stage
        };
        assert_eq!(stage(|f| f.blocked = 1), RolloutStage::Rolling);
        assert_eq!(stage(|f| f.blocked = 2), RolloutStage::Halted);
        assert_eq!(stage(|f| (f.blocked, f.canaries_blocked, f.canaries_behind) = (1, 1, 2)), RolloutStage::Halted);
        assert_eq!(stage(|f| (f.behind, f.blocked) = (1, 1)), RolloutStage::Halted, "only failed tenants are left");
    }
}
