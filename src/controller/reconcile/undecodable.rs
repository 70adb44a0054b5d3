//! Objects that don't decode as their type. The error is reported in the status of the object and blocks no other object. The
//! object can still be deleted, because that needs only its id and policy.

use crate::{
    api::{
        AgentConfig, AgentConfigSpec, AgentContext, AgentParameters, AgentProvider, AgentTimeouts, DeletionPolicy,
        ProviderType, Tenant, TenantAuth, TenantDatabase, TenantSpec,
    },
    effects::kubernetes::objects::Broken,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn part<T: DeserializeOwned>(raw: &Value, path: &str) -> Option<T> {
    raw.pointer(path).and_then(|value| serde_json::from_value(value.clone()).ok())
}

/// The error with the invalid field: `spec.agents: …`. The error of kube names no field.
pub(crate) fn locate<T: DeserializeOwned>(broken: &Broken, raw: &Value) -> String {
    match raw.get("spec").map(serde_path_to_error::deserialize::<_, T>) {
        Some(Err(error)) if error.path().iter().next().is_some() => {
            format!("spec.{}: {}", error.path(), error.inner())
        }
        Some(Err(error)) => format!("spec: {}", error.inner()),
        Some(Ok(_)) | None => broken.error.clone(),
    }
}

/// The readable parts of a Tenant: id, policy and status. An unreadable policy counts as `Retain`.
pub(crate) fn salvage_tenant(broken: &Broken, raw: &Value) -> Tenant {
    let database = TenantDatabase {
        instance: part(raw, "/spec/database/instance"),
        deletion_policy: part(raw, "/spec/database/deletionPolicy").unwrap_or(DeletionPolicy::Retain),
        ..TenantDatabase::default()
    };
    let spec = TenantSpec {
        tenant_id: part(raw, "/spec/tenantId"),
        display_name: None,
        suspend: false,
        agents: Vec::new(),
        default_agent: None,
        tenant_mutable: Vec::new(),
        database,
        auth: TenantAuth::default(),
    };
    Tenant { metadata: broken.metadata.clone(), spec, status: part(raw, "/status") }
}

/// The readable part of an AgentConfig: its status.
pub(crate) fn salvage_agent(broken: &Broken, raw: &Value) -> AgentConfig {
    let spec = AgentConfigSpec {
        provider: AgentProvider { type_: ProviderType::Echo, base_url: None, api_key_secret_ref: None },
        model: String::new(),
        system_prompt: None,
        parameters: AgentParameters {
            temperature: None,
            top_p: None,
            max_output_tokens: 1,
            stop: Vec::new(),
            seed: None,
        },
        context: AgentContext::default(),
        timeouts: AgentTimeouts::default(),
    };
    AgentConfig { metadata: broken.metadata.clone(), spec, status: part(raw, "/status") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AgentConfigSpec, DeletionPolicy, TenantSpec};

    #[test]
    fn an_unreadable_policy_counts_as_retain_and_a_readable_one_is_kept() {
        let broken = Broken { metadata: Default::default(), error: String::new() };
        let policy = |raw: Value| salvage_tenant(&broken, &raw).spec.database.deletion_policy;
        assert_eq!(
            policy(serde_json::json!({"spec": {"database": {"deletionPolicy": "Shred"}}})),
            DeletionPolicy::Retain
        );
        let raw =
            serde_json::json!({"spec": {"agents": 5, "tenantId": "acme", "database": {"deletionPolicy": "Delete"}}});
        assert_eq!(policy(raw.clone()), DeletionPolicy::Delete);
        assert_eq!(salvage_tenant(&broken, &raw).spec.tenant_id.as_deref(), Some("acme"));
    }

    #[test]
    fn the_invalid_field_is_named() {
        let broken = Broken { metadata: Default::default(), error: "Invalid type".to_owned() };
        let tenant = |spec: Value| locate::<TenantSpec>(&broken, &serde_json::json!({ "spec": spec }));
        let wrong = serde_json::json!({ "agents": [{ "name": "a", "configRef": { "name": 7 } }] });
        assert!(tenant(wrong).starts_with("spec.agents[0].configRef.name: invalid type"));
        assert!(tenant(serde_json::json!(5)).starts_with("spec: invalid type"));
        assert_eq!(locate::<AgentConfigSpec>(&broken, &serde_json::json!({})), "Invalid type");
    }
}
