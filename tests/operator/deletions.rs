//! What becomes of a deleted Tenant's data: put aside, given back, dropped in its time; and deletions that begin where
//! nobody would like them to.

use super::{
    clients::ask,
    fleet::{Fleet, LONG},
};
use agent_tenancy::api::Tenant;
use anyhow::Context as _;
use devkit::{Component, PgVersion, eventually};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

on_each_postgres!(
    archived_data_is_given_back_to_who_names_it_and_dropped_in_its_time,
    a_deletion_ends_wherever_it_begins,
);

impl Fleet {
    /// Creates a Tenant that uses AgentConfig `support` and takes over the data of an earlier one.
    async fn adopting(&self, name: &str, policy: &str, previous: &str) -> anyhow::Result<Tenant> {
        let database = json!({ "deletionPolicy": policy, "adopt": { "previousUid": previous } });
        self.tenant_with(name, json!({ "database": database })).await
    }

    async fn adopt(&self, name: &str, previous: &str) -> anyhow::Result<()> {
        self.patch(name, json!({ "spec": { "database": { "adopt": { "previousUid": previous } } } })).await
    }

    async fn archives(&self) -> anyhow::Result<Vec<String>> {
        self.column("SELECT uid FROM agent_tenancy.archives ORDER BY archived_at".to_owned()).await
    }
}

/// A tenant lives, says this, and is deleted. Its UID, incarnation and a token of its time.
async fn live(fleet: &Fleet, url: &str, word: &str) -> anyhow::Result<[String; 3]> {
    let uid = fleet.tenant("acme", "Archive").await?.uid().context("a UID")?;
    fleet.wait_ready("acme").await?;
    let token = fleet.token("acme").await?;
    assert_eq!(ask(url, "acme", &token, Some(word)).await?.0, 200);
    let incarnation = fleet.incarnation("acme").await?;
    // Twice: the second changes nothing.
    fleet.delete("acme").await?;
    fleet.tenants.delete("acme", &DeleteParams::default()).await.ok();
    fleet.wait_gone("acme").await?;
    Ok([uid, incarnation, token])
}

async fn archived_data_is_given_back_to_who_names_it_and_dropped_in_its_time(version: PgVersion) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(version).await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__RESYNC_SECONDS", "10");
    let operator = fleet.operator("one").await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    fleet.agent("support", "You help.").await?;

    let [first, data, old_token] = live(&fleet, &url, "first life").await?;
    let told = fleet.notes(&first, "DataArchived").await?;
    println!("{told:?}");
    let aside = |incarnation: &str| fleet.schema(&format!("acme_{}", &incarnation.replace('-', "")[21..]));
    assert!(told.len() == 1 && told[0].contains(&aside(&data)) && told[0].contains(&first), "{told:?}");
    assert_eq!(fleet.schemas().await?, [aside(&data)]);
    assert_eq!((fleet.key_secrets().await?.len(), fleet.entries("tenant").await?.len()), (0, 0));
    // The id is free, and a new one inherits nothing.
    let [second, other, _] = live(&fleet, &url, "second life").await?;
    assert_ne!(data, other);
    assert_eq!(fleet.archives().await?, [first.clone(), second.clone()]);

    // A UID of which nothing is kept: nothing is made, and the message says where to look.
    fleet.adopting("acme", "Archive", "0b9a4c9e-0000-4000-8000-000000000001").await?;
    fleet.wait_condition("acme", "Ready", "False", "AdoptionRefused").await?;
    assert_eq!(fleet.condition("acme", "Stalled").await?, ("True".to_owned(), "AdoptionRefused".to_owned()));
    let message = fleet.message("acme", "Accepted").await?;
    println!("{message}");
    for part in ["spec.database.adopt.previousUid", first.as_str(), second.as_str()] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!((fleet.schemas().await?.len(), fleet.key_secrets().await?.len()), (2, 0));
    assert_eq!(fleet.tenants.get("acme").await?.finalizers(), Vec::<String>::new());

    // Named, it gives everything back; with new keys.
    fleet.adopt("acme", &first).await?;
    fleet.wait_ready("acme").await?;
    assert_eq!(fleet.incarnation("acme").await?, data);
    let uid = fleet.tenants.get("acme").await?.uid().context("a UID")?;
    assert_eq!(fleet.notes(&uid, "Adopted").await?.len(), 1);
    let token = fleet.token("acme").await?;
    let (status, history) = ask(&url, "acme", &token, None).await?;
    assert!(status == 200 && history.contains("first life") && !history.contains("second life"), "{history}");
    assert_eq!(ask(&url, "acme", &old_token, None).await?.0, 401, "the keys went with their Tenant");
    // From now on the field means nothing.
    fleet.adopt("acme", &second).await?;
    let generation = fleet.tenants.get("acme").await?.metadata.generation;
    eventually(LONG, "the new spec is looked at", || async {
        let status = fleet.tenants.get("acme").await?.status.unwrap_or_default();
        anyhow::ensure!(status.observed_generation == generation);
        Ok(())
    })
    .await?;
    fleet.wait_ready("acme").await?;
    assert_eq!((fleet.incarnation("acme").await?, fleet.archives().await?), (data.clone(), vec![second.clone()]));

    // The other one's time is over, but somebody built on it.
    let view = format!("CREATE SCHEMA reports; CREATE VIEW reports.v AS SELECT id FROM \"{}\".messages", aside(&other));
    fleet.execute(&view).await?;
    fleet.execute("UPDATE agent_tenancy.archives SET drop_after = now()").await?;
    let counted = |outcome: &str| format!("tenant_operator_archives_total{{outcome=\"{outcome}\"}}");
    eventually(LONG, "the archive is held", || async {
        anyhow::ensure!(operator.metrics().await?.contains_key(&counted("held")));
        Ok(())
    })
    .await?;
    operator.process.kill_9().await?;
    fleet.execute("DROP SCHEMA reports CASCADE").await?;
    let operator = fleet.operator("one").await?;
    eventually(LONG, "the archive is gone, and it is told", || async {
        anyhow::ensure!(operator.metrics().await?.get(&counted("dropped")) == Some(&1.0));
        anyhow::ensure!(fleet.notes(&second, "ArchiveDropped").await?.len() == 1);
        Ok(())
    })
    .await?;
    assert_eq!((fleet.archives().await?.len(), fleet.schemas().await?), (0, vec![fleet.schema("acme")]));
    assert!(ask(&url, "acme", &token, None).await?.1.contains("first life"));

    // Kept under its own name, it is refused to who doesn't name it, and given to who does.
    fleet.patch("acme", json!({ "spec": { "database": { "deletionPolicy": "Retain" } } })).await?;
    fleet.delete("acme").await?;
    fleet.wait_gone("acme").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_condition("acme", "Accepted", "False", "Retained").await?;
    let message = fleet.message("acme", "Accepted").await?;
    println!("{message}");
    assert!(message.contains(&format!("spec.database.adopt.previousUid to {uid}")), "{message}");
    fleet.adopt("acme", &uid).await?;
    fleet.wait_ready("acme").await?;
    let token = fleet.token("acme").await?;
    assert!(ask(&url, "acme", &token, None).await?.1.contains("first life"));
    fleet.delete("acme").await?;
    fleet.wait_gone("acme").await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    Ok(())
}

async fn a_deletion_ends_wherever_it_begins(version: PgVersion) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(version).await?;
    // In a namespace that goes, nobody can write an event.
    fleet.denials_are_expected = true;
    let _operator = fleet.operator("one").await?;
    // Without its AgentConfig: nothing was made, nothing is left.
    fleet.tenant("early", "Archive").await?;
    fleet.wait_condition("early", "Accepted", "False", "AgentConfigMissing").await?;
    fleet.delete("early").await?;
    fleet.wait_gone("early").await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    // On its way to a replica that isn't there.
    fleet.agent("support", "You help.").await?;
    fleet.tenant("midway", "Archive").await?;
    fleet.wait_condition("midway", "Served", "Unknown", "NoReplicas").await?;
    fleet.delete("midway").await?;
    fleet.wait_gone("midway").await?;
    assert_eq!(fleet.archives().await?.len(), 1);

    let _replica = fleet.replica().await?;
    let names = [("archived", "Archive"), ("dropped", "Delete"), ("kept", "Retain"), ("broken", "Archive")];
    for (name, policy) in names {
        fleet.tenant(name, policy).await?;
    }
    for (name, _) in names {
        fleet.wait_ready(name).await?;
    }
    // The AgentConfig vanishes from under them, and one gets a spec that breaks a rule.
    let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    fleet.agents.delete("support", &DeleteParams::default()).await?;
    fleet.agents.patch("support", &PatchParams::default(), &nothing).await?;
    fleet.annotate("broken", "agent-tenancy.dev/rotate-keys", "").await?;
    fleet.wait_condition("broken", "Accepted", "False", "InvalidSpec").await?;
    fleet.wait_condition("kept", "Accepted", "False", "AgentConfigMissing").await?;

    // Their namespace goes: everything in it is asked to go, and nothing can be made in it any more.
    let namespaces: Api<Namespace> = Api::all(fleet.env.client().await?);
    let namespace = fleet.tenants_namespace.clone();
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    let late = fleet.tenant("late", "Delete").await;
    assert!(late.is_err_and(|e| e.to_string().contains("terminated")), "the namespace is going");
    fleet.tenants.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    fleet.wait_no_tenants().await?;
    assert_eq!(fleet.ledger("retained").await?, ["kept"]);
    assert_eq!(fleet.archives().await?.len(), 3);
    assert_eq!(fleet.ledger("dropped").await?, ["archived", "broken", "dropped", "midway"]);
    assert_eq!((fleet.key_secrets().await?.len(), fleet.entries("tenant").await?.len()), (0, 0));
    let access = format!(
        "SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
         JOIN pg_roles a ON a.oid = m.member WHERE a.rolname = '{}'",
        fleet.schema("acc_1")
    );
    assert_eq!(fleet.column(access).await?, Vec::<String>::new(), "nobody gets at what is left");
    Ok(())
}
