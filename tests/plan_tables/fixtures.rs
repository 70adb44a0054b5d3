//! One valid Tenant and a converged view of its world, which each row of a table changes.

use agent_tenancy::{
    api::{
        AgentConfigRef, AgentOverrides, DeletionPolicy, TenantAgent, TenantAuth, TenantDatabase, TenantSpec,
        TenantStatus,
    },
    domain::{
        ack::{Acknowledgement, Replica},
        class::ErrorClass,
        entry::TenantEntry,
        ident::{
            AgentName, CellNumber, DatabaseId, Epoch, Incarnation, NamePrefix, ObjectId, ProcessId, TenantId, Uid,
            Version,
        },
        keyring::{Keyring, NewKey},
        keys::{Algorithm, KeyBytes, Kid},
        migrations::{TENANT_VERSION, tenant_checksums, tenant_grants},
        resolve::{AgentLookup, DesiredTenant, resolve_tenant},
    },
    plan::{
        Plan,
        drift::AccessFacts,
        installation::{Installation, InstanceTraits},
        observed::{
            Archive, CellOffer, DatabaseView, EntryView, Fresh, KeysView, LedgerFacts, LedgerRow, ObservedTenant,
            Presence, ReadError, Recorded, Replicas, RowState, Seen, ServedProof, applied::Applied, render_mark,
        },
        step::{CellStep, DatabaseStep, Done, EntryStep, Execution, KeysStep, ObjectStep, TenantStep},
        tenant::{
            delete::{Departing, plan_deletion},
            present::plan_tenant,
        },
    },
    status::{TenantFacts, project_tenant},
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use uuid::Uuid;

pub const SERVED: Version = Version(70);

pub fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

pub fn object() -> ObjectId {
    ObjectId { namespace: "a".to_owned(), name: "alpha".to_owned(), uid: Uid("uid-alpha".to_owned()) }
}

pub fn tenant_id() -> TenantId {
    TenantId::parse("alpha").unwrap()
}

pub fn spec() -> TenantSpec {
    TenantSpec {
        tenant_id: None,
        display_name: None,
        suspend: false,
        agents: vec![TenantAgent {
            name: "main".to_owned(),
            config_ref: AgentConfigRef { name: "x".to_owned() },
            overrides: AgentOverrides::default(),
        }],
        default_agent: None,
        tenant_mutable: Vec::new(),
        database: TenantDatabase::default(),
        auth: TenantAuth::default(),
    }
}

pub fn desired() -> DesiredTenant {
    resolve_tenant(object(), 1, &BTreeMap::new(), &spec()).unwrap()
}

pub fn installation() -> Installation {
    Installation {
        instance: InstanceTraits {
            name: "main".to_owned(),
            prefix: NamePrefix::parse("at").unwrap(),
            archive_seconds: 2_592_000,
        },
        others: Vec::new(),
        cluster_id: "cluster".to_owned(),
        predecessors: agent_tenancy::plan::installation::Predecessors {
            cluster_ids: vec!["former".to_owned()],
            heartbeat_timeout_seconds: 600,
        },
        epoch: Epoch(1),
        schema_version: TENANT_VERSION,
        custom_migrations: None,
        signer_grace_seconds: 300,
        ack_timeout_seconds: 60,
    }
}

pub fn read_error() -> ReadError {
    ReadError::new(ErrorClass::Transient, "it does not answer")
}

pub fn database() -> DatabaseId {
    DatabaseId(Uuid::from_u128(0xda7a))
}

pub fn incarnation() -> Incarnation {
    Incarnation(Uuid::from_u128(1))
}

pub fn key(text: &str) -> KeyBytes {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(32, b'x');
    KeyBytes::new(bytes)
}

pub fn new_key(kid: &str) -> NewKey {
    let (kid, verifying) = (Kid::parse(kid).unwrap(), key("CANARY-1"));
    NewKey { kid, algorithm: Algorithm::HS256, verifying, private: None }
}

/// The keyring of the converged world.
pub fn keyring() -> Keyring {
    Keyring::first(1, new_key("kid-1"), 3600, None, now()).unwrap()
}

pub fn row(state: RowState) -> LedgerRow {
    LedgerRow {
        incarnation: incarnation(),
        uid: object().uid,
        namespace: "a".to_owned(),
        name: "alpha".to_owned(),
        cluster_id: "cluster".to_owned(),
        cell: CellNumber(1),
        schema: "at_alpha".to_owned(),
        role: "at_alpha".to_owned(),
        schema_version: TENANT_VERSION,
        schema_checksums: tenant_checksums(TENANT_VERSION),
        own: Applied::default(),
        keyring: keyring().mark(),
        state,
        state_since: now(),
    }
}

/// What the database says: this row, and role and schema with its mark where `there`.
pub fn facts(row: Option<LedgerRow>, there: bool) -> LedgerFacts {
    let mark = there.then(|| render_mark(database(), incarnation()));
    let free = row.as_ref().is_none_or(|r| r.state == RowState::Dropped);
    LedgerFacts {
        database_id: database(),
        heartbeat_age_seconds: row.as_ref().map(|_| 0),
        permitted: Vec::new(),
        failure: None,
        role_mark: mark.clone(),
        schema_mark: mark,
        access: row.as_ref().filter(|r| there && r.state.in_use()).map(access),
        open_transactions: 0,
        offer: free.then_some(CellOffer { cell: CellNumber(1), exists: true }),
        archives: Vec::new(),
        row,
    }
}

const ACCESS: &str = "at_acc_1";

/// Owners, privileges and memberships without drift: a suspended tenant has no member.
fn access(row: &LedgerRow) -> AccessFacts {
    let grants = tenant_grants(row.schema_version).unwrap();
    let mut access = AccessFacts::intact(180_000, "at_own_1", ACCESS, &row.role, &grants);
    if row.state == RowState::Suspended {
        access.members.retain(|member| member.role != ACCESS);
    }
    access
}

/// Gives or takes the access group's membership.
pub fn set_member(observed: &mut ObservedTenant, member: bool) {
    let facts = facts_of(observed);
    let Some(row) = &facts.row else { return };
    let state = if member { RowState::Active } else { RowState::Suspended };
    facts.access = Some(access(&LedgerRow { state, ..row.clone() }));
}

pub fn access_of(observed: &mut ObservedTenant) -> &mut AccessFacts {
    facts_of(observed).access.as_mut().unwrap()
}

pub fn facts_of(observed: &mut ObservedTenant) -> &mut LedgerFacts {
    match &mut observed.database {
        DatabaseView::Facts(facts) => facts,
        DatabaseView::Unknown(_) | DatabaseView::Changed { .. } | DatabaseView::Unplaced(_) => {
            panic!("the database was not read")
        }
    }
}

pub fn replica(name: &str, version: u64) -> Replica {
    Replica {
        name: name.to_owned(),
        ready: true,
        running: true,
        acknowledged: Some(Acknowledgement {
            process: ProcessId(Uuid::from_u128(9)),
            pod: None,
            version: Version(version),
            format: 1,
            schema_version: Some(TENANT_VERSION),
            connection_budget: None,
            quarantined: BTreeMap::new(),
            quarantine_overflow: false,
        }),
    }
}

/// A world in which nothing of the Tenant was made yet.
pub fn untouched() -> ObservedTenant {
    let agents = BTreeMap::from([(AgentName::parse("main").unwrap(), AgentLookup::Published(Uid("uid-x".to_owned())))]);
    ObservedTenant {
        object: Presence::Cached,
        finalizer: false,
        rival: None,
        recorded: Recorded::default(),
        instance: Some("main".to_owned()),
        database: DatabaseView::Facts(facts(None, false)),
        keys: Seen::Missing,
        entry: Seen::Missing,
        agents,
        cell_entry: true,
        replicas: Replicas { all: vec![replica("r1", 100), replica("r2", 100)], none_wanted: false },
        admitted: false,
        fresh: Fresh { incarnation: incarnation(), key: new_key("kid-1"), password: key("CANARY-2") },
    }
}

/// A world in which the Tenant is served as its spec says.
pub fn converged() -> ObservedTenant {
    let mut observed = untouched();
    let plan = plan_tenant(&desired(), &observed, &installation(), now());
    let entry = plan.steps.iter().find_map(|step| match step {
        TenantStep::Entry(EntryStep::Put { entry, .. }) => Some(entry.as_ref().clone()),
        _ => None,
    });
    observed.finalizer = true;
    let proof = ServedProof { version: SERVED, generation: Some(1) };
    observed.recorded = Recorded {
        database_id: Some(database()),
        instance: Some("main".to_owned()),
        incarnation: Some(incarnation()),
        served: Some(proof),
        accepted_loss: None,
        retry_migration: None,
    };
    observed.database = DatabaseView::Facts(facts(Some(row(RowState::Active)), true));
    observed.keys =
        Seen::Ours(KeysView { uid: Uid("uid-keys".to_owned()), version: Version(60), keyring: Ok(keyring()) });
    observed.entry = Seen::Ours(EntryView { secret_uid: Uid("uid-entry".to_owned()), version: SERVED, entry });
    // Later reconciles draw other random material.
    observed.fresh.incarnation = Incarnation(Uuid::from_u128(2));
    observed.fresh.key = new_key("kid-2");
    observed
}

/// The kind of a step, in one word.
pub fn word(step: &TenantStep) -> &'static str {
    match step {
        TenantStep::Object(step) => object_word(step),
        TenantStep::Cell(CellStep::Create { .. }) => "CreateCell",
        TenantStep::Database(step) => database_word(step),
        TenantStep::Keys(KeysStep::Create { .. }) => "CreateKeys",
        TenantStep::Keys(KeysStep::Replace { .. }) => "ReplaceKeys",
        TenantStep::Keys(KeysStep::Delete { .. }) => "DeleteKeys",
        TenantStep::Entry(EntryStep::Put { .. }) => "PutEntry",
        TenantStep::Entry(EntryStep::Delete { .. }) => "DeleteEntry",
    }
}

pub fn object_word<S>(step: &ObjectStep<S>) -> &'static str {
    match step {
        ObjectStep::AddFinalizer => "AddFinalizer",
        ObjectStep::RemoveFinalizer => "RemoveFinalizer",
        ObjectStep::WriteStatus(_) => "WriteStatus",
        ObjectStep::RecordEvent(_) => "RecordEvent",
    }
}

fn database_word(step: &DatabaseStep) -> &'static str {
    match step {
        DatabaseStep::Provision(_) => "Provision",
        DatabaseStep::Adopt(_) => "Adopt",
        DatabaseStep::PreventAdoption { .. } => "PreventAdoption",
        DatabaseStep::Repair { .. } => "RepairDatabase",
        DatabaseStep::Migrate(_) => "Migrate",
        DatabaseStep::SetAside { .. } => "SetAside",
        DatabaseStep::RecordKeyring { .. } => "RecordRing",
        DatabaseStep::SuspendAccess { .. } => "SuspendAccess",
        DatabaseStep::ResumeAccess { .. } => "ResumeAccess",
        DatabaseStep::RevokeAccess { .. } => "RevokeAccess",
        DatabaseStep::Close(_) => "CloseDatabase",
    }
}

pub fn words(plan: &Plan<TenantStep>) -> String {
    plan.steps.iter().map(word).collect::<Vec<_>>().join(" ")
}

pub fn present(observed: &ObservedTenant) -> Plan<TenantStep> {
    plan_tenant(&desired(), observed, &installation(), now())
}

/// The same Tenant, to be out of service.
pub fn out_of_service(observed: &ObservedTenant) -> Plan<TenantStep> {
    plan_tenant(&DesiredTenant { suspend: true, ..desired() }, observed, &installation(), now())
}

/// As [`present`], for a Tenant that is to take over the data of this one.
pub fn present_adopting(observed: &ObservedTenant, previous: Option<&str>) -> Plan<TenantStep> {
    let desired = DesiredTenant { adopt: previous.map(|uid| Uid(uid.to_owned())), ..desired() };
    plan_tenant(&desired, observed, &installation(), now())
}

/// What is archived of a Tenant with this UID; its data is that of `stranger` rows.
pub fn archive(uid: &str) -> Archive {
    let incarnation = Incarnation(Uuid::from_u128(7));
    let mark = Some(render_mark(database(), incarnation));
    Archive {
        incarnation,
        uid: Uid(uid.to_owned()),
        namespace: "a".to_owned(),
        name: "alpha".to_owned(),
        cluster_id: "cluster".to_owned(),
        permitted: Vec::new(),
        cell: CellNumber(3),
        schema: incarnation.archive_name("at_alpha"),
        role: incarnation.archive_name("at_alpha"),
        schema_version: 1,
        schema_checksums: Vec::new(),
        ring_version: 4,
        role_mark: mark.clone(),
        schema_mark: mark,
    }
}

pub fn absent(observed: &ObservedTenant, policy: DeletionPolicy) -> Plan<TenantStep> {
    let departing = Departing { object: object(), tenant_id: Some(tenant_id()), policy };
    plan_deletion(&departing, observed, &installation(), now())
}

/// Every step of a plan done.
pub fn all_done(plan: &Plan<TenantStep>) -> Execution<TenantStep> {
    Execution { done: plan.steps.iter().map(|s| (s.clone(), Done::Plain)).collect(), failed: None }
}

/// The status after a reconcile.
pub fn project(
    observed: Option<&ObservedTenant>,
    plan: &Plan<TenantStep>,
    execution: &Execution<TenantStep>,
    previous: &TenantStatus,
    deleting: bool,
) -> TenantStatus {
    let (installation, id) = (installation(), tenant_id());
    let facts = TenantFacts {
        generation: 1,
        tenant_id: Some(&id),
        key_secret: "alpha-signing-keys",
        observed,
        installation: &installation,
        plan,
        execution,
        deleting,
    };
    project_tenant(&facts, previous, now()).0
}

/// How a row of a table differs from its start.
pub type Tweak = fn(&mut ObservedTenant);

pub fn stranger(state: RowState) -> LedgerRow {
    LedgerRow { uid: Uid("uid-other".to_owned()), incarnation: Incarnation(Uuid::from_u128(7)), ..row(state) }
}

pub fn damage_entry(o: &mut ObservedTenant) {
    if let Seen::Ours(view) = &mut o.entry {
        view.entry = None;
    }
}

pub fn edit_entry(o: &mut ObservedTenant, edit: impl FnOnce(&mut TenantEntry)) {
    if let Seen::Ours(EntryView { entry: Some(entry), .. }) = &mut o.entry {
        edit(entry);
    }
}
