//! One operator process: the seam to the model's world, where it can crash, be refused, lose a reply, be interrupted,
//! be superseded, or read an old view.

use super::state::{CLUSTER, FORMER, Key, State, transient};
use agent_tenancy::{
    api::{AgentConfig, Tenant},
    controller::reconcile::{
        outcome::ReconcileOutcome,
        reconciled::{Form, reconcile},
    },
    domain::ident::{Epoch, NamePrefix, ObjectId},
    effects::error::EffectError,
    plan::{
        installation::{Installation, InstanceTraits, Predecessors},
        step::Done,
    },
};
use futures::FutureExt;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

/// What goes wrong at one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The process ends just before it.
    CrashBefore,
    /// The process ends just after it.
    CrashAfter,
    /// It happens, and an error is returned.
    ReplyLost,
    /// It does not happen, and an error is returned.
    Refused,
    /// All other objects have a reconcile just before it.
    Interrupted,
    /// Another operator takes over just before it, works until it rests, and this one goes on.
    Superseded,
}

impl Mode {
    pub const ALL: [Self; 6] =
        [Self::CrashBefore, Self::CrashAfter, Self::ReplyLost, Self::Refused, Self::Interrupted, Self::Superseded];
}

/// The part of the world of which an old view is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Object,
    TenantIdClaims,
    Agents,
    Entry,
    Replicas,
    Database,
}

impl Part {
    pub const ALL: [Self; 6] =
        [Self::Object, Self::TenantIdClaims, Self::Agents, Self::Entry, Self::Replicas, Self::Database];
}

/// The number of an effect, and what goes wrong there.
#[derive(Clone, Copy)]
pub struct Failpoint {
    pub effect: usize,
    pub mode: Mode,
}

#[derive(Default)]
pub struct Faults {
    /// Effects tried so far.
    pub count: usize,
    pub at: Option<Failpoint>,
    /// It went wrong.
    pub fired: bool,
    /// The part that the next reconcile sees as it was this many effects ago.
    pub stale: Option<(Part, usize)>,
    /// The process ends before this effect.
    pub ends_at: Option<usize>,
    dead: bool,
    busy: Option<Key>,
    view: Option<(Part, Arc<State>)>,
}

/// The world that operators share, and its past.
pub struct Shared {
    pub state: Mutex<State>,
    pub past: Mutex<VecDeque<Arc<State>>>,
    pub keep_past: bool,
}

pub struct Operator {
    pub shared: Arc<Shared>,
    pub epoch: i32,
    pub faults: Mutex<Faults>,
}

impl Operator {
    pub fn first(state: State, keep_past: bool) -> Self {
        let epoch = state.leader;
        let shared = Shared { state: Mutex::new(state), past: Mutex::default(), keep_past };
        Self::over(Arc::new(shared), epoch)
    }

    fn over(shared: Arc<Shared>, epoch: i32) -> Self {
        Self { shared, epoch, faults: Mutex::default() }
    }

    /// A new process takes the Lease. It remembers nothing.
    pub fn successor(&self) -> Self {
        let mut state = self.state();
        state.leader += 1;
        state.dropped.clear();
        let epoch = state.leader;
        drop(state);
        Self::over(Arc::clone(&self.shared), epoch)
    }

    /// The same, in place of this process; the count of effects and what is still to go wrong are kept.
    pub fn restart(&mut self) {
        let next = self.successor();
        let mut faults = self.faults.lock().unwrap();
        (faults.dead, faults.ends_at, faults.stale, faults.view) = (false, None, None, None);
        drop(faults);
        self.epoch = next.epoch;
    }

    pub fn is_dead(&self) -> bool {
        self.faults.lock().unwrap().dead
    }

    /// It crashed, or it lost the Lease: then a process ends itself.
    pub fn has_ended(&self) -> bool {
        self.is_dead() || self.state().leader != self.epoch
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    pub fn installation(&self) -> Installation {
        let state = self.state();
        let (schema_version, own) = (state.schema_version, state.own.clone());
        drop(state);
        Installation {
            instance: InstanceTraits {
                name: super::state::INSTANCE.to_owned(),
                prefix: NamePrefix::parse(super::state::PREFIX).unwrap(),
                archive_seconds: super::state::ARCHIVE_SECONDS,
            },
            others: Vec::new(),
            cluster_id: CLUSTER.to_owned(),
            predecessors: Predecessors { cluster_ids: vec![FORMER.to_owned()], heartbeat_timeout_seconds: 600 },
            epoch: Epoch(self.epoch),
            schema_version,
            custom_migrations: own,
            signer_grace_seconds: 300,
            ack_timeout_seconds: super::state::ACK_TIMEOUT,
        }
    }

    /// The state as it was, if an old view of this part is shown in this reconcile.
    pub fn view(&self, part: Part) -> Option<Arc<State>> {
        let faults = self.faults.lock().unwrap();
        faults.view.as_ref().filter(|(p, _)| *p == part).map(|(_, state)| Arc::clone(state))
    }

    /// Begins a reconcile: fixes the old view that it will have, if it is to have one.
    fn begin(&self, key: &Key) {
        let mut faults = self.faults.lock().unwrap();
        let past = self.shared.past.lock().unwrap();
        faults.view = faults.stale.take().and_then(|(part, age)| Some((part, Arc::clone(past.iter().rev().nth(age)?))));
        faults.busy = Some(key.clone());
        let stale = faults.view.is_some();
        drop(faults);
        self.state().stale |= stale;
    }

    fn end(&self) {
        let mut faults = self.faults.lock().unwrap();
        (faults.busy, faults.view) = (None, None);
    }

    /// A reconcile with an old version of an object can't write to it: the request carries the version.
    pub fn check_version(&self, state: &State, id: &ObjectId) -> Result<(), EffectError> {
        let key = (id.namespace.clone(), id.name.clone());
        let version = |s: &State| {
            let tenant = s.tenants.get(&key).map(|t| &t.metadata);
            let meta = tenant.or(s.agents.get(&key).map(|a| &a.metadata));
            meta.and_then(|m| m.resource_version.clone())
        };
        let old = self.view(Part::Object).and_then(|s| version(&s));
        if old.is_some() && old != version(state) { Err(transient("the object changed")) } else { Ok(()) }
    }

    /// Does one effect, or what goes wrong with it.
    pub fn effect(&self, apply: impl FnOnce(&mut State) -> Result<Done, EffectError>) -> Result<Done, EffectError> {
        let mode = {
            let mut faults = self.faults.lock().unwrap();
            if faults.dead {
                return Err(transient("the process has ended"));
            }
            let n = faults.count;
            if faults.ends_at.is_some_and(|end| n >= end) {
                faults.dead = true;
                return Err(transient("the process has ended"));
            }
            faults.count += 1;
            let mode = faults.at.filter(|at| at.effect == n).map(|at| at.mode);
            faults.fired |= mode.is_some();
            faults.dead = matches!(mode, Some(Mode::CrashBefore | Mode::CrashAfter));
            mode
        };
        match mode {
            Some(Mode::CrashBefore) => return Err(transient("the process has ended")),
            Some(Mode::Refused) => return Err(transient("the connection was refused")),
            Some(Mode::Interrupted) => self.pass_others(),
            Some(Mode::Superseded) => super::run::settle(&mut self.successor()),
            Some(Mode::CrashAfter | Mode::ReplyLost) | None => {}
        }
        let mut state = self.state();
        if state.leader != self.epoch {
            let mut error = transient("another operator leads");
            error.fenced = true;
            return Err(error);
        }
        let (writes, before) = (state.writes, self.shared.keep_past.then(|| Arc::new(state.clone())));
        let done = apply(&mut state);
        if let Some(before) = before.filter(|_| state.writes > writes) {
            let mut past = self.shared.past.lock().unwrap();
            past.push_back(before);
            if past.len() > 8 {
                past.pop_front();
            }
        }
        match mode {
            Some(Mode::CrashAfter | Mode::ReplyLost) => done.and(Err(transient("the connection was lost"))),
            Some(_) | None => done,
        }
    }

    /// An effect on the database: nothing is changed by an operator that a later one has fenced off.
    pub fn database_effect(
        &self,
        apply: impl FnOnce(&mut State) -> Result<Done, EffectError>,
    ) -> Result<Done, EffectError> {
        self.effect(|state| {
            if !state.database.up {
                return Err(transient("the database does not answer"));
            }
            if super::database::changed(state).is_some() {
                return Err(transient("it is another database"));
            }
            state.database.epoch = state.database.epoch.max(self.epoch);
            if state.database.epoch != self.epoch {
                return Err(transient("fenced off"));
            }
            apply(state)
        })
    }

    pub fn pass_tenant(&self, key: &Key) -> ReconcileOutcome {
        self.begin(key);
        let now = self.state().tenants.get(key).cloned();
        let old = self.view(Part::Object).and_then(|s| s.tenants.get(key).cloned());
        let Some(tenant) = old.or(now) else { return ReconcileOutcome { gone: true, ..ReconcileOutcome::default() } };
        let outcome = self.run_tenant(&tenant, Form::Whole);
        self.end();
        outcome
    }

    pub fn run_tenant(&self, tenant: &Tenant, form: Form<'_>) -> ReconcileOutcome {
        let installation = self.installation();
        reconcile(self, tenant, form, &installation, || self.state().now).now_or_never().unwrap()
    }

    pub fn pass_agent(&self, key: &Key) -> ReconcileOutcome {
        self.begin(key);
        let now = self.state().agents.get(key).cloned();
        let old = self.view(Part::Object).and_then(|s| s.agents.get(key).cloned());
        let Some(agent) = old.or(now) else { return ReconcileOutcome { gone: true, ..ReconcileOutcome::default() } };
        let outcome = self.run_agent(&agent, Form::Whole);
        self.end();
        outcome
    }

    pub fn run_agent(&self, agent: &AgentConfig, form: Form<'_>) -> ReconcileOutcome {
        let installation = self.installation();
        reconcile(self, agent, form, &installation, || self.state().now).now_or_never().unwrap()
    }

    /// One reconcile of every other object, while one is in the middle of its own.
    fn pass_others(&self) {
        let busy = self.faults.lock().unwrap().busy.clone();
        let (tenants, agents) = super::run::keys(&self.state());
        for key in agents.iter().filter(|k| Some(*k) != busy.as_ref()) {
            let agent = self.state().agents.get(key).cloned();
            agent.map(|a| self.run_agent(&a, Form::Whole));
        }
        for key in tenants.iter().filter(|k| Some(*k) != busy.as_ref()) {
            let tenant = self.state().tenants.get(key).cloned();
            tenant.map(|t| self.run_tenant(&t, Form::Whole));
        }
    }
}
