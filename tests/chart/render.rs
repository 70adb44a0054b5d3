//! Rendered objects by default and with each option, and the settings that the programs read from them.

use super::support::{REQUIRED, chart, find, helm, names, of_kind, render, try_render, variants};
use serde_json::{Value, json};

#[test]
fn helm_lint_passes() {
    helm(&["lint", "--strict", chart().to_str().unwrap(), "--set", REQUIRED]).unwrap();
}

#[test]
fn a_missing_required_value_is_named() {
    let chart = chart();
    let error = helm(&["template", "demo", chart.to_str().unwrap()]).unwrap_err();
    assert!(error.contains("database.host is required"), "{error}");
    let error = helm(&["template", "demo", chart.to_str().unwrap(), "--set", "database.host=db"]).unwrap_err();
    assert!(error.contains("database.passwordSecret.name is required"), "{error}");
}

#[test]
fn an_installation_has_these_objects() {
    let mut found = names(&render(&[]));
    found.sort();
    let operator = "demo-agent-tenancy.system-operator";
    let expected = [
        "ClusterRole/demo-agent-tenancy.system-edit".to_owned(),
        format!("ClusterRole/{operator}"),
        format!("ClusterRole/{operator}-cluster-id"),
        "ClusterRole/demo-agent-tenancy.system-view".to_owned(),
        format!("ClusterRoleBinding/{operator}"),
        format!("ClusterRoleBinding/{operator}-cluster-id"),
        "ConfigMap/demo-agent-tenancy-agent-api".to_owned(),
        "ConfigMap/demo-agent-tenancy-operator".to_owned(),
        "CustomResourceDefinition/agentconfigs.agent-tenancy.dev".to_owned(),
        "CustomResourceDefinition/databaseinstances.agent-tenancy.dev".to_owned(),
        "CustomResourceDefinition/tenants.agent-tenancy.dev".to_owned(),
        "Deployment/demo-agent-tenancy-agent-api".to_owned(),
        "Deployment/demo-agent-tenancy-operator".to_owned(),
        "Namespace/agent-tenancy-registry".to_owned(),
        "PodDisruptionBudget/demo-agent-tenancy-agent-api".to_owned(),
        "Role/demo-agent-tenancy-agent-api".to_owned(),
        "Role/demo-agent-tenancy-operator".to_owned(),
        "Role/demo-agent-tenancy.system-agent-api".to_owned(),
        format!("Role/{operator}"),
        "RoleBinding/demo-agent-tenancy-agent-api".to_owned(),
        "RoleBinding/demo-agent-tenancy-operator".to_owned(),
        "RoleBinding/demo-agent-tenancy.system-agent-api".to_owned(),
        format!("RoleBinding/{operator}"),
        "Service/demo-agent-tenancy-agent-api".to_owned(),
        "Service/demo-agent-tenancy-agent-api-metrics".to_owned(),
        "Service/demo-agent-tenancy-operator-metrics".to_owned(),
        "ServiceAccount/demo-agent-tenancy-agent-api".to_owned(),
        "ServiceAccount/demo-agent-tenancy-operator".to_owned(),
    ];
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_object_carries_the_recommended_labels() {
    for (variant, objects) in variants() {
        for object in &objects {
            let labels = &object["metadata"]["labels"];
            for (key, value) in [
                ("app.kubernetes.io/name", "agent-tenancy"),
                ("app.kubernetes.io/instance", "demo"),
                ("app.kubernetes.io/managed-by", "Helm"),
                ("helm.sh/chart", "agent-tenancy-0.1.0"),
            ] {
                assert_eq!(labels[key], value, "{key} of {} ({variant})", object["metadata"]["name"]);
            }
            if variant == "everything" {
                assert_eq!(labels["team"], "platform");
            }
        }
    }
}

fn config(objects: &[Value], name: &str, key: &str) -> String {
    find(objects, "ConfigMap", name)["data"][key].as_str().unwrap().to_owned()
}

#[test]
fn the_agent_api_reads_its_rendered_settings() {
    use agent_tenancy::settings::{SettingsFile, agent_api::AgentApiSettings, resolve};
    let args = ["--set", "registry.namespace=elsewhere,agentApi.config.database.connectionBudget=99"];
    for (_, objects) in variants().into_iter().filter(|(variant, _)| *variant != "without the agent API") {
        let text = config(&objects, "demo-agent-tenancy-agent-api", "agent-api.yaml");
        resolve::<AgentApiSettings>(Some(SettingsFile { name: "agent-api.yaml", text: &text }), []).unwrap();
    }
    let text = config(&render(&args), "demo-agent-tenancy-agent-api", "agent-api.yaml");
    let settings: AgentApiSettings = resolve(Some(SettingsFile { name: "agent-api.yaml", text: &text }), []).unwrap();
    assert_eq!((settings.registry.namespace.as_str(), settings.database.connection_budget), ("elsewhere", 99));
}

#[test]
fn each_database_has_its_settings_files_and_port() {
    use agent_tenancy::settings::{SettingsFile, operator::OperatorSettings, resolve};
    let list = r#"databases=[{"name":"b","host":"db2","passwordSecret":{"name":"pw-b"},"acceptsNewTenants":false},
        {"name":"c","host":"db3","port":6432,"namePrefix":"cc","database":"other","archiveSeconds":2592000,
         "passwordSecret":{"name":"pw-c","key":"pw"},"caSecret":{"name":"ca-c","key":"root"}}]"#;
    let objects = render(&["--set-json", list, "--set", "networkPolicy.enabled=true"]);
    let text = config(&objects, "demo-agent-tenancy-operator", "operator.yaml");
    let settings: OperatorSettings = resolve(Some(SettingsFile { name: "operator.yaml", text: &text }), []).unwrap();
    let [b, c] = settings.databases.as_slice() else { panic!("{text}") };
    assert_eq!(
        (b.host.as_str(), b.port, b.database.as_str(), b.user.as_str()),
        ("db2", 5432, "agents", "at_operator_a")
    );
    assert_eq!((b.accepts_new_tenants, c.accepts_new_tenants), (false, true));
    assert_eq!((c.port, c.database.as_str(), c.user.as_str()), (6432, "other", "cc_operator_a"));
    let folder = |name: &str| std::path::PathBuf::from(format!("/etc/agent-tenancy/databases/{name}"));
    assert_eq!((&b.password_file, &b.ssl_root_cert_file), (&Some(folder("b").join("password")), &None));
    assert_eq!(c.ssl_root_cert_file, Some(folder("c").join("ca.crt")));
    let pod = &find(&objects, "Deployment", "demo-agent-tenancy-operator")["spec"]["template"]["spec"];
    for (name, sources) in [
        ("b", json!([{ "secret": { "name": "pw-b", "items": [{ "key": "password", "path": "password" }] } }])),
        (
            "c",
            json!([
                { "secret": { "name": "pw-c", "items": [{ "key": "pw", "path": "password" }] } },
                { "secret": { "name": "ca-c", "items": [{ "key": "root", "path": "ca.crt" }] } },
            ]),
        ),
    ] {
        let volume = format!("database-{name}");
        let of = |list: &Value| list.as_array().unwrap().iter().find(|item| item["name"] == *volume).cloned().unwrap();
        assert_eq!(of(&pod["volumes"])["projected"]["sources"], sources);
        assert_eq!(of(&pod["containers"][0]["volumeMounts"])["mountPath"], *folder(name).to_str().unwrap());
    }
    for component in ["operator", "agent-api"] {
        let policy = find(&objects, "NetworkPolicy", &format!("demo-agent-tenancy-{component}"));
        let egress = policy["spec"]["egress"].as_array().unwrap();
        let databases = json!([{ "port": 5432, "protocol": "TCP" }, { "port": 6432, "protocol": "TCP" }]);
        assert!(egress.iter().any(|rule| rule["ports"] == databases), "{egress:?}");
    }
    let nameless = r#"databases=[{"name":"b","host":"db2","passwordSecret":{"name":""}}]"#;
    let error = try_render(&["--set-json", nameless]).unwrap_err();
    assert!(error.contains("databases[0].passwordSecret.name is required"), "{error}");
}

#[test]
fn the_operators_settings_follow_the_values() {
    use agent_tenancy::settings::{SettingsFile, operator::OperatorSettings, resolve};
    for (variant, objects) in variants() {
        let text = config(&objects, "demo-agent-tenancy-operator", "operator.yaml");
        let settings: OperatorSettings =
            resolve(Some(SettingsFile { name: "operator.yaml", text: &text }), []).unwrap();
        assert_eq!(settings.watch_namespaces.len(), if variant == "scoped" { 2 } else { 0 });
        let is_leases = settings.agent_api.replica_source == agent_tenancy::settings::operator::ReplicaSource::Leases;
        assert_eq!(is_leases, variant == "without the agent API");
        assert_eq!(settings.database.ssl_root_cert_file.is_some(), variant == "everything");
    }
    let args = [
        "--set",
        "scope.namespaces={a,b},operator.config.agentApi.replicaSource=Leases,operator.config.database.lockTimeoutSeconds=7",
    ];
    let text = config(&render(&args), "demo-agent-tenancy-operator", "operator.yaml");
    let settings: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(settings["watchNamespaces"], json!(["a", "b"]));
    assert_eq!(
        settings["agentApi"],
        json!({
            "replicaSource": "Leases", "namespace": "system",
            "podSelector": "app.kubernetes.io/component=agent-api,app.kubernetes.io/instance=demo,\
                            app.kubernetes.io/name=agent-tenancy"
        })
    );
    assert_eq!(settings["database"]["lockTimeoutSeconds"], 7, "settings without a chart value are passed on");
    assert_eq!(settings["database"]["host"], "postgres.example");
    assert_eq!(settings["leaderElection"]["name"], "demo-agent-tenancy-operator");
    let objects = render(&["--set", "agentApi.enabled=false"]);
    let text = config(&objects, "demo-agent-tenancy-operator", "operator.yaml");
    let settings: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(settings["agentApi"]["replicaSource"], "Leases");
}

#[test]
fn a_changed_setting_rolls_the_pods_and_an_unchanged_one_does_not() {
    let checksum = |args: &[&str]| {
        let objects = render(args);
        ["operator", "agent-api"].map(|component| {
            let deployment = find(&objects, "Deployment", &format!("demo-agent-tenancy-{component}"));
            deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"].as_str().unwrap().to_owned()
        })
    };
    let before = checksum(&[]);
    let after = checksum(&["--set", "operator.concurrency=3,operator.replicas=2"]);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
}

#[test]
fn images_are_pulled_by_digest_where_one_is_given() {
    let image = |args: &[&str]| {
        let objects = render(args);
        let deployment = find(&objects, "Deployment", "demo-agent-tenancy-operator");
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    assert_eq!(image(&[]), "agent-tenancy/tenant-operator:0.1.0");
    let digest = format!("sha256:{}", "0a".repeat(32));
    let set = format!("operator.image.digest={digest},operator.image.tag=v9");
    assert_eq!(image(&["--set", &set]), format!("agent-tenancy/tenant-operator@{digest}"));
}

#[test]
fn crds_and_the_registry_outlive_the_release_unless_disabled() {
    let policy = |objects: &[Value]| -> Vec<Value> {
        ["CustomResourceDefinition", "Namespace"]
            .iter()
            .flat_map(|kind| of_kind(objects, kind))
            .map(|object| object["metadata"]["annotations"]["helm.sh/resource-policy"].clone())
            .collect()
    };
    assert_eq!(policy(&render(&[])), vec![json!("keep"); 4]);
    let objects = render(&["--set", "crds.keep=false,registry.keep=false"]);
    assert_eq!(policy(&objects), vec![Value::Null; 4]);
    let objects = render(&["--set", "crds.install=false,registry.createNamespace=false"]);
    assert_eq!(policy(&objects), Vec::<Value>::new());
}

#[test]
fn options_create_their_objects() {
    let (_, objects) = variants().pop().unwrap();
    assert_eq!(of_kind(&objects, "PodDisruptionBudget").len(), 2);
    assert_eq!(of_kind(&objects, "ServiceMonitor").len(), 2);
    let policies = of_kind(&objects, "NetworkPolicy");
    assert_eq!(policies.len(), 2);
    for policy in policies {
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        for rule in ["ingress", "egress"].iter().flat_map(|way| policy["spec"][way].as_array().unwrap()) {
            assert!(rule["ports"].as_array().is_some_and(|ports| !ports.is_empty()), "a rule opens every port: {rule}");
        }
    }
    let pod = &find(&objects, "Deployment", "demo-agent-tenancy-agent-api")["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["mesh"], "on");
    assert_eq!(pod["spec"]["priorityClassName"], "high");
    let spread = &pod["spec"]["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], "agent-api");
    assert!(
        try_render(&["--set", "rbac.create=false"])
            .unwrap()
            .iter()
            .all(|o| !o["kind"].as_str().unwrap().contains("Role"))
    );
}

/// Without `adminApi.enabled` none of its objects exists; with it, only what the admin API needs.
#[test]
fn the_admin_api_is_disabled_by_default() {
    for (variant, objects) in variants() {
        let open = variant == "everything";
        let named: Vec<_> = names(&objects).into_iter().filter(|name| name.ends_with("-admin-api")).collect();
        let expected = [
            "ClusterRole/demo-agent-tenancy.system-operator-admin-api",
            "ClusterRoleBinding/demo-agent-tenancy.system-operator-admin-api",
            "Service/demo-agent-tenancy-operator-admin-api",
        ];
        let mut found = named.clone();
        found.sort();
        assert_eq!(found, if open { expected.to_vec() } else { Vec::new() }, "{variant}");
        let settings: Value =
            serde_yaml::from_str(&config(&objects, "demo-agent-tenancy-operator", "operator.yaml")).unwrap();
        assert_eq!(settings["adminApi"]["httpAddress"].as_str(), open.then_some("0.0.0.0:8082"), "{variant}");
        assert_eq!(objects.iter().any(|object| object.to_string().contains("tokenreviews")), open, "{variant}");
    }
    let (_, objects) = variants().pop().unwrap();
    let ports = |name: &str| find(&objects, "NetworkPolicy", name)["spec"]["ingress"].to_string();
    assert!(ports("demo-agent-tenancy-operator").contains("\"admin-api\""));
    assert!(!ports("demo-agent-tenancy-agent-api").contains("\"admin-api\""));
}

/// Selectors can't be changed later, so they hold nothing that a value could change.
#[test]
fn selectors_match_their_pods_and_nothing_else() {
    for (variant, objects) in variants() {
        for deployment in of_kind(&objects, "Deployment") {
            let selector = deployment["spec"]["selector"]["matchLabels"].as_object().unwrap();
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            assert_eq!(selector.len(), 3, "{variant}");
            assert!(selector.iter().all(|(key, value)| &labels[key] == value), "{variant}");
        }
        for service in of_kind(&objects, "Service") {
            let component = &service["spec"]["selector"]["app.kubernetes.io/component"];
            let same = of_kind(&objects, "Deployment")
                .into_iter()
                .find(|d| &d["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == component)
                .unwrap();
            let ports = same["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
            for port in service["spec"]["ports"].as_array().unwrap() {
                assert!(ports.iter().any(|p| p["name"] == port["targetPort"]), "{variant}: {port}");
            }
        }
    }
}
