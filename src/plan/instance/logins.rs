//! Rotating the login that the agent API uses in a cell: facts in, the next step out.
//!
//! The next password is kept beside the cell's entry before the database knows it (`Prepare`); the database lets the idle
//! login in with it (`Set`) before the entry says so (`Switch`); replicas try a new login before they acknowledge it; and
//! the login before it is locked (`Lock`) once every replica acknowledged the entry and no session uses it any more. Each
//! step is seen in the entry or in the database, so that the next one is found after any crash.

use crate::domain::{
    ident::{CellNumber, Incarnation, LoginId, Version},
    logins::{LoginMark, LoginRequests, LoginSlot, NextLogin},
};
use crate::plan::{
    acks::{Acknowledged, judge_acknowledged},
    observed::{LastReference, Replicas},
};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeSet;

/// What the database says of a cell's logins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LoginFacts {
    /// The cell.
    pub cell: CellNumber,
    /// The login that is in use, or about to be.
    pub active: LoginSlot,
    /// Its password.
    pub login_id: Option<LoginId>,
    /// How long it has had that password.
    pub age_seconds: u64,
    /// The last requests that were fulfilled.
    pub handled: LoginRequests,
    /// The first login; none if the role is gone.
    pub a: Option<LoginRoleFacts>,
    /// The second.
    pub b: Option<LoginRoleFacts>,
}

/// What the database says of one login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct LoginRoleFacts {
    /// It may log in.
    pub can_login: bool,
    /// Sessions that use it.
    pub sessions: u64,
}

/// What the registry says of a cell's login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    /// Version of the Secret.
    pub version: Version,
    /// The login that the entry names for the replicas.
    pub slot: LoginSlot,
    /// Which password the entry has.
    pub mark: Option<LoginMark>,
    /// The login that is prepared.
    pub next: Option<NextLogin>,
    /// What people ask for.
    pub asked: LoginRequests,
}

/// The registry's side of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellEntryView {
    /// Nothing of that name is there.
    Missing,
    /// It is there and can't be read, or names a login that is not this cell's.
    Damaged,
    /// It is there.
    Read(EntryFacts),
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellView {
    /// The database's side.
    pub facts: LoginFacts,
    /// The registry's side.
    pub entry: CellEntryView,
    /// The tenants that the cell serves.
    pub tenants: BTreeSet<Incarnation>,
}

/// What rotations go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Oldest age of a password, in seconds; 0: any.
    pub period_seconds: u64,
    /// How long to wait for a replica that does not answer.
    pub ack_timeout_seconds: i64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginStep {
    /// Recreate the lost entry, with the login that is not in use.
    Restore,
    /// Keep another login beside the entry; with a password that is there already, or a new one.
    Prepare {
        /// Which of the two.
        slot: LoginSlot,
        /// What it will have fulfilled.
        requests: LoginRequests,
        /// The one that is there already.
        keep: Option<NextLogin>,
    },
    /// Let the prepared login in.
    Set(NextLogin),
    /// Publish it to the replicas.
    Switch(NextLogin),
    /// Take LOGIN from the login that is not in use.
    Lock {
        /// Which of the two.
        slot: LoginSlot,
        /// Also while sessions use it.
        force: bool,
        /// Replicas that did not acknowledge the new one in time.
        replicas_timed_out: Vec<String>,
    },
    /// End the sessions of the login that was locked.
    EndSessions {
        /// Which of the two.
        slot: LoginSlot,
    },
}

/// What a rotation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginWait {
    /// These replicas have not acknowledged the new login yet; until this time.
    Replicas(Vec<String>, Timestamp),
    /// These replicas can't use the new login. They go on with the one before it, which therefore stays.
    Refusing(Vec<String>),
    /// So many sessions use the login before it. They are left alone.
    Sessions(u64),
    /// The entry can't be read.
    DamagedEntry,
    /// A login's role is gone from the database.
    RoleGone(LoginSlot),
}

impl LoginStep {
    /// Label value for metrics and logs: what is done then.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Restore => "restored",
            Self::Prepare { .. } => "prepared",
            Self::Set(_) => "set",
            Self::Switch(_) => "switched",
            Self::Lock { .. } => "locked",
            Self::EndSessions { .. } => "sessions_ended",
        }
    }
}

impl LoginWait {
    /// Every label value.
    pub const LABELS: [&'static str; 5] =
        ["replicas", "refusing_replicas", "sessions", "damaged_entry", "missing_role"];

    /// Label value for metrics.
    pub const fn as_str(&self) -> &'static str {
        let [replicas, refusing, sessions, damaged, missing] = Self::LABELS;
        match self {
            Self::Replicas(..) => replicas,
            Self::Refusing(_) => refusing,
            Self::Sessions(_) => sessions,
            Self::DamagedEntry => damaged,
            Self::RoleGone(_) => missing,
        }
    }
}

/// What to do for one cell now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginPlan {
    /// This.
    Step(LoginStep),
    /// The same, but nobody asked for it: one such cell at a time.
    Scheduled(LoginStep),
    /// Nothing but wait.
    Wait(LoginWait),
    /// Nothing for so many seconds; none: nothing by itself.
    Rest(Option<u64>),
}

/// Plans the next step of one cell.
pub fn plan_login(cell: &CellView, rules: Rules, replicas: &Replicas, now: Timestamp) -> LoginPlan {
    let facts = &cell.facts;
    let entry = match &cell.entry {
        CellEntryView::Missing => return LoginPlan::Step(LoginStep::Restore),
        CellEntryView::Damaged => return LoginPlan::Wait(LoginWait::DamagedEntry),
        CellEntryView::Read(entry) => entry,
    };
    let idle = entry.slot.other();
    let Some(role) = role_of(facts, idle) else { return LoginPlan::Wait(LoginWait::RoleGone(idle)) };
    let asked = unhandled(&entry.asked, &facts.handled);
    let rotation = Rotation { cell, entry, idle, role, asked };
    if let Some(next) = &entry.next {
        return LoginPlan::Step(rotation.plan_next(next).unwrap_or_else(|keep| rotation.prepare(keep)));
    }
    let in_use = entry.mark.as_ref().map(|mark| mark.id);
    if facts.active != entry.slot || facts.login_id != in_use {
        // The database has a login of which no password is kept.
        return LoginPlan::Step(rotation.prepare(None));
    }
    if let Some(plan) = rotation.plan_end(rules, replicas, now) {
        // A requested rotation does not wait for sessions of the previous login.
        let only_sessions = matches!(plan, LoginPlan::Wait(LoginWait::Sessions(_)));
        let goes_on = only_sessions && rotation.asked.rotation.is_some();
        return if goes_on { LoginPlan::Step(rotation.prepare(None)) } else { plan };
    }
    if rotation.asked != LoginRequests::default() {
        return LoginPlan::Step(rotation.prepare(None));
    }
    match due_after(rules.period_seconds, facts.cell).map(|due| due.saturating_sub(facts.age_seconds)) {
        Some(0) => LoginPlan::Scheduled(rotation.prepare(None)),
        left => LoginPlan::Rest(left),
    }
}

/// A cell with a readable entry.
struct Rotation<'a> {
    cell: &'a CellView,
    entry: &'a EntryFacts,
    /// The login that is not in use.
    idle: LoginSlot,
    /// What the database says of that one.
    role: LoginRoleFacts,
    /// What no rotation has fulfilled yet.
    asked: LoginRequests,
}

impl Rotation<'_> {
    fn prepare(&self, keep: Option<NextLogin>) -> LoginStep {
        LoginStep::Prepare { slot: self.idle, requests: self.asked.clone(), keep }
    }

    /// The next step with a login that is prepared; `Err` with it if it has to be prepared differently.
    fn plan_next(&self, next: &NextLogin) -> Result<LoginStep, Option<NextLogin>> {
        let Self { cell: CellView { facts, .. }, idle, role, asked, .. } = self;
        if next.slot != *idle {
            return Err(None);
        }
        let set = facts.active == next.slot && facts.login_id == Some(next.id);
        // A revocation that is asked for meanwhile turns a rotation into one. What is set in the database has been counted as
        // fulfilling what it was asked for; the next rotation fulfils what came later.
        if !set && asked.revocation.is_some() && next.requests.revocation != asked.revocation {
            return Err(Some(next.clone()));
        }
        // The login before the last one may be what leaked, too.
        let left = facts.active != next.slot && (role.can_login || role.sessions > 0);
        if next.requests.revocation.is_some() && left {
            let end = if role.can_login {
                LoginStep::Lock { slot: *idle, force: true, replicas_timed_out: Vec::new() }
            } else {
                LoginStep::EndSessions { slot: *idle }
            };
            return Ok(end);
        }
        Ok(if set { LoginStep::Switch(next.clone()) } else { LoginStep::Set(next.clone()) })
    }

    /// How the login that was in use before comes to its end; none if it has.
    fn plan_end(&self, rules: Rules, replicas: &Replicas, now: Timestamp) -> Option<LoginPlan> {
        let Self { cell, entry, idle, role, asked } = self;
        let slot = *idle;
        let urgent = asked.revocation.is_some() || entry.mark.as_ref().is_some_and(|mark| mark.revokes);
        if !role.can_login {
            let end = urgent && role.sessions > 0;
            return end.then_some(LoginPlan::Step(LoginStep::EndSessions { slot }));
        }
        if urgent {
            return Some(LoginPlan::Step(LoginStep::Lock { slot, force: true, replicas_timed_out: Vec::new() }));
        }
        let since = entry.mark.as_ref().map(|mark| mark.since).unwrap_or_default();
        let last = LastReference { version: entry.version, since };
        let replicas_timed_out = match judge_acknowledged(last, replicas, rules.ack_timeout_seconds, now) {
            Acknowledged::Everywhere => Vec::new(),
            Acknowledged::Waiting(names, until) => return Some(LoginPlan::Wait(LoginWait::Replicas(names, until))),
            Acknowledged::TimedOut(names) => names,
        };
        let refusing = still_refusing(&cell.tenants, replicas);
        Some(if !refusing.is_empty() {
            LoginPlan::Wait(LoginWait::Refusing(refusing))
        } else if role.sessions > 0 {
            LoginPlan::Wait(LoginWait::Sessions(role.sessions))
        } else {
            LoginPlan::Step(LoginStep::Lock { slot, force: false, replicas_timed_out })
        })
    }
}

/// The running replicas that serve no tenant of the cell as written: what all of them share is the login.
fn still_refusing(tenants: &BTreeSet<Incarnation>, replicas: &Replicas) -> Vec<String> {
    let refuses = |ack: &crate::domain::ack::Acknowledgement| {
        ack.quarantine_overflow || (!tenants.is_empty() && tenants.iter().all(|t| ack.quarantined.contains_key(t)))
    };
    let running = replicas.all.iter().filter(|r| r.running);
    running.filter(|r| r.acknowledged.as_ref().is_some_and(refuses)).map(|r| r.name.clone()).collect()
}

fn role_of(facts: &LoginFacts, slot: LoginSlot) -> Option<LoginRoleFacts> {
    match slot {
        LoginSlot::A => facts.a,
        LoginSlot::B => facts.b,
    }
}

/// The requests that no rotation has fulfilled yet.
fn unhandled(asked: &LoginRequests, handled: &LoginRequests) -> LoginRequests {
    let open = |asked: &Option<String>, handled: &Option<String>| asked.clone().filter(|_| asked != handled);
    LoginRequests {
        rotation: open(&asked.rotation, &handled.rotation),
        revocation: open(&asked.revocation, &handled.revocation),
    }
}

/// The age at which a cell's login is rotated: from 80 % of the period to all of it, so that cells that were made together
/// are not rotated together.
fn due_after(period_seconds: u64, cell: CellNumber) -> Option<u64> {
    // Multiples of the golden ratio spread evenly however many there are (Knuth, TAOCP 6.4).
    let place = cell.0.unsigned_abs().wrapping_mul(2_654_435_769);
    let earlier = (u128::from(period_seconds / 5) * u128::from(place)) >> 32;
    (period_seconds > 0).then(|| period_seconds - u64::try_from(earlier).unwrap_or_default())
}

#[cfg(test)]
mod tests;
