//! Parts of schemas that the derive can't express.

use super::{
    bounds::{TENANT_ID, TENANT_ID_PATTERN},
    names::RESERVED_TENANT_IDS,
};
use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// Rule for the name of a Tenant without `spec.tenantId`: it is the tenant id.
pub(super) fn name_is_id_rule() -> Rule {
    let most = TENANT_ID.max;
    Rule::new(format!("has(self.spec.tenantId) || self.metadata.name.matches('{TENANT_ID_PATTERN}')")).message(
        format!(
            "metadata.name must be a valid tenant id (at most {most} characters) when spec.tenantId is not set; set \
             spec.tenantId, or choose a shorter name"
        )
        .as_str(),
    )
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

pub(super) fn key_state_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 16, "enum": ["Standby", "Current", "Previous", "Revoked"] })
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
