//! What a real operator wrote for one Tenant: statuses from a watch, objects from the API server, and SQL messages from the
//! server's log. They are repeated for other Tenants with other names and ids.

use std::time::Duration;

use anyhow::Context as _;
use devkit::{RunningOperator, TestInstallation, eventually};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::load;

/// Longest time until a sample is Ready.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Samples and their repetitions have names of the same length.
pub(super) fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}{number:05}")
}

/// Everything that was written for one Tenant.
pub(super) struct Sample {
    name: String,
    uid: String,
    incarnation: String,
    /// The finalizers that were set.
    pub(super) finalizers: Vec<String>,
    /// Both statuses that were written.
    pub(super) statuses: [String; 2],
    /// The signing Secret.
    pub(super) keys: String,
    /// The registry entry.
    pub(super) entry: String,
    /// The event about it.
    pub(super) event: String,
    /// The messages: observe, change, confirm.
    pub(super) statements: [String; 3],
}

/// A sample with the name of another Tenant in it.
pub(super) struct Renamed<'a> {
    exchange: [(&'a str, String); 3],
}

impl Sample {
    /// For a Tenant of this name and UID, and of a new incarnation.
    pub(super) fn rename(&self, name: &str, uid: &str) -> Renamed<'_> {
        let incarnation = uuid::Uuid::new_v4().to_string();
        let exchange =
            [(self.name.as_str(), name.to_owned()), (&self.uid, uid.to_owned()), (&self.incarnation, incarnation)];
        Renamed { exchange }
    }
}

impl Renamed<'_> {
    /// A text of the sample, for this Tenant.
    pub(super) fn text(&self, sample: &str) -> String {
        self.exchange.iter().fold(sample.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// An object of the sample, for this Tenant.
    pub(super) fn object<T: DeserializeOwned>(&self, sample: &str) -> anyhow::Result<T> {
        Ok(serde_json::from_str(&self.text(sample))?)
    }
}

/// How many samples may fail.
const SPARE: usize = 5;

/// Lets a real operator provision `count` Tenants, one after the other, and returns what it wrote. Checks that each had the
/// cost that a test of the operator guarantees; otherwise the floor would not be comparable.
pub(super) async fn take(installation: &TestInstallation, count: usize) -> anyhow::Result<Vec<Sample>> {
    // Only a superuser may say what is logged, and before the operator connects.
    let (database, login) = (&installation.database, installation.database.operator_login());
    database.execute(&format!("ALTER ROLE {login} SET log_statement = 'all'")).await?;
    let operator = installation.operator("operator").await?;
    let _replica = installation.replica().await?;
    let (client, namespace) = (installation.client().await?, &installation.tenants_namespace);
    load::create_agents(&client, namespace).await?;
    // Before that, the status is written once more: it waits for the database.
    eventually(TIMEOUT, "the operator uses the database", || async {
        let counters = operator.metrics().await?;
        anyhow::ensure!(counters.get("tenant_operator_database_up{instance=\"main\"}") == Some(&1.0), "not yet");
        Ok(())
    })
    .await?;
    let mut samples = Vec::new();
    let mut failed = 0;
    while samples.len() < count {
        let number = samples.len() + failed;
        let before = written(&operator).await?;
        let made = provision(&client, namespace, &name("s", number), number).await?;
        // Its own event comes after the last status.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let written = written(&operator).await? - before;
        let sample = match written {
            3.0 => collect(installation, &client, made).await,
            other => Err(anyhow::anyhow!("the operator wrote a Tenant {other} times, not three times")),
        };
        match sample {
            Ok(sample) => samples.push(sample),
            // On a busy machine a Tenant is reconciled again, because the operator sees its own change late.
            Err(error) if failed == SPARE => {
                return Err(error.context("the floor does not match the operator any more"));
            }
            Err(error) => {
                failed += 1;
                eprintln!("benchmarks: another sample, because {error:#}");
            }
        }
    }
    database.execute(&format!("ALTER ROLE {login} RESET log_statement")).await?;
    Ok(samples)
}

/// How often the operator wrote a Tenant.
async fn written(operator: &RunningOperator) -> anyhow::Result<f64> {
    let counters = operator.metrics().await?;
    Ok(counters.get("tenant_operator_api_requests_total{verb=\"patch\",resource=\"tenants\"}").copied().unwrap_or(0.0))
}

/// A Tenant's versions, from its creation to Ready.
struct Made {
    name: String,
    versions: Vec<Value>,
}

async fn provision(client: &Client, namespace: &str, name: &str, number: usize) -> anyhow::Result<Made> {
    let tenants = load::kind(client, namespace, "Tenant");
    let created = tenants.create(&PostParams::default(), &load::tenant(name, number)?).await?;
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let version = created.resource_version().context("a Tenant has no version")?;
    let mut events = tenants.watch(&params, &version).await?.boxed();
    let mut versions = vec![serde_json::to_value(&created)?];
    let watching = async {
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Modified(object) = event {
                let ready = load::is_ready(&object.data);
                versions.push(serde_json::to_value(&object)?);
                if ready {
                    return Ok(());
                }
            }
        }
        anyhow::bail!("the watch has ended")
    };
    tokio::time::timeout(TIMEOUT, watching).await.with_context(|| format!("the sample {name} is not Ready"))??;
    Ok(Made { name: name.to_owned(), versions })
}

async fn collect(installation: &TestInstallation, client: &Client, made: Made) -> anyhow::Result<Sample> {
    let namespace = &installation.tenants_namespace;
    let Made { name, versions } = made;
    let last = versions.last().context("a Tenant has no versions")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a Tenant lacks a field");
    let incarnation = text(&last["status"]["database"]["incarnation"])?;
    let mut statuses: Vec<String> = versions.iter().map(|version| version["status"].to_string()).collect();
    statuses.dedup();
    let [_, first, second] = <[String; 3]>::try_from(statuses)
        .map_err(|all| anyhow::anyhow!("the operator wrote the status not twice but like this:\n{}", all.join("\n")))?;
    let finalizers = serde_json::from_value(last["metadata"]["finalizers"].clone())?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let registry: Api<Secret> = Api::namespaced(client.clone(), &installation.registry_namespace);
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let regarding = |event: &Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name.as_str());
    let mut about: Vec<Event> =
        events.list(&ListParams::default()).await?.items.into_iter().filter(regarding).collect();
    anyhow::ensure!(about.len() == 1, "there are {} events about {name}, not one", about.len());
    let log = installation.env.postgres()?.log_text().await?;
    let logged = statements(&log, &installation.database.operator_login(), &name);
    let count = logged.len();
    let statements = <[String; 3]>::try_from(logged)
        .map_err(|_| anyhow::anyhow!("the operator sent {count} messages to the database for {name}, not three"))?;
    Ok(Sample {
        uid: text(&last["metadata"]["uid"])?,
        incarnation,
        finalizers,
        statuses: [first, second],
        keys: render(secrets.get(&format!("{name}-signing-keys")).await?)?,
        entry: render(registry.get(&format!("tenant-{name}")).await?)?,
        event: render(about.remove(0))?,
        statements,
        name,
    })
}

/// As it was sent: without the fields that the API server added.
fn render<K: kube::Resource + Serialize>(mut object: K) -> anyhow::Result<String> {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    meta.resource_version = None;
    meta.uid = None;
    meta.creation_timestamp = None;
    Ok(serde_json::to_string(&object)?)
}

/// The messages of this login that hold this name, from the server's log.
fn statements(log: &str, login: &str, name: &str) -> Vec<String> {
    let session = format!(" {login} [");
    let mut all: Vec<String> = Vec::new();
    let mut ours = false;
    for line in log.lines() {
        // A continued line is indented.
        if let Some(rest) = line.strip_prefix('\t') {
            if let (true, Some(last)) = (ours, all.last_mut()) {
                last.push('\n');
                last.push_str(rest);
            }
            continue;
        }
        let statement = line.split_once("LOG:  statement: ").filter(|(head, _)| head.contains(&session));
        ours = statement.is_some();
        all.extend(statement.map(|(_, text)| text.to_owned()));
    }
    all.into_iter().filter(|statement| statement.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_taken_from_the_log_as_they_were_sent() {
        let log = "\
2025-01-01 00:00:00.001 UTC agents at_operator_a [7] LOG:  statement: SET LOCAL x = 1;
\tSELECT 's00000'
\t  , 2;
2025-01-01 00:00:00.002 UTC agents at_operator_a [7] ERROR:  no
\tnot ours
2025-01-01 00:00:00.003 UTC agents postgres [8] LOG:  statement: SELECT 's00000'
2025-01-01 00:00:00.003 UTC agents at_operator_a [8] LOG:  statement: SELECT 's00001'
";
        assert_eq!(statements(log, "at_operator_a", "s00000"), ["SET LOCAL x = 1;\nSELECT 's00000'\n  , 2;"]);
    }
}
