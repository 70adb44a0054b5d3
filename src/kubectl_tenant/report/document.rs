//! What was read about one Tenant, as one document: `-o json` and `-o yaml` print it, the tree is drawn from it.
//! Its field names are API. Key bytes never come here.

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

/// Everything that was read. A part that can't be read is an error of its own and spoils no other part.
pub(crate) struct Facts {
    /// The Tenant.
    pub(crate) tenant: Tenant,
    /// The AgentConfigs, in the order of `spec.agents`; `Ok(None)`: does not exist.
    pub(crate) agents: Vec<Result<Option<AgentConfig>, PluginError>>,
    /// The acknowledgement Leases that were found.
    pub(crate) leases: Result<Vec<Lease>, PluginError>,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Namespace of the Tenant.
    pub(crate) namespace: String,
    /// Name of the Tenant.
    pub(crate) name: String,
    /// UID of the Tenant.
    pub(crate) uid: String,
    /// Its id in URLs and tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant_id: Option<String>,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    /// Generation of the spec.
    pub(crate) generation: i64,
    /// Generation that the status speaks of; -1: nobody looked yet.
    pub(crate) observed_generation: i64,
    /// Since when it is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_time: Option<Timestamp>,
    /// Its conditions.
    pub(crate) conditions: Vec<Condition>,
    /// Where its data is; absent until provisioned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<DatabaseReport>,
    /// Its keys; absent until issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<KeysReport>,
    /// Its agents.
    pub(crate) agents: Vec<AgentReport>,
    /// The entry version that every ready replica acknowledged, and since when that is proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) served: Option<ServedReport>,
    /// The replicas of the agent API.
    pub(crate) replicas: Vec<ReplicaReport>,
    /// Parts that could not be read, each with the reason.
    pub(crate) unreadable: Vec<String>,
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DatabaseReport {
    /// Name of the database in the operator's settings.
    pub(crate) instance: String,
    /// Identity of that database.
    pub(crate) database_id: String,
    /// Identity of the tenant's data.
    pub(crate) incarnation: String,
    /// Schema.
    pub(crate) schema: String,
    /// Role.
    pub(crate) role: String,
    /// Version of the tables.
    pub(crate) schema_version: i32,
    /// Most bytes of content that the tenant may keep, as the spec has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage_limit: Option<String>,
}

/// The keys, without their bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeysReport {
    /// The Secret that holds them.
    pub(crate) secret_name: String,
    /// The key that signs; absent while its successor is not known everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current_kid: Option<String>,
    /// Every key of the ring.
    pub(crate) ring: Vec<TenantKeyStatus>,
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentReport {
    /// The tenant's name for it.
    pub(crate) name: String,
    /// It answers requests that name none.
    pub(crate) default: bool,
    /// Name of the AgentConfig.
    pub(crate) config: String,
    /// The AgentConfig exists; absent if it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exists: Option<bool>,
    /// Its current revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<i64>,
    /// Its `Ready` condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<Condition>,
}

/// The proof that the tenant is served.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServedReport {
    /// `resourceVersion` of the registry entry.
    pub(crate) entry_version: String,
    /// When the proof was complete.
    pub(crate) served_time: Timestamp,
}

/// How a replica stands to the tenant's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum ReplicaState {
    /// It has applied the entry.
    Serving,
    /// It has not applied the entry yet.
    Behind,
    /// It refuses the entry.
    Quarantined,
    /// It has not renewed its Lease in time.
    Silent,
    /// Nothing to compare with: no entry version is proved yet, or its acknowledgement does not parse.
    Unknown,
}

/// One replica of the agent API.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplicaReport {
    /// Namespace of its Lease.
    pub(crate) namespace: String,
    /// Name of its Lease.
    pub(crate) name: String,
    /// How it stands to the tenant's entry.
    pub(crate) state: ReplicaState,
    /// What it has applied, as a `resourceVersion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    /// Why it refuses the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When it last renewed its Lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) renew_time: Option<Timestamp>,
}

/// Puts the facts in order.
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
        let seen = config.and_then(|c| c.status.as_ref());
        AgentReport {
            name: agent.name.clone(),
            default: Some(agent.name.as_str()) == default,
            config: agent.config_ref.name.clone(),
            exists: read.as_ref().ok().map(Option::is_some),
            revision: seen.and_then(|s| s.revision),
            ready: seen.and_then(|s| find(&s.conditions, ConditionType::Ready).cloned()),
        }
    });
    let agents: Vec<AgentReport> = agents.collect();
    let replicas = match &facts.leases {
        Ok(leases) => {
            let entry = status.served.as_ref().and_then(|s| Version::parse(&s.entry_version));
            let incarnation = status.database.as_ref().and_then(|d| Uuid::parse_str(&d.incarnation).ok());
            let of = |lease| project_replica(lease, entry, incarnation.map(Incarnation), now);
            leases.iter().map(of).collect()
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

/// The condition of a type, if it is there.
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
    let patience = i64::from(spec.lease_duration_seconds.unwrap_or(0));
    let fresh = renew_time.is_some_and(|t| now.as_second() - t.as_second() <= patience);
    let text = lease.annotations().get(names::ACK_ANNOTATION);
    let ack: Option<Acknowledgement> = text.and_then(|text| serde_json::from_str(text).ok());
    let refused = ack.as_ref().zip(incarnation).and_then(|(ack, i)| ack.quarantined.get(&i).cloned());
    let (state, reason) = match (&ack, refused) {
        _ if !fresh => (ReplicaState::Silent, None),
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
    fn a_replica_serves_from_the_proved_version_on() {
        let leases = vec![acknowledgement("a", 41, 3), acknowledgement("b", 40, 3), acknowledgement("c", 39, 3)];
        let report = project_report(&Facts { leases: Ok(leases), ..facts(ready_tenant()) }, Timestamp::UNIX_EPOCH);
        assert_eq!(states(&report), [ReplicaState::Serving, ReplicaState::Serving, ReplicaState::Behind]);
    }

    #[test]
    fn a_replica_that_stopped_renewing_is_silent_whatever_it_acknowledged() {
        let leases = vec![acknowledgement("a", 41, 31)];
        let report = project_report(&Facts { leases: Ok(leases), ..facts(ready_tenant()) }, Timestamp::UNIX_EPOCH);
        assert_eq!(states(&report), [ReplicaState::Silent]);
    }

    #[test]
    fn a_quarantined_tenant_is_told_with_the_replicas_reason() {
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
