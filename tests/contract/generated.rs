//! The committed CRDs equal the generated ones, and have the documented names.

use super::support::{compare, crds, repository};
use std::{collections::BTreeSet, path::Path};

#[test]
fn crds_equal_what_the_types_generate() {
    let files = agent_tenancy::api::crd::render_crds().unwrap();
    for (name, text) in &files {
        compare(&Path::new("crds").join(name), text);
    }
    let expected: BTreeSet<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    let present: BTreeSet<_> = std::fs::read_dir(repository().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(present, expected, "crds/ holds generated files and nothing else");
}

#[test]
fn names_scope_and_status_are_as_documented() {
    let documented = [
        ("AgentConfig", "agentconfigs", "agc", "Ready"),
        ("DatabaseInstance", "databaseinstances", "adb", "Available"),
        ("Tenant", "tenants", "atn", "Ready"),
    ];
    assert_eq!(crds().len(), documented.len());
    for (crd, (kind, plural, short, first)) in crds().iter().zip(documented) {
        let spec = &crd["spec"];
        assert_eq!(spec["group"], agent_tenancy::api::names::GROUP);
        assert_eq!(spec["names"]["kind"], kind);
        assert_eq!(spec["names"]["plural"], plural);
        assert_eq!(spec["names"]["shortNames"], serde_json::json!([short]));
        assert_eq!(spec["names"]["categories"], serde_json::json!(["agent-tenancy"]));
        assert_eq!(spec["scope"], "Namespaced");
        let version = &spec["versions"][0];
        assert_eq!(version["name"], agent_tenancy::api::names::VERSION);
        assert!(version["subresources"]["status"].is_object(), "{kind} has no status subresource");
        let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"], serde_json::json!({ "observedGeneration": -1 }));
        assert!(status.get("required").is_none(), "every field of {kind}.status is optional");
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        assert_eq!(columns.first().unwrap()["name"], first);
        assert_eq!(columns.last().unwrap()["name"], "Age");
    }
}

#[test]
fn defaults_of_the_crd_equal_those_of_the_types() {
    let mut sample: agent_tenancy::api::Tenant = serde_json::from_value(serde_json::json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": "acme" },
        "spec": { "agents": [{ "name": "chat", "configRef": { "name": "support" } }] }
    }))
    .unwrap();
    // A value other than the default makes the type write the object out.
    sample.spec.database.max_concurrent_transactions += 1;
    sample.spec.auth.max_token_seconds += 1;
    let written = serde_json::to_value(&sample).unwrap();
    let schemas = super::support::schemas();
    let (_, schema) = schemas.iter().find(|(kind, _)| kind == "Tenant").unwrap();
    for (object, changed) in [("database", "maxConcurrentTransactions"), ("auth", "maxTokenSeconds")] {
        let properties = schema["properties"]["spec"]["properties"][object]["properties"].as_object().unwrap();
        for (name, property) in properties {
            let mut value = written["spec"][object][name].clone();
            if name == changed {
                value = (value.as_i64().unwrap() - 1).into();
            }
            assert_eq!(property["default"], value, "{object}.{name}");
        }
    }
}
