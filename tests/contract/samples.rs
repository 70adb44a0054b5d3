//! The samples decode, resolve without a violation, and have no field that the schema doesn't have.

use super::support::{repository, schemas};
use agent_tenancy::{
    api::{AgentConfig, DeletionPolicy, Tenant},
    domain::{
        ident::{ObjectId, Uid},
        resolve::{resolve_agent, resolve_tenant},
    },
};
use serde_json::Value;

/// Every sample: file name and object.
pub fn samples() -> Vec<(String, Value)> {
    let folder = repository().join("config/samples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), serde_yaml::from_str(&text).unwrap())
        })
        .collect()
}

/// The object as the operator names it.
pub fn object_id(object: &Value) -> ObjectId {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    ObjectId { namespace: "demo".to_owned(), uid: Uid("0b9a4c9e-0000-4000-8000-000000000001".to_owned()), name }
}

#[test]
fn samples_are_valid_and_strict() {
    let schemas = schemas();
    for (file, object) in samples() {
        let kind = object["kind"].as_str().unwrap();
        assert!(object["metadata"].get("namespace").is_none(), "{file} names a namespace; the user chooses it");
        let (_, schema) = schemas.iter().find(|(k, _)| k == kind).unwrap();
        let unknown = unknown_fields("spec", &object["spec"], &schema["properties"]["spec"]);
        assert_eq!(unknown, Vec::<String>::new(), "{file}");
        match kind {
            "Tenant" => {
                let tenant: Tenant = serde_json::from_value(object.clone()).unwrap();
                resolve_tenant(object_id(&object), 1, &std::collections::BTreeMap::new(), &tenant.spec).unwrap();
            }
            "AgentConfig" => {
                let agent: AgentConfig = serde_json::from_value(object.clone()).unwrap();
                resolve_agent(object_id(&object), 1, &agent.spec).unwrap();
            }
            other => panic!("{file} is a {other}"),
        }
    }
}

#[test]
fn samples_show_two_agents_and_both_deletion_policies() {
    let of_kind = |kind: &str| samples().into_iter().map(|(_, object)| object).filter(|o| o["kind"] == kind).collect();
    let agents: Vec<Value> = of_kind("AgentConfig");
    assert_eq!(agents.len(), 2);
    assert_ne!(agents[0]["spec"]["systemPrompt"], agents[1]["spec"]["systemPrompt"]);
    assert_ne!(agents[0]["spec"]["parameters"]["temperature"], agents[1]["spec"]["parameters"]["temperature"]);
    let names: Vec<_> = agents.iter().map(|agent| agent["metadata"]["name"].as_str().unwrap()).collect();

    let tenants: Vec<Value> = of_kind("Tenant");
    let tenants: Vec<Tenant> = tenants.into_iter().map(|value| serde_json::from_value(value).unwrap()).collect();
    let policies: Vec<_> = tenants.iter().map(|tenant| tenant.spec.database.deletion_policy).collect();
    assert_eq!(policies, [DeletionPolicy::Retain, DeletionPolicy::Delete]);
    for tenant in &tenants {
        for agent in &tenant.spec.agents {
            assert!(names.contains(&agent.config_ref.name.as_str()), "no sample for {}", agent.config_ref.name);
        }
    }
}

fn unknown_fields(path: &str, value: &Value, schema: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, child)| match schema["properties"].get(key) {
                Some(known) => unknown_fields(&format!("{path}.{key}"), child, known),
                None => vec![format!("{path}.{key}")],
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| unknown_fields(&format!("{path}[{i}]"), item, &schema["items"]))
            .collect(),
        _ => Vec::new(),
    }
}
