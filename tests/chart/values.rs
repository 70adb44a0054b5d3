//! The schema of the values: it refuses misspelt keys and wrong types, and describes every value.

use super::support::{chart, try_render};
use serde_json::Value;

/// A value that must be refused, and the part of the message that names it.
const REFUSED: &[(&str, &str)] = &[
    ("unknown=1", "unknown"),
    ("operator.replicaCount=1", "replicaCount"),
    ("operator.replicas=\"two\"", "/operator/replicas"),
    ("operator.replicas=-1", "/operator/replicas"),
    ("operator.replicas=1.5", "/operator/replicas"),
    ("operator.image.digest=\"sha256:12\"", "/operator/image/digest"),
    ("operator.image.pullPolicy=\"always\"", "/operator/image/pullPolicy"),
    ("operator.image.name=\"x\"", "name"),
    ("operator.log.format=\"xml\"", "/operator/log/format"),
    ("operator.config=\"a: b\"", "/operator/config"),
    ("operator.leaderElection.leaseSeconds=\"15s\"", "/operator/leaderElection/leaseSeconds"),
    ("operator.concurrency=0", "/operator/concurrency"),
    ("operator.podLabels={\"a\":1}", "/operator/podLabels/a"),
    ("operator.extraEnv=[{\"value\":\"x\"}]", "/operator/extraEnv/0"),
    ("operator.resources={\"limit\":{}}", "limit"),
    ("agentApi.enabled=\"yes\"", "/agentApi/enabled"),
    ("agentApi.service.type=\"Ingress\"", "/agentApi/service/type"),
    ("agentApi.service.port=70000", "/agentApi/service/port"),
    ("agentApi.tolerations={}", "/agentApi/tolerations"),
    ("agentApi.podDisruptionBudget.maxUnavailable=\"half\"", "/agentApi/podDisruptionBudget/maxUnavailable"),
    ("agentApi.terminationGracePeriodSeconds=\"45s\"", "/agentApi/terminationGracePeriodSeconds"),
    ("crds.install=\"true\"", "/crds/install"),
    ("crds.enabled=true", "enabled"),
    ("scope.namespaces=\"demo\"", "/scope/namespaces"),
    ("scope.namespaces=[\"Demo\"]", "/scope/namespaces/0"),
    ("scope.namespaces=[\"a\",\"a\"]", "/scope/namespaces"),
    ("registry.namespace=\"\"", "/registry/namespace"),
    ("registry.namespace=\"a.b\"", "/registry/namespace"),
    ("rbac.create=\"no\"", "/rbac/create"),
    ("database.port=\"5432\"", "/database/port"),
    ("database.sslMode=\"on\"", "/database/sslMode"),
    ("database.namePrefix=\"pgx\"", "/database/namePrefix"),
    ("database.namePrefix=\"at_\"", "/database/namePrefix"),
    ("database.tenantsPerCell=5000", "/database/tenantsPerCell"),
    ("database.archiveSeconds=59", "/database/archiveSeconds"),
    ("database.loginRotationSeconds=-1", "/database/loginRotationSeconds"),
    ("database.passwordSecret.key=\"a/b\"", "/database/passwordSecret/key"),
    ("database.password=\"hunter2\"", "password"),
    ("database.acceptsNewTenants=\"yes\"", "/database/acceptsNewTenants"),
    ("databases={}", "/databases"),
    ("databases=[{\"name\":\"b\",\"host\":\"b\"}]", "passwordSecret"),
    ("databases=[{\"name\":\"B\",\"host\":\"b\",\"passwordSecret\":{\"name\":\"p\"}}]", "/databases/0/name"),
    ("databases=[{\"name\":\"b\",\"host\":\"\",\"passwordSecret\":{\"name\":\"p\"}}]", "/databases/0/host"),
    ("databases=[{\"name\":\"b\",\"host\":\"b\",\"passwordSecret\":{\"name\":\"p\"},\"ports\":1}]", "ports"),
    ("adminApi.enabled=\"yes\"", "/adminApi/enabled"),
    ("networkPolicy.apiServerPorts=[\"https\"]", "/networkPolicy/apiServerPorts/0"),
    ("metrics.serviceMonitor.interval=\"often\"", "/metrics/serviceMonitor/interval"),
    ("imagePullSecrets=[\"pull\"]", "/imagePullSecrets/0"),
    ("commonLabels=[]", "/commonLabels"),
];

#[test]
fn misspelt_and_wrong_values_are_refused_by_name() {
    let mut wrong = Vec::new();
    for (set, expected) in REFUSED {
        match try_render(&["--set-json", set]) {
            Ok(_) => wrong.push(format!("{set} was accepted")),
            Err(error) => {
                let by_schema = error.contains("don't meet the specifications of the schema");
                // Helm writes paths with '/' or '.', as its schema library does.
                let named = error.contains(expected) || error.contains(&expected[1..].replace('/', "."));
                if !by_schema || !named {
                    wrong.push(format!("{set}: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Values that were renamed, and the sentence that names their successor.
const RENAMED: &[(&str, &str)] = &[
    ("clusterSilenceSeconds=600", "clusterSilenceSeconds is now clusterHeartbeatTimeoutSeconds"),
    ("plan.enabled=true", "plan is now adminApi"),
    ("networkPolicy.planClients=[]", "networkPolicy.planClients is now networkPolicy.adminApiClients"),
    ("operator.config.plan={}", "operator.config.plan is now operator.config.adminApi"),
    (
        "operator.config.clusterSilenceSeconds=60",
        "operator.config.clusterSilenceSeconds is now operator.config.clusterHeartbeatTimeoutSeconds",
    ),
];

#[test]
fn a_renamed_value_is_refused_with_its_new_name() {
    for (set, sentence) in RENAMED {
        let error = try_render(&["--set-json", set]).unwrap_err();
        assert!(error.contains(&format!("values were renamed: {sentence};")), "{set}: {error}");
        assert_eq!(error.matches(sentence).count(), 1, "{set}: {error}");
    }
}

#[test]
fn prefixes_that_postgres_takes_are_accepted() {
    for prefix in ["at", "p", "pa", "p1", "x123456789"] {
        try_render(&["--set", &format!("database.namePrefix={prefix}")]).unwrap();
    }
}

/// A value without a schema would be refused; a schema without a value would be undocumented.
#[test]
fn the_schema_and_the_values_know_the_same_keys() {
    fn compare(path: &str, values: &Value, schema: &Value, faults: &mut Vec<String>) {
        let (Some(properties), Some(values)) = (schema["properties"].as_object(), values.as_object()) else { return };
        if schema["additionalProperties"] != false {
            faults.push(format!("{path}: accepts unknown keys"));
        }
        // Helm adds `global` to every chart; the parts of `resources` are optional.
        let optional = |key: &str| key == "global" || key == "claims" || key == "limits" || key == "requests";
        faults.extend(
            properties
                .iter()
                // A renamed key is only there to be refused by the templates.
                .filter(|(key, schema)| !values.contains_key(*key) && !optional(key) && schema["deprecated"] != true)
                .map(|(key, _)| format!("{path}.{key}: no value")),
        );
        for (key, value) in values {
            match properties.get(key) {
                Some(schema) => compare(&format!("{path}.{key}"), value, schema, faults),
                None => faults.push(format!("{path}.{key}: no schema")),
            }
        }
    }
    let read = |name: &str| std::fs::read_to_string(chart().join(name)).unwrap();
    let values: Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut faults = Vec::new();
    compare("values", &values, &schema, &mut faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
