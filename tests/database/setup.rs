//! A database for one test, bootstrapped like an administrator's, and the operator's handle to it.

use agent_tenancy::{
    domain::{
        cells::CellRoles,
        ident::{CellNumber, DatabaseId, Epoch, Incarnation, LoginId, NamePrefix, ObjectId, TenantId, Uid},
        keyring::KeyringMark,
        keys::KeyBytes,
        logins::LoginSlot,
        migrations::{TENANT_VERSION, bootstrap_login, tenant_grants},
    },
    effects::postgres::{CellLogin, Database, EpochFence, PgError, ReadPurpose, Writer},
    plan::{
        drift::{Drift, judge_access},
        installation::{Installation, InstanceTraits, Predecessors},
        instance::preflight::{InstancePlan, plan_instance},
        observed::{LedgerFacts, LedgerRow, RowState},
        step::Remains,
        step::{Adoption, CloseDatabase, DatabaseStep, Migrate, Provision},
    },
    settings::database::{InstanceSettings, SslMode},
};
use devkit::{InstallationDatabase, PgVersion, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};
use uuid::Uuid;

pub const CLUSTER: &str = "4f2c6f0e-cluster";
pub const OPERATOR_PASSWORD: &str = "operator-password";
pub const CELL_PASSWORD: &str = "cell-password";

/// Runs a test on the oldest and on the newest supported server.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn oldest() {
                super::$name(devkit::PgVersion::OLDEST).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn newest() {
                super::$name(devkit::PgVersion::NEWEST).await;
            }
        })+
    };
}
pub(crate) use on_both;

/// What a reconcile in this cluster knows of its installation.
pub fn installation() -> Installation {
    let name = "main".to_owned();
    Installation {
        instance: InstanceTraits { name, prefix: NamePrefix::parse("at").unwrap(), archive_seconds: 2_592_000 },
        others: Vec::new(),
        cluster_id: CLUSTER.to_owned(),
        predecessors: Predecessors::default(),
        epoch: Epoch(1),
        schema_version: TENANT_VERSION,
        custom_migrations: None,
        signer_grace_seconds: 300,
        ack_timeout_seconds: 60,
    }
}

pub struct Instance {
    pub test: InstallationDatabase,
    pub prefix: NamePrefix,
    pub database: Database,
    pub id: DatabaseId,
    pub fence: EpochFence,
    _folder: tempfile::TempDir,
}

/// A database after the administrator's bootstrap.
pub async fn bootstrapped(version: PgVersion) -> Instance {
    let instance = bare(version).await;
    instance.test.bootstrap().await.unwrap();
    instance
}

/// A database without bootstrap: the operator can't log in.
pub async fn bare(version: PgVersion) -> Instance {
    bare_on(&Postgres::shared(version).await.unwrap()).await
}

/// The same on this server.
pub async fn bare_on(server: &Postgres) -> Instance {
    let test = InstallationDatabase::create(server, OPERATOR_PASSWORD).await.unwrap();
    let prefix = NamePrefix::parse(&test.prefix).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, format!("{OPERATOR_PASSWORD}\n")).unwrap();
    let settings: InstanceSettings = serde_json::from_value(serde_json::json!({
        "name": "main", "host": test.host, "port": test.port, "database": test.name,
        "user": bootstrap_login(&prefix), "passwordFile": password_file, "sslMode": SslMode::Disable,
        "namePrefix": prefix, "tenantsPerCell": 50, "maxConnections": 16, "lockTimeoutSeconds": 2, "connectTimeoutSeconds": 30,
    }))
    .unwrap();
    assert_eq!(settings.violations(), Vec::<String>::new());
    let fence = EpochFence { cluster_id: CLUSTER.into(), epoch: Epoch(1) };
    let database = Database::new(settings);
    Instance { test, prefix, database, id: DatabaseId(Uuid::nil()), fence, _folder: folder }
}

/// A database in use: control schema, epoch 1, first cell.
pub async fn in_use(version: PgVersion) -> Instance {
    in_use_on(&Postgres::shared(version).await.unwrap()).await
}

/// The same on this server.
pub async fn in_use_on(server: &Postgres) -> Instance {
    let mut instance = bare_on(server).await;
    instance.test.bootstrap().await.unwrap();
    instance.take_into_use().await;
    instance
}

impl Instance {
    /// Makes control schema, epoch 1 and the first cell.
    pub async fn take_into_use(&mut self) {
        let facts = self.database.observe_instance(CLUSTER).await.unwrap();
        assert_eq!(plan_instance(&facts, &self.prefix, None), InstancePlan::CreateControlSchema, "{facts:?}");
        self.database.perform_migrate_control().await.unwrap();
        let facts = self.database.observe_instance(CLUSTER).await.unwrap();
        let plan = plan_instance(&facts, &self.prefix, None);
        let InstancePlan::Fit { database_id, .. } = plan else { panic!("{plan:?}") };
        self.id = database_id;
        assert_eq!(self.database.perform_raise_epoch(CLUSTER, Epoch(1)).await.unwrap(), Epoch(1));
        self.make_cell(1).await;
    }

    pub async fn admin(&self) -> PgConnection {
        PgConnection::connect(&self.test.superuser_url()).await.unwrap()
    }

    pub async fn as_admin(&self, sql: &str) {
        let mut connection = self.admin().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }

    /// One number, queried as the superuser.
    pub async fn count(&self, sql: &str) -> i64 {
        let mut connection = self.admin().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap().get(0)
    }

    /// Runs SQL as the agent API's login of a cell; the error is the SQLSTATE.
    pub async fn as_access(&self, cell: i32, sql: &str) -> Result<(), String> {
        let mut connection = self.access(cell).await;
        let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        result.map(drop).map_err(|error| match error {
            sqlx::Error::Database(e) => e.code().unwrap().into_owned(),
            other => panic!("{other}"),
        })
    }

    pub async fn access(&self, cell: i32) -> PgConnection {
        let login = &CellRoles::of(&self.prefix, CellNumber(cell)).logins[0];
        connect(&self.test.url(login, CELL_PASSWORD)).await.unwrap()
    }

    pub async fn make_cell(&self, cell: i32) {
        self.database.perform_create_cell(CellNumber(cell), &cell_login(), &by(&self.fence)).await.unwrap();
    }

    pub fn provision(&self, id: &TenantId) -> Provision {
        let name = id.database_name(&self.prefix);
        Provision {
            tenant_id: id.clone(),
            incarnation: Incarnation(Uuid::new_v4()),
            cell: CellNumber(1),
            schema: name.clone(),
            role: name,
            schema_version: TENANT_VERSION,
            keyring: KeyringMark { version: 1, digest: "first".to_owned() },
            replaces: None,
        }
    }

    /// A provisioned tenant and its owner.
    pub async fn tenant(&self, name: &str) -> (TenantId, ObjectId, LedgerRow) {
        let (id, owner) = (tenant_id(name), object(name));
        self.database.perform_provision(&self.provision(&id), &owner, self.id, &self.fence).await.unwrap();
        let row = self.row(&id).await;
        (id, owner, row)
    }

    pub async fn row(&self, id: &TenantId) -> LedgerRow {
        self.database.observe_tenant(id, ReadPurpose::Serving).await.unwrap().row.unwrap()
    }
}

/// A leader that makes cells, for which it does not matter which database it is.
pub fn by(fence: &EpochFence) -> Writer {
    Writer { database_id: DatabaseId(Uuid::nil()), fence: fence.clone() }
}

/// Every step that changes a database, by a name of its own.
pub trait Steps {
    async fn step(
        &self,
        step: DatabaseStep,
        tenant: &ObjectId,
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError>;

    /// A step that needs to know neither the Tenant nor the database.
    async fn row_step(&self, step: DatabaseStep, fence: &EpochFence) -> Result<(), PgError> {
        self.step(step, &object("of no matter"), DatabaseId(Uuid::nil()), fence).await
    }

    async fn perform_provision(
        &self,
        provision: &Provision,
        tenant: &ObjectId,
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        self.step(DatabaseStep::Provision(provision.clone()), tenant, id, fence).await
    }

    async fn perform_adopt(
        &self,
        adoption: &Adoption,
        tenant: &ObjectId,
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        self.step(DatabaseStep::Adopt(adoption.clone()), tenant, id, fence).await
    }

    async fn perform_close(
        &self,
        close: &CloseDatabase,
        tenant: &ObjectId,
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        self.step(DatabaseStep::Close(close.clone()), tenant, id, fence).await
    }

    async fn perform_prevent_adoption(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        self.row_step(DatabaseStep::PreventAdoption { row: row.clone() }, fence).await
    }

    async fn perform_repair(
        &self,
        row: &LedgerRow,
        found: &[Drift],
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let step = DatabaseStep::Repair { row: row.clone(), found: found.to_vec() };
        self.step(step, &object("of no matter"), id, fence).await
    }

    async fn perform_migrate(&self, file: &Migrate, id: DatabaseId, fence: &EpochFence) -> Result<(), PgError> {
        self.step(DatabaseStep::Migrate(Box::new(file.clone())), &object("of no matter"), id, fence).await
    }

    async fn perform_set_aside(
        &self,
        tenant_id: &TenantId,
        name: &str,
        remains: &Remains,
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (tenant_id, name) = (tenant_id.clone(), name.to_owned());
        let step = DatabaseStep::SetAside { tenant_id, name, remains: remains.clone() };
        self.step(step, &object("of no matter"), id, fence).await
    }

    async fn perform_record_keyring(
        &self,
        row: &LedgerRow,
        mark: &KeyringMark,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        self.row_step(DatabaseStep::RecordKeyring { row: row.clone(), mark: mark.clone() }, fence).await
    }

    async fn perform_suspend_access(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        self.row_step(DatabaseStep::SuspendAccess { row: row.clone() }, fence).await
    }

    async fn perform_resume_access(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        self.row_step(DatabaseStep::ResumeAccess { row: row.clone() }, fence).await
    }

    async fn perform_revoke_access(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        self.row_step(DatabaseStep::RevokeAccess { row: row.clone() }, fence).await
    }
}

impl Steps for Database {
    async fn step(
        &self,
        step: DatabaseStep,
        tenant: &ObjectId,
        id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        self.perform(&step, tenant, &Writer { database_id: id, fence: fence.clone() }).await
    }
}

/// Connects like the programs: pgbouncer refuses unusual start-up parameters.
pub async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    url.parse::<PgConnectOptions>()?.extra_float_digits(None).connect().await
}

/// The first login of a cell.
pub fn cell_login() -> CellLogin {
    let id = Some(LoginId(Uuid::from_u128(1)));
    CellLogin { slot: LoginSlot::A, id, password: KeyBytes::new(CELL_PASSWORD.into()) }
}

/// Whether the access group may become the tenant.
pub fn is_member(facts: &LedgerFacts) -> bool {
    facts.access.as_ref().is_some_and(|a| a.members.iter().any(|m| m.role == a.access && m.set))
}

/// Whether all privileges are as after provisioning.
pub fn is_intact(facts: &LedgerFacts) -> bool {
    let (Some(access), Some(row)) = (&facts.access, &facts.row) else { return false };
    let grants = tenant_grants(row.schema_version).unwrap();
    judge_access(access, &row.role, row.state == RowState::Active, &grants).unwrap().is_empty()
}

pub fn tenant_id(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

pub fn object(name: &str) -> ObjectId {
    ObjectId { namespace: "team".into(), name: name.into(), uid: Uid(Uuid::new_v4().to_string()) }
}
