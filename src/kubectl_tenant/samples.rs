//! A tenant, its agent and its replicas, for the tests of the plugin. The time is always the Unix epoch.

use super::report::document::Facts;
use crate::{
    api::{AgentConfig, Tenant, names},
    domain::{
        keyring::{Keyring, NewKey},
        keys::{Algorithm, KeyBytes, Kid},
    },
};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

/// Key bytes that must appear nowhere.
pub(crate) const CANARY: &[u8] = b"canary-canary-canary-canary-canary";
/// The same in base64, as a Secret shows them.
pub(crate) const CANARY_BASE64: &str = "Y2FuYXJ5";

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 2,
            "lastTransitionTime": "1969-12-31T23:57:00Z" })
}

/// Ready for three minutes; every replica acknowledged version 40 of its entry.
pub(crate) fn ready_tenant() -> Tenant {
    let value = json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": { "namespace": "shop", "name": "acme", "uid": "u-1", "generation": 2 },
        "spec": { "displayName": "Acme Inc.", "agents": [{ "name": "support", "configRef": { "name": "support-bot" } }],
                  "database": { "storageLimit": "1Gi" } },
        "status": {
            "observedGeneration": 2,
            "tenantId": "acme",
            "database": { "instance": "main", "databaseId": "00000000-0000-0000-0000-000000000001",
                          "incarnation": "00000000-0000-0000-0000-000000000002",
                          "schema": "at_acme", "role": "at_acme", "schemaVersion": 1 },
            "keys": { "secretName": "acme-signing-keys", "currentKid": "kid-now", "ring": [
                { "kid": "kid-now", "state": "Current", "algorithm": "HS256", "lastTransitionTime": "1969-12-31T23:57:00Z" },
                { "kid": "kid-new", "state": "Standby", "algorithm": "HS256", "lastTransitionTime": "1969-12-31T23:57:00Z" }] },
            "served": { "entryVersion": "40", "servedTime": "1969-12-31T23:57:00Z" },
            "conditions": [
                condition("Ready", "True", "Ready", "all conditions are met"),
                condition("Accepted", "True", "Accepted", "the spec is valid"),
                condition("Served", "True", "Served", "2 of 2 replicas serve it"),
            ]
        }
    });
    serde_json::from_value(value).unwrap()
}

/// The same tenant while a replica has not acknowledged yet.
pub(crate) fn waiting_tenant() -> Tenant {
    let mut tenant = ready_tenant();
    let status = tenant.status.as_mut().unwrap();
    status.served = None;
    for c in &mut status.conditions {
        if c.type_ != "Accepted" {
            c.status = "Unknown".into();
            c.reason = "WaitingForReplicas".into();
            c.message = "agent-api-b has not acknowledged version 40".into();
        }
    }
    tenant
}

/// The AgentConfig of both.
pub(crate) fn agent() -> AgentConfig {
    let value = json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1",
        "kind": "AgentConfig",
        "metadata": { "namespace": "shop", "name": "support-bot" },
        "spec": { "provider": { "type": "Echo" }, "model": "echo-1", "parameters": { "maxOutputTokens": 256 } },
        "status": { "observedGeneration": 1, "revision": 3,
                    "conditions": [condition("Ready", "True", "Ready", "all conditions are met")] }
    });
    serde_json::from_value(value).unwrap()
}

/// A keyring of two keys.
pub(crate) fn keyring() -> Keyring {
    let key = |kid: &str| NewKey {
        kid: Kid::parse(kid).unwrap(),
        algorithm: Algorithm::HS256,
        verifying: KeyBytes::new(CANARY.to_vec()),
        private: None,
    };
    let first = Keyring::first(1, key("kid-now"), 3600, None, jiff::Timestamp::UNIX_EPOCH).unwrap();
    first.with_standby(key("kid-new"), jiff::Timestamp::UNIX_EPOCH).unwrap()
}

/// A replica's Lease, renewed `seconds_ago` seconds ago and valid for 30 s.
pub(crate) fn acknowledgement(name: &str, version: u64, seconds_ago: i64) -> Lease {
    let renewed = jiff::Timestamp::from_second(-seconds_ago).unwrap();
    let ack = json!({ "process": "00000000-0000-0000-0000-000000000009", "version": version, "format": 1,
                      "quarantined": {}, "quarantineOverflow": false });
    let value = json!({
        "metadata": { "namespace": "agents", "name": name,
                      "annotations": { names::ACK_ANNOTATION: ack.to_string() } },
        "spec": { "leaseDurationSeconds": 30, "renewTime": format!("{renewed:.6}") }
    });
    serde_json::from_value(value).unwrap()
}

/// Everything readable, two replicas up to date.
pub(crate) fn facts(tenant: Tenant) -> Facts {
    Facts {
        tenant,
        agents: vec![Ok(Some(agent()))],
        leases: Ok(vec![acknowledgement("agent-api-a", 41, 2), acknowledgement("agent-api-b", 40, 3)]),
    }
}
