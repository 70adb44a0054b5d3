//! `migrations`: the schema version of each database, and the tenants that are behind it or blocked.

use crate::{
    api::{ConditionType, DatabaseInstance, Reason, Tenant},
    kubectl_tenant::{
        cluster::Cluster,
        error::{PluginError, VerbFailure},
    },
};
use kube::{Api, ResourceExt, api::ListParams};

/// The reasons for which the migrations of a tenant are blocked.
const BLOCKED: [Reason; 3] = [Reason::MigrationFailed, Reason::MigrationChanged, Reason::SchemaNewer];

/// Most tenants that are named in one line.
const MAX_NAMED: usize = 10;

/// Without permission to list the DatabaseInstances, the Tenants are still shown.
///
/// # Errors
/// When the Tenants can't be read.
pub(crate) async fn run(cluster: &Cluster) -> Result<String, VerbFailure> {
    let client = &cluster.client;
    let params = ListParams::default();
    let instances = Api::<DatabaseInstance>::all(client.clone()).list(&params).await;
    let instances = instances
        .map(|list| list.items)
        .map_err(|e| PluginError::of_kube(&e, "list the DatabaseInstances in every namespace"));
    let (tenants, place): (Api<Tenant>, _) = match &cluster.namespace {
        Some(namespace) => (Api::namespaced(client.clone(), namespace), format!("in namespace '{namespace}'")),
        None => (Api::all(client.clone()), "in every namespace".to_owned()),
    };
    let what = format!("list the Tenants {place}");
    let tenants = tenants.list(&params).await.map_err(|e| PluginError::of_kube(&e, &what))?.items;
    Ok(render_migrations(&instances, &tenants))
}

fn render_migrations(instances: &Result<Vec<DatabaseInstance>, PluginError>, tenants: &[Tenant]) -> String {
    let mut text = String::new();
    match instances {
        Ok(all) if all.is_empty() => text.push_str("there is no DatabaseInstance yet\n"),
        Ok(all) => all.iter().for_each(|instance| text.push_str(&render_instance(instance))),
        Err(error) => text.push_str(&format!("{error}\n")),
    }
    let newest = |tenant: &Tenant| {
        let database = tenant.status.as_ref()?.database.as_ref()?;
        let instances = instances.as_ref().ok()?;
        let instance = instances.iter().find(|i| i.name_any() == database.instance)?;
        Some(instance.status.as_ref()?.migrations.as_ref()?.version)
    };
    let mut behind = Vec::new();
    for tenant in tenants {
        let name = format!("{}/{}", tenant.namespace().unwrap_or_default(), tenant.name_any());
        let Some(status) = &tenant.status else { continue };
        let version = status.database.as_ref().map(|d| d.schema_version);
        let ready = status.conditions.iter().find(|c| c.type_ == ConditionType::DatabaseReady.as_str());
        let blocked = ready.filter(|condition| BLOCKED.iter().any(|reason| reason.as_str() == condition.reason));
        match (blocked, version) {
            (Some(condition), _) => {
                let version = version.map(|v| format!(", schema version {v}")).unwrap_or_default();
                text.push_str(&format!("{name}{version}: {}: {}\n", condition.reason, condition.message));
            }
            (None, Some(version)) if newest(tenant).is_some_and(|newest| version < newest) => behind.push(name),
            (None, _) => {}
        }
    }
    if !behind.is_empty() {
        let rest = behind.len().saturating_sub(MAX_NAMED);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        behind.truncate(MAX_NAMED);
        text.push_str(&format!("pending: {}{more}\n", behind.join(", ")));
    }
    text
}

fn render_instance(instance: &DatabaseInstance) -> String {
    let name = instance.name_any();
    let Some(migrations) = instance.status.as_ref().and_then(|status| status.migrations.as_ref()) else {
        return format!("database {name}: not reconciled yet\n");
    };
    let custom = match migrations.own_version {
        0 => String::new(),
        custom => format!(", custom migrations {custom}"),
    };
    format!(
        "database {name}: schema version {}{custom}: {}; {} tenants behind, {} of them blocked\n",
        migrations.version, migrations.stage, migrations.behind, migrations.blocked
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tenant(name: &str, version: i32, reason: &str) -> Tenant {
        serde_json::from_value(json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "namespace": "team", "name": name },
            "spec": { "agents": [{ "name": "main", "configRef": { "name": "support" } }] },
            "status": {
                "database": { "instance": "main", "databaseId": "", "incarnation": "", "schema": "", "role": "",
                    "schemaVersion": version },
                "conditions": [{ "type": "DatabaseReady", "status": "False", "reason": reason, "message": "as it is",
                    "lastTransitionTime": "2030-01-01T00:00:00Z" }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn blocked_tenants_are_named_with_the_reason() {
        let instance: DatabaseInstance = serde_json::from_value(json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "DatabaseInstance", "metadata": { "name": "main" },
            "spec": {},
            "status": { "migrations":
                { "version": 2, "ownVersion": 1, "stage": "Halted", "behind": 2, "blocked": 1 } },
        }))
        .unwrap();
        let tenants = [tenant("a", 2, "Provisioned"), tenant("b", 1, "MigrationFailed"), tenant("c", 1, "Provisioned")];
        assert_eq!(
            render_migrations(&Ok(vec![instance]), &tenants),
            "database main: schema version 2, custom migrations 1: Halted; 2 tenants behind, 1 of them blocked\n\
             team/b, schema version 1: MigrationFailed: as it is\npending: team/c\n"
        );
        let denied = Err(PluginError::new(crate::domain::class::ErrorClass::Denied, "you may not list them"));
        assert_eq!(
            render_migrations(&denied, &tenants),
            "you may not list them\nteam/b, schema version 1: MigrationFailed: as it is\n"
        );
    }
}
