//! The floor: a bare program that makes the operator's writes and SQL, as it made them for a sample, for as many Tenants
//! and with the same concurrency. It decides nothing, reads nothing and waits for no replica: no operator could be faster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::Context as _;
use devkit::{Component, ProgramFiles, TestInstallation};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::{Mutex, mpsc};

use crate::{
    installation, load,
    sample::{self, Sample},
};

/// The result.
pub(super) struct Floor {
    /// Tenants per second.
    pub(super) rate: f64,
    /// How it was measured.
    pub(super) note: String,
}

/// Takes samples from a real operator in a fresh installation, ends it, and repeats what it did for `count` Tenants.
pub(super) async fn measure(programs: &ProgramFiles, count: usize) -> anyhow::Result<Floor> {
    eprintln!("benchmarks: the floor: the same writes and SQL for {count} Tenants by a bare program ...");
    // Each sample gets its own cell, so that there is one for each cell that the Tenants would fill.
    let installation = installation::start(programs, json!({ "database": { "tenantsPerCell": 1 } })).await?;
    let cells = count.div_ceil(TENANTS_PER_CELL);
    let samples = sample::take(&installation, cells).await?;
    let bare = Bare::new(&installation, samples).await?;
    let seconds = bare.run(count).await?;
    let Bare { workers, .. } = bare;
    installation.stop().await?;
    Ok(Floor {
        rate: count as f64 / seconds,
        note: format!(
            "a bare program with the operator's permissions: the same 6 API writes and 3 messages of SQL, {workers} Tenants at \
             once; no reads, no replicas"
        ),
    })
}

/// The operator's default.
const TENANTS_PER_CELL: usize = 500;

/// The bare program.
struct Bare {
    samples: Vec<Sample>,
    /// Creates Tenants, as in the operator's run.
    user: Client,
    /// Has the operator's permissions.
    operator: Client,
    /// A database login of the operator.
    url: String,
    workers: usize,
    tenants_namespace: String,
    registry_namespace: String,
}

impl Bare {
    async fn new(installation: &TestInstallation, samples: Vec<Sample>) -> anyhow::Result<Bare> {
        let settings: Value = serde_yaml::from_str(installation.release.settings(Component::Operator)?)?;
        let workers = settings["concurrency"].as_u64().context("the settings name no concurrency")?;
        let connections = settings["database"]["maxConnections"].as_u64().unwrap_or_default();
        anyhow::ensure!(connections >= workers, "the floor gives each of {workers} workers a connection of its own");
        Ok(Bare {
            samples,
            user: installation.client().await?,
            operator: installation.client_of(Component::Operator).await?,
            url: installation.database.operator_url(),
            workers: usize::try_from(workers)?,
            tenants_namespace: installation.tenants_namespace.clone(),
            registry_namespace: installation.registry_namespace.clone(),
        })
    }

    /// Seconds from the first create to the last write.
    async fn run(&self, count: usize) -> anyhow::Result<f64> {
        let tenants = load::kind(&self.user, &self.tenants_namespace, "Tenant");
        let (sender, receiver) = mpsc::unbounded_channel::<(usize, DynamicObject)>();
        let receiver = Arc::new(Mutex::new(receiver));
        let done = AtomicUsize::new(0);
        let start = Instant::now();
        let create = |number: usize| {
            let (tenants, sender) = (tenants.clone(), sender.clone());
            async move {
                let object = load::tenant(&sample::name("t", number), number)?;
                let created = tenants.create(&PostParams::default(), &object).await?;
                sender.send((number, created)).ok().context("the workers have ended")
            }
        };
        let creating = async {
            let all = stream::iter(0..count).map(create).buffer_unordered(load::AT_ONCE);
            all.try_collect::<Vec<()>>().await.map(drop)
        };
        let worker = |_: usize| {
            let (receiver, done) = (receiver.clone(), &done);
            async move {
                let mut connection = PgConnection::connect(&self.url).await?;
                while done.fetch_add(1, Ordering::Relaxed) < count {
                    let (number, created) = receiver.lock().await.recv().await.context("no Tenant comes")?;
                    let sample = &self.samples[number / TENANTS_PER_CELL];
                    self.provision(sample, &mut connection, &created).await?;
                }
                anyhow::Ok(connection.close().await?)
            }
        };
        let working = stream::iter(0..self.workers).map(worker).buffer_unordered(self.workers);
        tokio::try_join!(creating, async { working.try_collect::<Vec<()>>().await.map(drop) })?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// All that the operator does for one Tenant, in its order.
    async fn provision(
        &self,
        sample: &Sample,
        connection: &mut PgConnection,
        created: &DynamicObject,
    ) -> anyhow::Result<()> {
        let mine = sample.rename(&created.name_any(), &created.uid().unwrap_or_default());
        let [observe, change, confirm] = &sample.statements;
        let tenants = load::kind(&self.operator, &self.tenants_namespace, "Tenant");
        let secrets: Api<Secret> = Api::namespaced(self.operator.clone(), &self.tenants_namespace);
        let registry: Api<Secret> = Api::namespaced(self.operator.clone(), &self.registry_namespace);
        let events: Api<Event> = Api::namespaced(self.operator.clone(), &self.tenants_namespace);
        let params = PatchParams { field_manager: Some("tenant-operator".to_owned()), ..PatchParams::default() };
        let [first, last] = &sample.statuses;
        let name = created.name_any();

        send(connection, mine.text(observe)).await?;
        let finalizers = json!({ "metadata": { "finalizers": sample.finalizers } });
        let after = tenants.patch(&name, &params, &Patch::Merge(conditional(created, finalizers))).await?;
        send(connection, mine.text(change)).await?;
        secrets.create(&PostParams::default(), &mine.object(&sample.keys)?).await?;
        registry.create(&PostParams::default(), &mine.object(&sample.entry)?).await?;
        let status = json!({ "status": mine.object::<Value>(first)? });
        let after = tenants.patch_status(&name, &params, &Patch::Merge(conditional(&after, status))).await?;
        send(connection, mine.text(confirm)).await?;
        let status = json!({ "status": mine.object::<Value>(last)? });
        tenants.patch_status(&name, &params, &Patch::Merge(conditional(&after, status))).await?;
        events.create(&PostParams::default(), &mine.object(&sample.event)?).await?;
        Ok(())
    }
}

async fn send(connection: &mut PgConnection, text: String) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(connection).await?;
    Ok(())
}

/// Adds the resource version and the UID that a patch applies to.
fn conditional(object: &DynamicObject, mut patch: Value) -> Value {
    patch["metadata"]["resourceVersion"] = json!(object.resource_version());
    patch["metadata"]["uid"] = json!(object.uid());
    patch
}
