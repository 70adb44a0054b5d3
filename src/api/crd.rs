//! The custom resource definitions, generated from the types, and the parts of schemas that the derive can't express.

use super::{
    AgentConfig, AgentParameters, DatabaseInstance, Tenant, TenantDatabase, TenantSpec, names::RESERVED_TENANT_IDS,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, core::Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
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

/// Rule against reserved words as tenant ids. It applies on creation only: a tenant id never changes, and a word that
/// is reserved later must not block the finalizer of a Tenant that already has it.
pub(super) fn reserved_id_rule() -> Rule {
    let words = RESERVED_TENANT_IDS.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    Rule::new(format!(
        "oldSelf.hasValue() || !((has(self.spec.tenantId) ? self.spec.tenantId : self.metadata.name) in [{words}])"
    ))
    .message(format!("the tenant id must not be one of the reserved words {words}").as_str())
    .optional_old_self(true)
}

/// Rule for the whole Tenant: `spec.database.instance` is neither added nor removed later.
pub(super) fn instance_stays_rule() -> Rule {
    let has = |object: &str| format!("(has({object}.spec.database) && has({object}.spec.database.instance))");
    Rule::new(format!("{} == {}", has("self"), has("oldSelf")))
        .message("spec.database.instance must not be added or removed after creation")
}

/// Rule for `spec.database.storageLimit`: within its bounds.
pub(super) fn storage_limit_rule() -> Rule {
    let super::bounds::Bounds { min, max } = TenantDatabase::STORAGE_LIMIT;
    Rule::new(format!(
        "quantity(self).compareTo(quantity('{min}')) >= 0 && quantity(self).compareTo(quantity('{max}')) <= 0"
    ))
    .message(format!("storageLimit must be from {min} to {max}").as_str())
}

/// Schema of `conditions`: a list-map by type, bounded as in `metav1.Condition`.
pub(super) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "Conditions of the object.",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One condition of the object (metav1.Condition).",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "description": "Type of the condition, in CamelCase.", "maxLength": 64, "pattern": "^[A-Z][A-Za-z]*$" },
                "status": { "type": "string", "description": "Whether the condition is met.", "enum": ["True", "False", "Unknown"], "maxLength": 7 },
                "observedGeneration": { "type": "integer", "format": "int64", "description": "Generation of the spec that this condition describes.", "minimum": 0, "maximum": 9_007_199_254_740_991_i64 },
                "lastTransitionTime": { "type": "string", "format": "date-time", "description": "When the status last changed.", "maxLength": 40 },
                "reason": { "type": "string", "description": "Reason for the status, as one CamelCase word of a closed list.", "minLength": 1, "maxLength": 128, "pattern": "^[A-Z][A-Za-z]*$" },
                "message": { "type": "string", "description": "Details for people, and what to do.", "maxLength": 4096 }
            }
        }
    })
}

pub(super) fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "maxLength": 40 })
}

pub(super) fn stage_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 16, "enum": ["Done", "Canaries", "Holding", "Rolling", "Halted"] })
}

pub(super) fn algorithm_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 8, "enum": ["HS256", "EdDSA", "ES256"], "default": "HS256" })
}

/// Schema of the algorithm of an existing key.
pub(super) fn status_algorithm_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 8, "enum": ["HS256", "EdDSA", "ES256"] })
}

/// Schema of `status.keys.ring`: a list-map by kid, with room for every key of a full keyring.
pub(super) fn keyring_schema(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<super::TenantKeyStatus>();
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["kid"],
        "items": item
    })
}

pub(super) fn key_state_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 16, "enum": ["Standby", "Current", "Previous", "Revoked"] })
}

/// Schema of `spec.agents`: a list-map by name, at most 16.
pub(super) fn agents_schema(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<super::TenantAgent>();
    json_schema!({
        "type": "array",
        "minItems": TenantSpec::AGENTS.min,
        "maxItems": TenantSpec::AGENTS.max,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": item
    })
}

/// Schema of `spec.tenantMutable`: a set of known words.
pub(super) fn mutable_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "description": "A setting that the tenant may change itself.",
            "maxLength": 32,
            "enum": ["DefaultAgent", "Temperature", "TopP", "MaxOutputTokens", "Instructions"]
        }
    })
}

pub(super) fn deletion_policy_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 16, "enum": ["Retain", "Archive", "Delete"], "default": "Retain" })
}

pub(super) fn provider_type_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "enum": ["OpenAICompatible", "Echo"] })
}

/// Schema of `parameters.stop`: at most four texts.
pub(super) fn stop_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": AgentParameters::MAX_STOP,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "string",
            "description": "A text at which the model stops.",
            "minLength": AgentParameters::STOP.min,
            "maxLength": AgentParameters::STOP.max
        }
    })
}
