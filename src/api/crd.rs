//! The custom resource definitions, generated from the types.

use super::{AgentConfig, DatabaseInstance, Tenant};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// Every definition in `crds/`: file name and definition.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("agentconfigs.yaml", finish(AgentConfig::crd())),
        ("databaseinstances.yaml", finish(DatabaseInstance::crd())),
        ("tenants.yaml", finish(Tenant::crd())),
    ]
}

/// First line of every generated file.
const HEADER: &str = "# Generated from src/api by `make generate`; edit the types, not this file.\n";

/// The text of every file in `crds/`: file name and YAML, in a stable order.
///
/// # Errors
/// When a definition can't be written as YAML, which is a bug in the types.
pub fn render_crds() -> Result<Vec<(&'static str, String)>, serde_yaml::Error> {
    definitions()
        .into_iter()
        .map(|(name, crd)| {
            let mut value = serde_yaml::to_value(&crd)?;
            whole_numbers(&mut value);
            Ok((name, format!("{HEADER}{}", serde_yaml::to_string(&value)?)))
        })
        .collect()
}

/// Writes `40.0` as `40`: the CRD's Rust type has floats for bounds.
fn whole_numbers(value: &mut serde_yaml::Value) {
    match value {
        serde_yaml::Value::Number(n) => {
            // Bounds stay within ±2^53, where the cast is exact; the comparison keeps a fraction as it is.
            if let Some(whole) = n.as_f64().filter(|f| n.is_f64() && f.fract() == 0.0) {
                *n = serde_yaml::Number::from(whole as i64);
            }
        }
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(whole_numbers),
        serde_yaml::Value::Mapping(map) => map.values_mut().for_each(whole_numbers),
        serde_yaml::Value::Tagged(tagged) => whole_numbers(&mut tagged.value),
        serde_yaml::Value::Null | serde_yaml::Value::Bool(_) | serde_yaml::Value::String(_) => {}
    }
}

/// Completes a derived definition: removes `nullable`, adds defaults for absent objects (so that field selectors and
/// `kubectl get -o yaml` show the effective values), and adds the default `status.observedGeneration: -1`, so that an
/// object counts as in progress before its first reconcile.
fn finish(crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let Ok(mut value) = serde_json::to_value(&crd) else { return crd };
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") else { continue };
            strip(schema);
            if let Some(spec) = schema.pointer_mut("/properties/spec") {
                default_whole_objects(spec);
                if let Some(spec) = spec.as_object_mut() {
                    // An empty spec needs `properties` as well.
                    spec.entry("properties").or_insert_with(|| serde_json::json!({}));
                }
            }
            if let Some(status) = schema.pointer_mut("/properties/status").and_then(Value::as_object_mut) {
                status.insert("default".to_owned(), serde_json::json!({ "observedGeneration": -1 }));
            }
        }
    }
    serde_json::from_value(value).unwrap_or(crd)
}

fn strip(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("nullable");
            if let Some(Value::String(text)) = map.get_mut("description") {
                // The source code breaks lines for its own width; `kubectl explain` breaks them for the terminal's.
                *text = text.replace('\n', " ");
            }
            if map.get("type").and_then(Value::as_str) == Some("array") {
                map.entry("x-kubernetes-list-type").or_insert_with(|| "atomic".into());
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Gives objects the default `{}` if they require no member and a member has a default. Without it, the members'
/// defaults would apply only where the object is set.
fn default_whole_objects(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut() {
        default_whole_objects(property);
        let members = property.get("properties").and_then(Value::as_object);
        let complete = property.get("required").is_none();
        if complete
            && members.is_some_and(|m| m.values().any(|member| member.get("default").is_some()))
            && let Some(map) = property.as_object_mut()
        {
            map.entry("default").or_insert_with(|| serde_json::json!({}));
        }
    }
}
