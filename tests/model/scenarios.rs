//! The scenarios of the crash matrix. Each settles the world where it has to converge in between.

use super::{
    operator::Operator,
    run::{round, settle},
    scenarios_agents, scenarios_drift, scenarios_keys, scenarios_migrations, scenarios_suspend,
    state::{Key, State},
    user::{agent_spec, key, tenant_spec},
};
use agent_tenancy::{
    api::DeletionPolicy::{Delete, Retain},
    domain::ident::TenantId,
    plan::observed::RowState,
};
use std::sync::LazyLock;

pub struct Scenario {
    pub name: &'static str,
    /// The state at the start.
    pub start: fn() -> State,
    pub play: fn(&mut Operator),
    /// It ends in one way only, whenever something goes wrong.
    pub one_end: bool,
}

impl Scenario {
    pub const fn new(name: &'static str, play: fn(&mut Operator)) -> Self {
        Self { name, start: settled_base, play, one_end: true }
    }
}

pub fn alpha() -> Key {
    key("a", "alpha")
}

pub fn id(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

/// Two replicas, a provider's credential, and two AgentConfigs that were not reconciled yet.
pub fn base() -> State {
    let mut state = State::new();
    state.join();
    state.join();
    state.set_credential("a", Some(1));
    state.apply_agent(&key("a", "x"), agent_spec("m1", false));
    state.apply_agent(&key("a", "y"), agent_spec("m1", true));
    state
}

/// The same, when the AgentConfigs are served.
pub fn settled_base() -> State {
    static STATE: LazyLock<State> = LazyLock::new(|| {
        let mut operator = Operator::first(base(), false);
        settle(&mut operator);
        operator.restart();
        operator.state().clone()
    });
    STATE.clone()
}

pub fn created(op: &mut Operator, policy: agent_tenancy::api::DeletionPolicy) {
    op.state().apply_tenant(&alpha(), tenant_spec(&["x", "y"], policy));
    settle(op);
}

/// Lets the operator do this many effects more, and ends it.
pub fn run_for(op: &mut Operator, effects: usize) {
    {
        let mut faults = op.faults.lock().unwrap();
        faults.ends_at = Some(faults.count + effects);
    }
    for _ in 0..4 {
        round(op);
        op.state().acknowledge();
    }
    op.restart();
}

/// A Tenant is deleted after so many effects of its creation.
fn deleted_after<const EFFECTS: usize>(op: &mut Operator, policy: agent_tenancy::api::DeletionPolicy) {
    op.state().apply_tenant(&alpha(), tenant_spec(&["x"], policy));
    run_for(op, EFFECTS);
    op.state().delete_tenant(&alpha());
    settle(op);
}

const fn stage<const EFFECTS: usize>() -> [Scenario; 2] {
    let dropped = Scenario::new("deleted at a stage of its creation", |op| deleted_after::<EFFECTS>(op, Delete));
    let kept = Scenario::new("retained at a stage of its creation", |op| deleted_after::<EFFECTS>(op, Retain));
    [Scenario { one_end: false, ..dropped }, Scenario { one_end: false, ..kept }]
}

fn hand_edits(op: &mut Operator) {
    created(op, Delete);
    let edits: [fn(&mut State); 8] = [
        |s| s.hand_delete_entry(&id("alpha")),
        |s| s.hand_edit_entry(&id("alpha")),
        |s| s.hand_damage_entry(&id("alpha")),
        |s| s.hand_delete_keys(&alpha()),
        |s| s.database.members.clear(),
        |s| s.database.grants.clear(),
        |s| s.strip_finalizer(&alpha()),
        |s| {
            s.registry.remove("cell-main-1");
        },
    ];
    for edit in edits {
        edit(&mut op.state());
        settle(op);
    }
}

fn gone_while_edited(op: &mut Operator) {
    let edits: [fn(&mut State); 5] = [
        |s| s.hand_delete_entry(&id("alpha")),
        |s| s.hand_damage_entry(&id("alpha")),
        |s| s.hand_delete_keys(&alpha()),
        |s| s.database.members.clear(),
        |s| {
            if let Some(secret) = s.secrets.get_mut(&key("a", "alpha-signing-keys")) {
                secret.data.clear();
            }
        },
    ];
    for edit in edits {
        created(op, Delete);
        edit(&mut op.state());
        op.state().delete_tenant(&alpha());
        settle(op);
        assert!(op.state().tenants.is_empty() && op.state().secrets.is_empty());
    }
}

/// Its object goes: alone, with its entry, with its entry damaged, and while a replica is silent and a database away; and
/// a new one of the same name comes at once.
fn vanished(op: &mut Operator) {
    let edits: [fn(&mut State); 5] = [
        |_| (),
        |s| s.hand_delete_entry(&id("alpha")),
        |s| s.hand_damage_entry(&id("alpha")),
        |s| s.replicas[0].stuck = true,
        |s| s.database.up = false,
    ];
    for edit in edits {
        created(op, Delete);
        edit(&mut op.state());
        op.state().vanish_tenant(&alpha());
        op.state().advance(1);
        op.state().apply_tenant(&alpha(), tenant_spec(&["x"], Delete));
        settle(op);
        let mut state = op.state();
        state.database.up = true;
        state.replicas[0].stuck = false;
        drop(state);
        settle(op);
        let mut state = op.state();
        assert!(state.secrets.is_empty() && state.tenant_entry(&id("alpha")).is_none());
        assert!(state.database.schemas.contains_key("at_alpha") && state.database.members.is_empty());
        assert_eq!(state.database.rows[&id("alpha")].state, RowState::Retained);
        // A person decides that the kept data may go.
        state.delete_tenant(&alpha());
        drop(state);
        settle(op);
        let mut state = op.state();
        assert!(state.tenants.is_empty());
        state.database.rows.clear();
        state.database.schemas.clear();
        state.database.roles.clear();
        state.database.grants.clear();
    }
}

fn vanished_halfway(op: &mut Operator) {
    op.state().apply_tenant(&alpha(), tenant_spec(&["x"], Delete));
    run_for(op, 5);
    op.state().vanish_tenant(&alpha());
    settle(op);
    assert!(op.state().secrets.is_empty() && op.state().database.members.is_empty());
}

fn outages(op: &mut Operator) {
    op.state().database.up = false;
    created(op, Delete);
    op.state().database.up = true;
    settle(op);
    op.state().apply_tenant(&key("a", "beta"), tenant_spec(&["x"], Retain));
    run_for(op, 2);
    op.state().database.up = false;
    settle(op);
    op.state().delete_tenant(&alpha());
    settle(op);
    assert!(op.state().tenants.contains_key(&alpha()), "a dead database holds a deletion up");
    op.state().database.up = true;
    settle(op);
}

fn replaced_database(op: &mut Operator) {
    created(op, Delete);
    op.state().replace_database();
    op.state().apply_tenant(&key("a", "beta"), tenant_spec(&["x"], Delete));
    settle(op);
    op.state().delete_tenant(&alpha());
    settle(op);
    {
        let state = op.state();
        assert!(state.database.rows.is_empty() && state.database.schemas.is_empty(), "made in the wrong database");
        assert!(state.tenants.contains_key(&alpha()));
    }
    op.state().restore_database();
    settle(op);
}

fn slow_replicas(op: &mut Operator) {
    created(op, Retain);
    op.state().apply_tenant(&key("a", "beta"), tenant_spec(&["x"], Delete));
    settle(op);
    op.state().replicas[0].stuck = true;
    op.state().database.open.insert("at_beta".to_owned(), 2);
    op.state().delete_tenant(&alpha());
    op.state().delete_tenant(&key("a", "beta"));
    settle(op);
    op.state().replicas[0].stuck = false;
}

fn replicas_come_and_go(op: &mut Operator) {
    op.state().replicas.clear();
    created(op, Delete);
    op.state().join();
    settle(op);
    let incarnation = op.state().database.rows[&id("alpha")].incarnation;
    op.state().replicas[0].quarantined.insert(incarnation, "it does not like it".to_owned());
    let mut spec = tenant_spec(&["x"], Delete);
    spec.auth.audience = "other".to_owned();
    op.state().apply_tenant(&alpha(), spec);
    settle(op);
    op.state().replicas[0].quarantined.clear();
    op.state().join();
    settle(op);
    op.state().replicas.remove(0);
    settle(op);
}

fn rivals(op: &mut Operator) {
    created(op, Delete);
    op.state().set_credential("b", Some(2));
    op.state().apply_agent(&key("b", "x"), agent_spec("m1", false));
    op.state().advance(1);
    let loser = key("b", "second");
    let mut spec = tenant_spec(&["x"], Delete);
    spec.tenant_id = Some("alpha".to_owned());
    op.state().apply_tenant(&loser, spec.clone());
    settle(op);
    op.state().delete_tenant(&loser);
    settle(op);
    op.state().apply_tenant(&loser, spec);
    settle(op);
    op.state().delete_tenant(&alpha());
    settle(op);
}

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    let mut all = scenarios();
    all.extend(scenarios_agents::all());
    all.extend(scenarios_suspend::all());
    all.extend(super::scenarios_archives::scenarios());
    all.extend(
        [stage::<0>(), stage::<1>(), stage::<2>(), stage::<3>(), stage::<4>(), stage::<5>()].into_iter().flatten(),
    );
    all.extend([stage::<6>(), stage::<7>(), stage::<8>(), stage::<9>(), stage::<10>()].into_iter().flatten());
    all
}

fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { start: base, ..Scenario::new("create", |op| created(op, Delete)) },
        Scenario::new("update", |op| {
            created(op, Delete);
            let mut spec = tenant_spec(&["y"], Retain);
            spec.auth.audience = "other".to_owned();
            op.state().apply_tenant(&alpha(), spec);
            settle(op);
        }),
        Scenario::new("delete", |op| {
            created(op, Delete);
            op.state().delete_tenant(&alpha());
            settle(op);
        }),
        Scenario::new("retain, then the same name again", |op| {
            created(op, Retain);
            op.state().delete_tenant(&alpha());
            settle(op);
            created(op, Retain);
        }),
        Scenario::new("delete, then the same name again", |op| {
            created(op, Delete);
            op.state().delete_tenant(&alpha());
            settle(op);
            created(op, Delete);
        }),
        Scenario::new("two claim one id", rivals),
        Scenario::new("the database is away", outages),
        Scenario::new("another database stands in", replaced_database),
        Scenario::new("keys rotate", scenarios_keys::rotations),
        Scenario::new("keys are revoked", scenarios_keys::revocations),
        Scenario::new("a replica holds a rotation", scenarios_keys::held_rotation),
        Scenario::new("keys edited, lost and put back by hand", scenarios_keys::keys_by_hand),
        Scenario::new("edited by hand", hand_edits),
        Scenario::new("role, schema and tables changed by hand", scenarios_drift::edited),
        Scenario::new("tables brought to a new version", scenarios_migrations::upgraded),
        Scenario::new("a migration fails, and is asked for again", scenarios_migrations::failed),
        Scenario::new("migrations changed, and tables too new", scenarios_migrations::changed_and_newer),
        Scenario { one_end: false, ..Scenario::new("old data taken over", scenarios_migrations::adopted) },
        Scenario::new("upgraded out of service, and deleted", scenarios_migrations::suspended_and_deleted),
        Scenario::new("lost and given up", scenarios_drift::given_up),
        Scenario::new("lost, given up and deleted", scenarios_drift::given_up_and_deleted),
        Scenario::new("finalizer taken off, deleted: kept, and nothing served", |op| {
            created(op, Delete);
            op.state().strip_finalizer(&alpha());
            op.state().delete_tenant(&alpha());
            settle(op);
            let state = op.state();
            assert!(state.secrets.is_empty() && state.tenant_entry(&id("alpha")).is_none());
            assert!(state.database.schemas.contains_key("at_alpha") && state.database.members.is_empty());
        }),
        Scenario::new("vanished: kept, and nothing served", vanished),
        Scenario { one_end: false, ..Scenario::new("vanished halfway through its creation", vanished_halfway) },
        Scenario::new("edited by hand and deleted", gone_while_edited),
        Scenario::new("replicas and transactions that don't end", slow_replicas),
        Scenario::new("replicas come, go and refuse", replicas_come_and_go),
        Scenario::new("invalid, then right, then invalid, then deleted", |op| {
            let mut wrong = tenant_spec(&["x"], Delete);
            wrong.auth.max_token_seconds = 1;
            op.state().apply_tenant(&alpha(), wrong.clone());
            settle(op);
            created(op, Delete);
            op.state().apply_tenant(&alpha(), wrong);
            settle(op);
            op.state().delete_tenant(&alpha());
            settle(op);
        }),
        Scenario::new("everything is deleted", |op| {
            created(op, Delete);
            op.state().delete_tenant(&alpha());
            op.state().delete_agent(&key("a", "x"));
            op.state().delete_agent(&key("a", "y"));
            settle(op);
            let state = op.state();
            let left: Vec<_> = state.registry.keys().filter(|n| !n.starts_with("cell-")).collect();
            assert!(left.is_empty() && state.agents.is_empty() && state.secrets.is_empty(), "{left:?}");
        }),
    ]
}
