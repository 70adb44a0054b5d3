//! Random histories: people, databases, replicas and leaders do what they like, views are old, processes end; then
//! everything is put in order, and the world must be what the specs say.

use super::{
    archives::kept_uids,
    drift::ManualEdit,
    operator::{Failpoint, Mode, Operator, Part},
    oracle::assert_converged,
    run::{assert_rest, round, settle},
    scenarios::{base, id},
    scenarios_migrations::own_files,
    state::Key,
    user::{agent_spec, key, tenant_spec},
};
use agent_tenancy::{
    api::{
        DeletionPolicy::{Archive, Delete, Retain},
        SigningAlgorithm, TenantAdoption,
    },
    domain::migrations::{TENANT_VERSION, Track},
};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

pub static TRANSITIONS: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Debug)]
pub enum Action {
    ApplyTenant { slot: usize, variant: u8 },
    DeleteTenant(usize),
    ApplyAgent { slot: usize, variant: u8 },
    DeleteAgent(usize),
    Credential(Option<u8>),
    Database(u8),
    Replica { slot: usize, what: u8 },
    Hand { slot: usize, what: u8 },
    Advance(i64),
    Acknowledge,
    Transactions { slot: usize, open: i64 },
    PassTenant(usize),
    PassAgent(usize),
    Round,
    NewLeader,
    Fault { after: usize, mode: Mode },
    Stale { part: Part, age: usize },
    Settle,
}

/// The last two claim the id of the first.
const TENANTS: [(&str, &str); 5] = [("a", "alpha"), ("a", "beta"), ("a", "gamma"), ("a", "twin"), ("b", "alpha")];
const AGENTS: [(&str, &str); 4] = [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x")];

fn tenant_key(slot: usize) -> Key {
    let (namespace, name) = TENANTS[slot % TENANTS.len()];
    key(namespace, name)
}

fn agent_key(slot: usize) -> Key {
    let (namespace, name) = AGENTS[slot % AGENTS.len()];
    key(namespace, name)
}

pub fn action() -> impl Strategy<Value = Action> {
    let slot = 0usize..5;
    prop_oneof![
        10 => (slot.clone(), any::<u8>()).prop_map(|(slot, variant)| Action::ApplyTenant { slot, variant }),
        4 => slot.clone().prop_map(Action::DeleteTenant),
        4 => (slot.clone(), any::<u8>()).prop_map(|(slot, variant)| Action::ApplyAgent { slot, variant }),
        2 => slot.clone().prop_map(Action::DeleteAgent),
        1 => proptest::option::weighted(0.8, 0u8..3).prop_map(Action::Credential),
        3 => (0u8..5).prop_map(Action::Database),
        3 => (0usize..3, 0u8..7).prop_map(|(slot, what)| Action::Replica { slot, what }),
        4 => (slot.clone(), 0u8..29).prop_map(|(slot, what)| Action::Hand { slot, what }),
        3 => prop_oneof![1i64..5, Just(61), Just(400), Just(90_000)].prop_map(Action::Advance),
        4 => Just(Action::Acknowledge),
        1 => (slot.clone(), 0i64..3).prop_map(|(slot, open)| Action::Transactions { slot, open }),
        10 => slot.clone().prop_map(Action::PassTenant),
        5 => slot.prop_map(Action::PassAgent),
        6 => Just(Action::Round),
        1 => Just(Action::NewLeader),
        4 => (0usize..8, proptest::sample::select(Mode::ALL.to_vec()))
            .prop_map(|(after, mode)| Action::Fault { after, mode }),
        2 => (
            proptest::sample::select(vec![Part::Object, Part::TenantIdClaims, Part::Agents, Part::Entry, Part::Replicas, Part::Database]),
            0usize..6
        )
            .prop_map(|(part, age)| Action::Stale { part, age }),
        2 => Just(Action::Settle),
    ]
}

fn apply(operator: &mut Operator, action: &Action) {
    match *action {
        Action::ApplyTenant { slot, variant } => {
            let configs = [&["x"][..], &["x", "y"], &["y"], &["z"], &["x", "missing"]][usize::from(variant) % 5];
            let mut spec = tenant_spec(configs, [Retain, Archive, Delete, Delete][usize::from(variant) % 4]);
            if variant % 6 == 1 {
                spec.database.adopt = Some(TenantAdoption { previous_uid: kept(operator, slot) });
            }
            if variant % 7 == 0 {
                spec.auth.max_token_seconds = 1;
            }
            if variant % 3 == 0 {
                spec.auth.audience = format!("audience-{}", variant % 2);
            }
            spec.database.storage_limit =
                [None, Some("1Gi"), Some("2Mi"), Some("1")][usize::from(variant) % 4].map(str::to_owned);
            spec.suspend = variant % 6 == 1;
            if variant % 5 == 0 {
                spec.auth.algorithm = SigningAlgorithm::EdDSA;
            }
            if slot == 3 {
                spec.tenant_id = Some("alpha".to_owned());
            }
            operator.state().apply_tenant(&tenant_key(slot), spec);
        }
        Action::DeleteTenant(slot) => operator.state().delete_tenant(&tenant_key(slot)),
        Action::ApplyAgent { slot, variant } => {
            let mut spec = agent_spec(["m1", "m2", "m3"][usize::from(variant) % 3], slot % 2 == 1);
            if variant % 9 == 0 {
                spec.parameters.max_output_tokens = 0;
            }
            operator.state().apply_agent(&agent_key(slot), spec);
        }
        Action::DeleteAgent(slot) => operator.state().delete_agent(&agent_key(slot)),
        Action::Credential(value) => operator.state().set_credential("a", value),
        Action::Database(0) => operator.state().database.up = false,
        Action::Database(1) => operator.state().replace_database(),
        Action::Database(2) => operator.state().restore_database(),
        Action::Database(_) => operator.state().database.up = true,
        Action::Replica { slot, what } => replica(operator, slot, what),
        Action::Hand { slot, what } => hand(operator, slot, what),
        Action::Advance(seconds) => operator.state().advance(seconds),
        Action::Acknowledge => {
            operator.state().acknowledge();
        }
        Action::Transactions { slot, open } => {
            let mut state = operator.state();
            let id = state.tenant_id(&tenant_key(slot));
            id.map(|id| state.database.open.insert(format!("at_{id}"), open));
        }
        Action::PassTenant(slot) => {
            operator.pass_tenant(&tenant_key(slot));
        }
        Action::PassAgent(slot) => {
            operator.pass_agent(&agent_key(slot));
        }
        Action::Round => {
            round(operator);
        }
        Action::NewLeader => operator.restart(),
        Action::Fault { after, mode } => {
            let mut faults = operator.faults.lock().unwrap();
            faults.at = Some(Failpoint { effect: faults.count + after, mode });
        }
        Action::Stale { part, age } => operator.faults.lock().unwrap().stale = Some((part, age)),
        Action::Settle => settle(operator),
    }
    if operator.has_ended() {
        operator.restart();
    }
}

/// The UID of an owner of kept data for the id of a Tenant, if there is such data.
fn kept(operator: &Operator, slot: usize) -> String {
    let (_, name) = TENANTS[slot % TENANTS.len()];
    let uids = kept_uids(&operator.state(), &id(if name == "twin" { "alpha" } else { name }));
    uids.into_iter().next().map_or_else(|| "nobody".to_owned(), |uid| uid.0)
}

fn replica(operator: &Operator, slot: usize, what: u8) {
    let mut state = operator.state();
    let incarnation = state.database.rows.get(&id("alpha")).map(|r| r.incarnation);
    if what == 0 {
        state.join();
    }
    let Some(replica) = state.replicas.get_mut(slot) else { return };
    match what {
        1 => replica.stuck = true,
        2 => replica.stuck = false,
        3 => replica.ready = !replica.ready,
        4 => replica.quarantined.extend(incarnation.map(|i| (i, "refused".to_owned()))),
        5 => replica.quarantined.clear(),
        6 => {
            state.replicas.remove(slot);
        }
        _ => {}
    }
}

fn hand(operator: &Operator, slot: usize, what: u8) {
    let mut state = operator.state();
    let key = tenant_key(slot);
    let Some(id) = state.tenant_id(&key) else { return };
    let role = format!("at_{id}");
    match what {
        0 => state.hand_delete_entry(&id),
        1 => state.hand_damage_entry(&id),
        2 => state.hand_edit_entry(&id),
        3 => state.hand_delete_keys(&key),
        4 => {
            state.database.members.remove(&role);
        }
        5 => {
            state.database.grants.remove(&role);
        }
        6 => state.strip_finalizer(&key),
        7 => state.hand_edit_keys(&key),
        8 => state.hand_damage_keys(&key),
        9 => state.copy_keys(&key),
        10 => state.put_keys_back(&key),
        11 => state.ask_rotation(&key),
        12 => state.ask_revocation(&key),
        13 => state.vanish_tenant(&key),
        14 => state.vanish_agent(&agent_key(slot)),
        24 => state.schema_version = if state.schema_version == 1 { TENANT_VERSION } else { 1 },
        25 => {
            let next = state.own.as_ref().map_or(1, |own| own.version() + 1).min(3);
            state.own = own_files(usize::try_from(next).unwrap(), 0);
        }
        26 => {
            let (track, version) = if slot.is_multiple_of(2) { (Track::Base, 2) } else { (Track::Custom, 1) };
            state.database.unfit.insert((role, track, version));
        }
        27 => {
            let value = format!("request-{}", state.id());
            state.ask_migration(&key, &value);
        }
        28 => state.rolling = !state.rolling,
        15..=22 => state.edit_by_hand(&role, ManualEdit::ALL[usize::from(what) - 15]),
        _ => {
            state.registry.remove("cell-main-1");
        }
    }
}

/// Repairs what only users can repair.
fn heal(operator: &Operator) {
    let mut faults = operator.faults.lock().unwrap();
    (faults.at, faults.stale) = (None, None);
    drop(faults);
    let mut state = operator.state();
    state.restore_database();
    state.database.up = true;
    state.database.open.clear();
    for replica in &mut state.replicas {
        (replica.stuck, replica.running, replica.ready) = (false, true, true);
        replica.quarantined.clear();
    }
    if state.replicas.is_empty() {
        state.join();
    }
    (state.schema_version, state.rolling) = (TENANT_VERSION, true);
    state.database.unfit.clear();
    let keys: Vec<Key> = state.tenants.keys().cloned().collect();
    for key in keys {
        let value = format!("request-{}", state.id());
        state.ask_migration(&key, &value);
    }
    state.take_superuser_away();
    state.delete_hopeless_keys();
}

pub fn run_history(actions: &[Action]) {
    let mut operator = Operator::first(base(), true);
    for action in actions {
        apply(&mut operator, action);
        TRANSITIONS.fetch_add(1, Ordering::Relaxed);
    }
    heal(&operator);
    settle(&mut operator);
    assert_rest(&mut operator);
    assert_converged(&operator);
}
