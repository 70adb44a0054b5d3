//! Tenant ids as platforms have them: applied to a real API server, provisioned, called, found by the plugin, and deleted.

use super::{
    installation::{Installation, LONG},
    installation_state::settle,
    platform_ids::PLATFORM_IDS,
    users::{ask, plugin},
};
use agent_tenancy::domain::ident::TenantId;
use anyhow::Context as _;
use devkit::{PgVersion, TestToken};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::json;
use std::collections::BTreeSet;

on_each_postgres!(ids_of_every_kind_are_served_and_deleted, names_that_an_earlier_version_recorded_stay);

/// Name of the Tenant with this id: not every id can name an object of Kubernetes.
fn object(place: usize) -> String {
    format!("t{place:02}")
}

async fn ids_of_every_kind_are_served_and_deleted(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    for (place, id) in PLATFORM_IDS.iter().enumerate() {
        let spec = json!({ "tenantId": id, "database": { "deletionPolicy": "Delete" } });
        installation.tenant_with(&object(place), spec).await?;
    }
    // Without a tenantId the name is the id, also with dots; one that is too long says what to do.
    let named = "eu-1.team-blue.customers.example.more-than-forty-characters";
    let policy = json!({ "database": { "deletionPolicy": "Delete" } });
    installation.tenant_with(named, policy.clone()).await?;
    let refused = installation.tenant_with(&"n".repeat(64), policy).await.err().context("it was accepted")?.to_string();
    assert!(refused.contains("metadata.name must be a valid tenant id (at most 63 characters)"), "{refused}");

    let mut names: Vec<(String, &str)> = PLATFORM_IDS.iter().enumerate().map(|(at, id)| (object(at), *id)).collect();
    names.push((named.to_owned(), named));
    for (name, id) in &names {
        installation.wait_ready(name).await?;
        let status = installation.tenants.get(name).await?.status.unwrap_or_default();
        assert_eq!(status.tenant_id.as_deref(), Some(*id));
        let token = TestToken::new(id, "ann").sign(&installation.signing_key(name).await?)?;
        let (code, body) = ask(&replica.url, id, &token, Some(&format!("I am {id}"))).await?;
        assert_eq!(code, 200, "{id}: {body}");
        let (_, history) = ask(&replica.url, id, &token, None).await?;
        assert!(history.contains(&format!("I am {id}")), "{id}: {history}");
    }

    // Each part has the name that follows from the id, and the ledger the id itself.
    let wanted: BTreeSet<String> =
        names.iter().map(|(_, id)| TenantId::parse(id).map(|id| id.entry_name())).collect::<Result<_, _>>()?;
    assert_eq!(installation.entries("tenant").await?.into_iter().collect::<BTreeSet<_>>(), wanted);
    let ids: BTreeSet<String> = names.iter().map(|(_, id)| (*id).to_owned()).collect();
    assert_eq!(installation.ledger("active").await?.into_iter().collect::<BTreeSet<_>>(), ids);

    // The plugin shows the id, and signs for it. (Finding one by its id in any namespace: `tests/plugin`.)
    let namespace = installation.tenants_namespace.as_str();
    for (name, id) in names.iter().filter(|(_, id)| ["tenant_123", "Acme", "acme.com"].contains(id)) {
        let status = plugin(&["status", name, "-n", namespace]).await?;
        assert!(status.is_success() && status.text().contains(id), "{status:?}");
        let token = plugin(&["token", name, "-n", namespace]).await?;
        let (code, body) = ask(&replica.url, id, token.stdout.trim(), None).await?;
        assert_eq!(code, 200, "{id}: {body}");
    }

    // Converged: nothing is written for any of them.
    settle(&installation).await?;
    for (name, _) in &names {
        installation.tenants.delete(name, &DeleteParams::default()).await?;
    }
    installation.wait_no_tenants().await?;
    assert_eq!(installation.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(installation.ledger("dropped").await?.into_iter().collect::<BTreeSet<_>>(), ids);
    Ok(())
}

/// An earlier version took an id that looks like a hash into names as it is.
async fn names_that_an_earlier_version_recorded_stay(version: PgVersion) -> anyhow::Result<()> {
    let id = "xaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let installation = Installation::new(version).await?;
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    installation.tenant(id, "Delete").await?;
    installation.wait_ready(id).await?;
    settle(&installation).await?;
    for process in [&operator.process, &replica.process] {
        process.terminate();
        process.ended().await?;
    }

    // As that version left it: schema, role, ledger row and entry have the id in their names.
    let parsed = TenantId::parse(id)?;
    let (new_name, new_entry) =
        (installation.schema(parsed.entry_name().trim_start_matches("tenant-")), parsed.entry_name());
    let (name, entry_name) = (installation.schema(id), format!("tenant-{id}"));
    let rename = format!(
        "ALTER SCHEMA \"{new_name}\" RENAME TO \"{name}\"; ALTER ROLE \"{new_name}\" RENAME TO \"{name}\"; \
         UPDATE agent_tenancy.tenants SET schema_name = '{name}', role_name = '{name}'"
    );
    installation.execute(&rename).await?;
    let mut content = installation.entry(&new_entry).await?;
    content["format"] = json!(1);
    content["database"]["schema"] = json!(name);
    content["database"]["role"] = json!(name);
    let secret = installation.registry.get(&new_entry).await?;
    let earlier = Secret {
        metadata: ObjectMeta {
            name: Some(entry_name.clone()),
            labels: secret.metadata.labels,
            ..ObjectMeta::default()
        },
        data: Some([("entry.json".to_owned(), ByteString(content.to_string().into_bytes()))].into()),
        type_: secret.type_,
        ..Secret::default()
    };
    installation.registry.delete(&new_entry, &DeleteParams::default()).await?;
    installation.registry.create(&PostParams::default(), &earlier).await?;

    let replica = installation.replica().await?;
    let _operator = installation.operator("two").await?;
    let token = TestToken::new(id, "ann").sign(&installation.signing_key(id).await?)?;
    assert_eq!(ask(&replica.url, id, &token, Some("still here")).await?.0, 200);
    // A change of the spec is written under the recorded names.
    installation.patch(id, json!({ "spec": { "tenantMutable": ["TopP"] } })).await?;
    devkit::eventually(LONG, "the entry is written again", || async {
        anyhow::ensure!(installation.entry(&entry_name).await?["mutable"] == json!(["TopP"]));
        Ok(())
    })
    .await?;
    let written = installation.entry(&entry_name).await?;
    assert_eq!((&written["format"], &written["database"]["schema"]), (&json!(1), &json!(name)));
    assert_eq!(installation.entries("tenant").await?, [entry_name.as_str()]);
    installation.wait_ready(id).await?;
    assert_eq!(ask(&replica.url, id, &token, None).await?.0, 200);

    installation.delete(id).await?;
    installation.wait_gone(id).await?;
    assert_eq!(installation.entries("tenant").await?, Vec::<String>::new());
    assert!(!installation.schemas().await?.contains(&name));
    Ok(())
}
