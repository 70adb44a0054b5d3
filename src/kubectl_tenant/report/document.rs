//! What was read about one Tenant, as one document: `-o json` and `-o yaml` print it, the tree is drawn from it.
//! Its field names are API. It never holds key bytes.

use crate::{
    api::{AgentConfig, Condition, ConditionType, Tenant, TenantKeyStatus, names},
    domain::{
        ack::Acknowledgement,
        ident::{Incarnation, Version},
    },
    kubectl_tenant::error::PluginError,
};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde::Serialize;
use uuid::Uuid;

/// Everything that was read. Each part has an error of its own.
pub(crate) struct Facts {
    pub(crate) tenant: Tenant,
    /// The AgentConfigs, in the order of `spec.agents`; `Ok(None)`: it does not exist.
    pub(crate) agents: Vec<Result<Option<AgentConfig>, PluginError>>,
    /// The acknowledgement Leases of the replicas.
    pub(crate) leases: Result<Vec<Lease>, PluginError>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The id in URLs and tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    pub(crate) generation: i64,
    /// The generation that was reconciled last; -1: none.
    pub(crate) observed_generation: i64,
    /// When the deletion was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_time: Option<Timestamp>,
    pub(crate) conditions: Vec<Condition>,
    /// Absent until provisioned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<DatabaseReport>,
    /// Absent until issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<KeysReport>,
    pub(crate) agents: Vec<AgentReport>,
    /// Absent until every ready replica has acknowledged the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) served: Option<ServedReport>,
    pub(crate) replicas: Vec<ReplicaReport>,
    /// Parts that can't be read, each with the reason.
    pub(crate) unreadable: Vec<String>,
}

/// Location of the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DatabaseReport {
    /// Name of the database in the operator's settings.
    pub(crate) instance: String,
    /// Identity of the database.
    pub(crate) database_id: String,
    /// Identity of the tenant's data.
    pub(crate) incarnation: String,
    pub(crate) schema: String,
    pub(crate) role: String,
    pub(crate) schema_version: i32,
    /// Limit for the tenant's content in bytes, from the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage_limit: Option<String>,
}

/// The keys, without their bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysReport {
    pub(crate) secret_name: String,
    /// The key that signs; absent until every replica knows a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current_kid: Option<String>,
    /// All keys of the keyring.
    pub(crate) ring: Vec<TenantKeyStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentReport {
    /// The tenant's name for the agent.
    pub(crate) name: String,
    /// Whether it answers requests that name no agent.
    pub(crate) default: bool,
    /// Name of the AgentConfig.
    pub(crate) config: String,
    /// Whether the AgentConfig exists; absent if it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exists: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<i64>,
    /// The AgentConfig's `Ready` condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<Condition>,
}

/// Every ready replica has acknowledged this entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServedReport {
    /// `resourceVersion` of the registry entry.
    pub(crate) entry_version: String,
    /// When the last replica acknowledged it.
    pub(crate) served_time: Timestamp,
}

/// State of the tenant's entry on one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum ReplicaState {
    /// The replica has applied the entry.
    Serving,
    /// The replica has not applied the entry yet.
    Behind,
    /// The replica refuses the entry.
    Quarantined,
    /// The replica's Lease has expired.
    Expired,
    /// No entry version is acknowledged by every replica yet, or the acknowledgement does not parse.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplicaReport {
    /// Namespace of the Lease.
    pub(crate) namespace: String,
    /// Name of the Lease.
    pub(crate) name: String,
    pub(crate) state: ReplicaState,
    /// The `resourceVersion` up to which the replica has applied entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    /// Why the replica refuses the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When the Lease was renewed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) renew_time: Option<Timestamp>,
}

pub(crate) fn project_report(facts: &Facts, now: Timestamp) -> Report {
    let tenant = &facts.tenant;
    let status = tenant.status.clone().unwrap_or_default();
    let mut unreadable = Vec::new();
    let keys = status.keys.as_ref().map(|keys| KeysReport {
        secret_name: keys.secret_name.clone(),
        current_kid: keys.current_kid.clone(),
        ring: keys.ring.clone(),
    });
    let default = tenant.spec.default_agent.as_deref().or(tenant.spec.agents.first().map(|a| a.name.as_str()));
    let agents = tenant.spec.agents.iter().zip(&facts.agents).map(|(agent, read)| {
        let config = match read {
            Ok(config) => config.as_ref(),
            Err(error) => {
                unreadable.push(format!("agent {}: {error}", agent.name));
                None
            }
        };
        let status = config.and_then(|c| c.status.as_ref());
        AgentReport {
            name: agent.name.clone(),
            default: Some(agent.name.as_str()) == default,
            config: agent.config_ref.name.clone(),
            exists: read.as_ref().ok().map(Option::is_some),
            revision: status.and_then(|s| s.revision),
            ready: status.and_then(|s| find(&s.conditions, ConditionType::Ready).cloned()),
        }
    });
    let agents: Vec<AgentReport> = agents.collect();
    let replicas = match &facts.leases {
        Ok(leases) => {
            let entry = status.served.as_ref().and_then(|s| Version::parse(&s.entry_version));
            let incarnation = status.database.as_ref().and_then(|d| Uuid::parse_str(&d.incarnation).ok());
            let project = |lease| project_replica(lease, entry, incarnation.map(Incarnation), now);
            leases.iter().map(project).collect()
        }
        Err(error) => {
            unreadable.push(format!("replicas: {error}"));
            Vec::new()
        }
    };
    let mut conditions = status.conditions;
    conditions.sort_by_key(|c| ConditionType::ALL.iter().position(|t| t.as_str() == c.type_).unwrap_or(usize::MAX));
    Report {
        namespace: tenant.namespace().unwrap_or_default(),
        name: tenant.name_any(),
        uid: tenant.uid().unwrap_or_default(),
        tenant_id: status.tenant_id,
        display_name: tenant.spec.display_name.clone(),
        generation: tenant.metadata.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or(-1),
        deletion_time: tenant.metadata.deletion_timestamp.as_ref().map(|t| t.0),
        conditions,
        database: status.database.map(|d| DatabaseReport {
            instance: d.instance,
            database_id: d.database_id,
            incarnation: d.incarnation,
            schema: d.schema,
            role: d.role,
            schema_version: d.schema_version,
            storage_limit: tenant.spec.database.storage_limit.clone(),
        }),
        keys,
        agents,
        served: status.served.map(|s| ServedReport { entry_version: s.entry_version, served_time: s.served_time }),
        replicas,
        unreadable,
    }
}

/// The condition of a type.
pub(crate) fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

fn project_replica(
    lease: &Lease,
    entry: Option<Version>,
    incarnation: Option<Incarnation>,
    now: Timestamp,
) -> ReplicaReport {
    let spec = lease.spec.clone().unwrap_or_default();
    let renew_time = spec.renew_time.map(|t| t.0);
    let duration = i64::from(spec.lease_duration_seconds.unwrap_or(0));
    let fresh = renew_time.is_some_and(|t| now.as_second() - t.as_second() <= duration);
    let text = lease.annotations().get(names::ACK_ANNOTATION);
    let ack: Option<Acknowledgement> = text.and_then(|text| serde_json::from_str(text).ok());
    let refused = ack.as_ref().zip(incarnation).and_then(|(ack, i)| ack.quarantined.get(&i).cloned());
    let (state, reason) = match (&ack, refused) {
        _ if !fresh => (ReplicaState::Expired, None),
        (_, Some(reason)) => (ReplicaState::Quarantined, Some(reason)),
        (None, None) => (ReplicaState::Unknown, Some("its acknowledgement does not parse".to_owned())),
        (Some(ack), None) if ack.quarantine_overflow => {
            (ReplicaState::Quarantined, Some("it refuses more tenants than it can name".to_owned()))
        }
        (Some(ack), None) => match entry {
            None => (ReplicaState::Unknown, None),
            Some(entry) if ack.version >= entry => (ReplicaState::Serving, None),
            Some(_) => (ReplicaState::Behind, None),
        },
    };
    ReplicaReport {
        namespace: lease.namespace().unwrap_or_default(),
        name: lease.name_any(),
        state,
        version: ack.map(|ack| ack.version.0),
        reason,
        renew_time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl_tenant::samples::{CANARY_BASE64, acknowledgement, facts, ready_tenant};

    fn states(report: &Report) -> Vec<ReplicaState> {
        report.replicas.iter().map(|r| r.state).collect()
    }

    #[test]
    fn a_replica_serves_from_the_acknowledged_version_on() {
        let leases = vec![acknowledgement("a", 41, 3), acknowledgement("b", 40, 3), acknowledgement("c", 39, 3)];
        let report = project_report(&Facts { leases: Ok(leases), ..facts(ready_tenant()) }, Timestamp::UNIX_EPOCH);
        assert_eq!(states(&report), [ReplicaState::Serving, ReplicaState::Serving, ReplicaState::Behind]);
    }

    #[test]
    fn a_replica_with_an_expired_lease_is_expired_whatever_it_acknowledged() {
        let leases = vec![acknowledgement("a", 41, 31)];
        let report = project_report(&Facts { leases: Ok(leases), ..facts(ready_tenant()) }, Timestamp::UNIX_EPOCH);
        assert_eq!(states(&report), [ReplicaState::Expired]);
    }

    #[test]
    fn a_quarantined_tenant_has_the_replicas_reason() {
        let mut lease = acknowledgement("a", 41, 0);
        let annotations = lease.metadata.annotations.as_mut().unwrap();
        let text = annotations.get_mut(names::ACK_ANNOTATION).unwrap();
        *text = text.replace(
            r#""quarantined":{}"#,
            r#""quarantined":{"00000000-0000-0000-0000-000000000002":"its cell can't be reached"}"#,
        );
        let report = project_report(&Facts { leases: Ok(vec![lease]), ..facts(ready_tenant()) }, Timestamp::UNIX_EPOCH);
        assert_eq!(states(&report), [ReplicaState::Quarantined]);
        assert_eq!(report.replicas[0].reason.as_deref(), Some("its cell can't be reached"));
    }

    #[test]
    fn the_document_holds_no_key_bytes() {
        let report = project_report(&facts(ready_tenant()), Timestamp::UNIX_EPOCH);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("kid-new") && text.contains("Standby"));
        assert!(!text.contains(CANARY_BASE64));
    }
}
