//! The chart in a real control plane: installed, upgraded, uninstalled, installed again.

use super::support::{REQUIRED, chart, find, names, repository};
use devkit::{Environment, eventually, unique};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::sync::Mutex;

/// One release may own the cluster's CRDs at a time.
static CRDS: Mutex<()> = Mutex::const_new(());

/// A release of the chart in a namespace of its own, which manages Tenants in a second namespace.
pub struct Release {
    /// The control plane.
    pub env: &'static Environment,
    /// The namespace of operator and agent API.
    pub system: String,
    /// The namespace of the Tenants.
    pub tenants: String,
    /// The namespace of the registry.
    pub registry: String,
    /// Whether the operator is limited to `tenants`.
    pub is_scoped: bool,
}

impl Release {
    /// Creates two namespaces and installs nothing.
    pub async fn prepare() -> Release {
        let env = Environment::shared().await.unwrap();
        let (system, tenants) =
            (env.create_namespace("system").await.unwrap(), env.create_namespace("tenants").await.unwrap());
        Release { env, system, tenants, registry: unique("registry"), is_scoped: true }
    }

    /// Runs `helm <verb> demo <chart>` for this release, with more arguments.
    pub async fn helm(&self, verb: &str, more: &[&str]) -> Result<String, String> {
        let chart = chart();
        let mut values = format!("{REQUIRED},registry.namespace={},rbac.aggregate=false", self.registry);
        if self.is_scoped {
            values += &format!(",clusterId=test,scope.namespaces={{{}}}", self.tenants);
        }
        let args = [&[verb, "demo", chart.to_str().unwrap(), "-n", &self.system, "--set", &values], more].concat();
        let output = self.env.helm(&args).await.unwrap();
        if output.is_success() { Ok(output.stdout) } else { Err(output.stderr) }
    }

    /// Uninstalls the release.
    pub async fn uninstall(&self) {
        self.env.helm(&["uninstall", "demo", "-n", &self.system]).await.unwrap().ok().unwrap();
    }

    /// Runs kubectl and returns its output.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        self.env.kubectl(args).await.unwrap().ok().unwrap()
    }

    async fn exists(&self, args: &[&str]) -> bool {
        let all = [&["get", "--ignore-not-found", "-o", "name"], args].concat();
        !self.kubectl(&all).await.trim().is_empty()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_and_its_notes_name_the_next_commands() {
    let release = Release::prepare().await;
    let notes = release.helm("install", &["--set", "crds.install=false"]).await.unwrap();
    assert!(notes.contains("rollout status deployment/demo-agent-tenancy-operator"), "{notes}");
    assert!(notes.contains(&format!("kubectl -n {} apply -f config/samples", release.tenants)), "{notes}");
    for name in ["operator", "agent-api"] {
        let deployment = format!("deployment/demo-agent-tenancy-{name}");
        assert!(release.exists(&["-n", &release.system, &deployment]).await);
    }
    assert!(release.exists(&["namespace", &release.registry]).await);
    // The registry's namespace has only what every namespace has.
    let accounts = release.kubectl(&["get", "configmaps,secrets,pods", "-n", &release.registry, "-o", "name"]).await;
    assert!(accounts.lines().all(|line| line == "configmap/kube-root-ca.crt"), "{accounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_optional_is_accepted_by_the_api_server() {
    let release = Release::prepare().await;
    let options = "crds.install=false,networkPolicy.enabled=true,operator.podDisruptionBudget.enabled=true,\
                   database.caSecret.name=ca,agentApi.service.type=NodePort";
    release.helm("install", &["--set", options]).await.unwrap();
    let found = release.kubectl(&["get", "networkpolicies,pdb", "-n", &release.system, "-o", "name"]).await;
    assert_eq!(found.lines().count(), 4, "{found}");
}

/// Pod Security admission accepts the Pods in a namespace that enforces "restricted".
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_admitted_where_restricted_is_enforced() {
    let release = Release::prepare().await;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    release.kubectl(&["label", "namespace", &release.system, label]).await;
    release.helm("install", &["--set", "crds.install=false"]).await.unwrap();
    for name in ["operator", "agent-api"] {
        let deployment = format!("demo-agent-tenancy-{name}");
        let text = release.kubectl(&["get", "deployment", &deployment, "-n", &release.system, "-o", "json"]).await;
        let deployment: Value = serde_json::from_str(&text).unwrap();
        let template = &deployment["spec"]["template"];
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": release.system, "labels": template["metadata"]["labels"] },
            "spec": template["spec"]
        });
        let create = ["create", "--dry-run=server", "-f", "-"];
        // The ServiceAccount may not be visible yet.
        eventually(Duration::from_secs(20), "the API server accepts the Pod", || async {
            release.env.kubectl_with(&create, &pod.to_string()).await?.ok()
        })
        .await
        .unwrap();
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        let refused = release.env.kubectl_with(&create, &pod.to_string()).await.unwrap();
        assert!(!refused.is_success() && refused.stderr.contains("restricted"), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crds_and_tenants_survive_an_upgrade_an_uninstallation_and_a_new_installation() {
    let _alone = CRDS.lock().await;
    let release = Release::prepare().await;
    // Other tests may have applied the CRDs already: the release takes ownership.
    release.helm("install", &["--take-ownership"]).await.unwrap();
    for crd in ["tenants", "agentconfigs"] {
        let crd = format!("crd/{crd}.agent-tenancy.dev");
        release.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd]).await;
    }
    let samples = repository().join("config/samples");
    let samples = samples.to_str().unwrap();
    eventually(Duration::from_secs(30), "the samples can be applied", || async {
        release.env.kubectl(&["apply", "-n", &release.tenants, "-f", samples]).await?.ok()
    })
    .await
    .unwrap();
    let uid = async || {
        let path = "jsonpath={.metadata.uid}";
        release.kubectl(&["get", "tenants.agent-tenancy.dev", "acme", "-n", &release.tenants, "-o", path]).await
    };
    let before = uid().await;

    release.helm("upgrade", &["--set", "commonLabels.team=platform"]).await.unwrap();
    let label = "jsonpath={.metadata.labels.team}";
    assert_eq!(release.kubectl(&["get", "crd", "tenants.agent-tenancy.dev", "-o", label]).await, "platform");
    release.uninstall().await;
    assert!(
        !release
            .exists(&["-n", &release.system, "deployment,serviceaccount,role", "-l", "app.kubernetes.io/instance=demo"])
            .await
    );
    assert!(release.exists(&["namespace", &release.registry]).await, "the registry is gone");
    assert_eq!(uid().await, before, "the Tenant is another one");

    release.helm("install", &[]).await.unwrap();
    assert_eq!(uid().await, before, "the Tenant is another one");
    release.uninstall().await;
}

/// Writes a chart as it was before its values were renamed: its defaults, and one object.
fn write_earlier_chart(folder: &Path) {
    let read = |name: &str| std::fs::read_to_string(chart().join(name)).unwrap();
    let values = read("values.yaml")
        .replace("clusterHeartbeatTimeoutSeconds:", "clusterSilenceSeconds:")
        .replace("adminApi:", "plan:")
        .replace("adminApiClients:", "planClients:");
    std::fs::create_dir(folder.join("templates")).unwrap();
    std::fs::write(folder.join("Chart.yaml"), read("Chart.yaml")).unwrap();
    std::fs::write(folder.join("values.yaml"), values).unwrap();
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: earlier\n";
    std::fs::write(folder.join("templates/earlier.yaml"), object).unwrap();
}

/// `--reuse-values` takes the defaults of the earlier chart, too, so that the new ones are missing.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_reuses_renamed_values_is_refused_in_one_sentence() {
    let release = Release::prepare().await;
    let earlier = tempfile::tempdir().unwrap();
    write_earlier_chart(earlier.path());
    let folder = earlier.path().to_str().unwrap();
    let install = ["install", "demo", folder, "-n", &release.system, "--set", REQUIRED];
    release.env.helm(&install).await.unwrap().ok().unwrap();
    let error = release.helm("upgrade", &["--reuse-values"]).await.unwrap_err();
    let sentence = "values were renamed: clusterSilenceSeconds is now clusterHeartbeatTimeoutSeconds, plan is now adminApi, \
                    networkPolicy.planClients is now networkPolicy.adminApiClients;";
    assert!(error.contains(sentence), "{error}");
    let with_defaults = ["--reset-then-reuse-values", "--set", "crds.install=false"];
    release.helm("upgrade", &with_defaults).await.unwrap();
    release.uninstall().await;
}

/// Two releases of one name in two namespaces do not share objects.
#[tokio::test(flavor = "multi_thread")]
async fn two_releases_of_one_name_do_not_conflict() {
    let (mut one, mut two) = (Release::prepare().await, Release::prepare().await);
    (one.is_scoped, two.is_scoped) = (false, false);
    let unscoped = ["--set", "crds.install=false,rbac.aggregate=true"];
    one.helm("install", &unscoped).await.unwrap();
    two.helm("install", &unscoped).await.unwrap();
    let objects: Value = serde_json::from_str(
        &one.kubectl(&["get", "clusterroles", "-l", "app.kubernetes.io/instance=demo", "-o", "json"]).await,
    )
    .unwrap();
    let objects = objects["items"].as_array().unwrap();
    for release in [&one, &two] {
        let name = format!("demo-agent-tenancy.{}-view", release.system);
        assert!(names(objects).iter().any(|found| found.ends_with(&name)), "{:?}", names(objects));
        find(objects, "ClusterRole", &name);
        release.uninstall().await;
    }
}
