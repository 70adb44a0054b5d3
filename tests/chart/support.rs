//! Runs Helm and finds objects in its output.

use serde_json::Value;
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The required values: the database's host and the Secret with its password.
pub const REQUIRED: &str = "database.host=postgres.example,database.passwordSecret.name=operator-database";

/// The repository's top.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    repository().join("charts/agent-tenancy")
}

fn helm_program() -> &'static PathBuf {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    HELM.get_or_init(|| devkit::tools::control_plane(&devkit::Places::from_env().unwrap()).unwrap().helm)
}

/// Runs Helm without a cluster; the error is its error output.
pub fn helm(args: &[&str]) -> Result<String, String> {
    let output = Command::new(helm_program()).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr) + &text(&output.stdout)) }
}

/// Renders the chart as release `demo` in the namespace `system`, with these arguments after the required values.
pub fn try_render(args: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let all = [&["template", "demo", chart.to_str().unwrap(), "-n", "system", "--set", REQUIRED], args].concat();
    let text = helm(&all)?;
    Ok(devkit::Release::parse("system", &text).unwrap().objects().to_vec())
}

/// [`try_render`], which must succeed.
pub fn render(args: &[&str]) -> Vec<Value> {
    try_render(args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// The objects of that kind.
pub fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The object of that kind and name.
pub fn find<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}; there are {:?}", names(objects)))
}

/// `Kind/name` of each object.
pub fn names(objects: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    objects.iter().map(|o| format!("{}/{}", text(&o["kind"]), text(&o["metadata"]["name"]))).collect()
}

/// The chart with default values, with several options, and with all of them.
pub fn variants() -> Vec<(&'static str, Vec<Value>)> {
    static VARIANTS: OnceLock<Vec<(&'static str, Vec<Value>)>> = OnceLock::new();
    VARIANTS.get_or_init(render_variants).clone()
}

fn render_variants() -> Vec<(&'static str, Vec<Value>)> {
    let everything = [
        "--set-json",
        r#"operator.podDisruptionBudget.enabled=true,networkPolicy.enabled=true,metrics.serviceMonitor.enabled=true"#,
        "--set",
        "adminApi.enabled=true",
        "--set-json",
        r#"database.caSecret={"name":"ca"},operator.replicas=2,commonLabels={"team":"platform"}"#,
        "--set-json",
        r#"operator.nodeSelector={"disk":"ssd"},operator.tolerations=[{"key":"a","operator":"Exists"}]"#,
        "--set-json",
        r#"agentApi.extraEnv=[{"name":"A","value":"b"}],agentApi.extraVolumes=[{"name":"x","emptyDir":{}}]"#,
        "--set-json",
        r#"agentApi.extraVolumeMounts=[{"name":"x","mountPath":"/x"}],agentApi.podLabels={"mesh":"on"}"#,
        "--set-json",
        r#"agentApi.podAnnotations={"a":"b"},imagePullSecrets=[{"name":"pull"}],agentApi.affinity={"nodeAffinity":{}}"#,
        "--set-json",
        r#"databases=[{"name":"second","host":"db2","port":6432,"passwordSecret":{"name":"pw2"},"caSecret":{"name":"ca2"}}]"#,
        "--set-string",
        "operator.priorityClassName=high,agentApi.priorityClassName=high",
    ];
    vec![
        ("defaults", render(&[])),
        ("scoped", render(&["--set", "scope.namespaces={a,b},clusterId=one,crds.install=false"])),
        ("without the agent API", render(&["--set", "agentApi.enabled=false"])),
        ("everything", render(&everything)),
    ]
}
