//! What happens to the data of a deleted Tenant: it is archived, adopted, dropped after its retention; and deletions that
//! begin in unusual states.

use super::{
    dry_run_setup::plugin_in,
    installation::{Installation, LONG},
    users::ask,
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
    archived_data_is_adopted_by_a_tenant_that_names_it_and_dropped_after_its_retention,
    kept_data_belongs_to_its_namespace,
    a_deletion_finishes_in_whatever_state_it_begins,
);

impl Installation {
    /// Creates a Tenant that uses AgentConfig `support` and adopts the data of an earlier one.
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

/// A tenant is created, chats this message, and is deleted. Returns its UID, incarnation and a token.
async fn live(installation: &Installation, url: &str, word: &str) -> anyhow::Result<[String; 3]> {
    let uid = installation.tenant("acme", "Archive").await?.uid().context("a UID")?;
    installation.wait_ready("acme").await?;
    let token = installation.token("acme").await?;
    assert_eq!(ask(url, "acme", &token, Some(word)).await?.0, 200);
    let incarnation = installation.incarnation("acme").await?;
    // Twice: the second request changes nothing.
    installation.delete("acme").await?;
    installation.tenants.delete("acme", &DeleteParams::default()).await.ok();
    installation.wait_gone("acme").await?;
    Ok([uid, incarnation, token])
}

async fn archived_data_is_adopted_by_a_tenant_that_names_it_and_dropped_after_its_retention(
    version: PgVersion,
) -> anyhow::Result<()> {
    let mut installation = Installation::new(version).await?;
    installation.set(Component::Operator, "AGENT_TENANCY__RESYNC_SECONDS", "10");
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;

    let [first, data, old_token] = live(&installation, &url, "first life").await?;
    let aside = |incarnation: &str| installation.schema(&format!("acme_{}", &incarnation.replace('-', "")[21..]));
    // The event is written after the finalizer was removed.
    eventually(LONG, "an event names the archive", || async {
        let notes = installation.notes(&first, "DataArchived").await?;
        anyhow::ensure!(notes.len() == 1 && notes[0].contains(&aside(&data)) && notes[0].contains(&first), "{notes:?}");
        Ok(())
    })
    .await?;
    assert_eq!(installation.schemas().await?, [aside(&data)]);
    assert_eq!((installation.key_secrets().await?.len(), installation.entries("tenant").await?.len()), (0, 0));
    // The tenant id is free, and a new Tenant gets none of the old data.
    let [second, other, _] = live(&installation, &url, "second life").await?;
    assert_ne!(data, other);
    assert_eq!(installation.archives().await?, [first.clone(), second.clone()]);

    // A UID without kept data: nothing is created, and the message lists the archives.
    installation.adopting("acme", "Archive", "0b9a4c9e-0000-4000-8000-000000000001").await?;
    installation.wait_condition("acme", "Ready", "False", "AdoptionRefused").await?;
    assert_eq!(installation.condition("acme", "Stalled").await?, ("True".to_owned(), "AdoptionRefused".to_owned()));
    let message = installation.message("acme", "Accepted").await?;
    println!("{message}");
    for part in ["spec.database.adopt.previousUid", first.as_str(), second.as_str()] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!((installation.schemas().await?.len(), installation.key_secrets().await?.len()), (2, 0));
    assert_eq!(installation.tenants.get("acme").await?.finalizers(), Vec::<String>::new());

    // An archive that is named is adopted as a whole, under new keys.
    installation.adopt("acme", &first).await?;
    installation.wait_ready("acme").await?;
    assert_eq!(installation.incarnation("acme").await?, data);
    let uid = installation.tenants.get("acme").await?.uid().context("a UID")?;
    assert_eq!(installation.notes(&uid, "Adopted").await?.len(), 1);
    let token = installation.token("acme").await?;
    let (status, history) = ask(&url, "acme", &token, None).await?;
    assert!(status == 200 && history.contains("first life") && !history.contains("second life"), "{history}");
    assert_eq!(ask(&url, "acme", &old_token, None).await?.0, 401, "the keys were deleted with their Tenant");
    // From now on the field has no effect.
    installation.adopt("acme", &second).await?;
    let generation = installation.tenants.get("acme").await?.metadata.generation;
    eventually(LONG, "the new spec is reconciled", || async {
        let status = installation.tenants.get("acme").await?.status.unwrap_or_default();
        anyhow::ensure!(status.observed_generation == generation);
        Ok(())
    })
    .await?;
    installation.wait_ready("acme").await?;
    assert_eq!(
        (installation.incarnation("acme").await?, installation.archives().await?),
        (data.clone(), vec![second.clone()])
    );

    // The other archive's retention is over, but a view depends on it.
    let view = format!("CREATE SCHEMA reports; CREATE VIEW reports.v AS SELECT id FROM \"{}\".messages", aside(&other));
    installation.execute(&view).await?;
    installation.execute("UPDATE agent_tenancy.archives SET drop_after = now()").await?;
    let counted = |outcome: &str| format!("tenant_operator_archives_total{{outcome=\"{outcome}\"}}");
    eventually(LONG, "the archive is kept because of the view", || async {
        anyhow::ensure!(operator.metrics().await?.contains_key(&counted("held")));
        Ok(())
    })
    .await?;
    operator.process.kill_9().await?;
    installation.execute("DROP SCHEMA reports CASCADE").await?;
    let operator = installation.operator("one").await?;
    eventually(LONG, "the archive is gone, and an event reports it", || async {
        anyhow::ensure!(operator.metrics().await?.get(&counted("dropped")) == Some(&1.0));
        anyhow::ensure!(installation.notes(&second, "ArchiveDropped").await?.len() == 1);
        Ok(())
    })
    .await?;
    assert_eq!(
        (installation.archives().await?.len(), installation.schemas().await?),
        (0, vec![installation.schema("acme")])
    );
    assert!(ask(&url, "acme", &token, None).await?.1.contains("first life"));

    // Retained data is refused to a Tenant that doesn't name it and given to one that does.
    installation.patch("acme", json!({ "spec": { "database": { "deletionPolicy": "Retain" } } })).await?;
    installation.delete("acme").await?;
    installation.wait_gone("acme").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_condition("acme", "Accepted", "False", "RetainedDataExists").await?;
    let message = installation.message("acme", "Accepted").await?;
    println!("{message}");
    assert!(message.contains(&format!("spec.database.adopt.previousUid to {uid}")), "{message}");
    installation.adopt("acme", &uid).await?;
    installation.wait_ready("acme").await?;
    let token = installation.token("acme").await?;
    assert!(ask(&url, "acme", &token, None).await?.1.contains("first life"));
    installation.delete("acme").await?;
    installation.wait_gone("acme").await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    Ok(())
}

/// Another namespace learns nothing of kept data, also with the right UID, and gets it only by a grant of a user who may
/// allow takeovers in all namespaces.
async fn kept_data_belongs_to_its_namespace(version: PgVersion) -> anyhow::Result<()> {
    let (mut installation, second) = Installation::of_two_namespaces(version).await?;
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    let first = installation.enter(&second).await?;
    installation.agent("support", "You help.").await?;
    installation.enter(&first).await?;
    let admin_url = operator.admin_url()?;
    let takeover = async |installation: &Installation, account: &str| {
        let args = ["takeover", "acme", "--timeout", "60s", "--server", admin_url, "--as-service-account", account];
        plugin_in(installation, &args, "").await
    };

    for policy in ["Retain", "Archive"] {
        let owner = installation.tenant("acme", policy).await?.uid().context("a UID")?;
        installation.wait_ready("acme").await?;
        let token = installation.token("acme").await?;
        let secret = format!("sent under {policy}");
        assert_eq!(ask(&url, "acme", &token, Some(&secret)).await?.0, 200);
        let data = installation.incarnation("acme").await?;
        // While it is in use, and after it is gone, the other namespace learns that the id is taken and nothing more.
        let owned = installation.enter(&second).await?;
        installation.tenant("acme", "Delete").await?;
        installation.wait_condition("acme", "Ready", "False", "Conflict").await?;
        let mut messages = vec![serde_json::to_string(&installation.tenants.get("acme").await?)?];
        installation.delete("acme").await?;
        installation.wait_gone("acme").await?;
        installation.enter(&owned).await?;
        installation.delete("acme").await?;
        installation.wait_gone("acme").await?;

        // With the UID, which it can't have from us, it is refused as with a wrong one.
        installation.enter(&second).await?;
        for previous in ["0b9a4c9e-0000-4000-8000-000000000001", owner.as_str()] {
            installation.adopting("acme", "Retain", previous).await?;
            let reason = if policy == "Retain" { "Conflict" } else { "AdoptionRefused" };
            installation.wait_condition("acme", "Accepted", "False", reason).await?;
            messages.push(installation.message("acme", "Accepted").await?.replace(previous, "UID"));
            if previous != owner {
                installation.delete("acme").await?;
                installation.wait_gone("acme").await?;
            }
        }
        println!("{messages:?}");
        assert_eq!(messages[1], messages[2], "the right UID is answered as a wrong one");
        for named in [owned.as_str(), owner.as_str(), data.as_str()] {
            assert!(messages.iter().all(|text| !text.contains(named)), "{named}: {messages:?}");
        }
        assert_eq!((installation.key_secrets().await?.len(), installation.entries("tenant").await?.len()), (0, 0));

        // A user of that namespace can't allow it; one of all namespaces can.
        installation.account("restorer", &["get", "takeover"], &["acme"]).await?;
        let refused = takeover(&installation, "restorer").await?;
        println!("{}", refused.stderr);
        assert_eq!(refused.status, 5, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("requires the verb 'takeover' on Tenants in all namespaces"));
        assert!(!refused.stderr.contains(&owned), "{}", refused.stderr);
        installation.account("platform", &["get"], &["acme"]).await?;
        installation.allow_everywhere("platform", "takeover").await?;
        let output = takeover(&installation, "platform").await?;
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        installation.wait_ready("acme").await?;
        assert_eq!(installation.incarnation("acme").await?, data);
        let token = installation.token("acme").await?;
        assert!(ask(&url, "acme", &token, None).await?.1.contains(&secret));
        installation.patch("acme", json!({ "spec": { "database": { "deletionPolicy": "Delete" } } })).await?;
        installation.delete("acme").await?;
        installation.wait_gone("acme").await?;
        installation.enter(&owned).await?;
    }
    let audit = "SELECT from_state || ' ' || allowed_by FROM agent_tenancy.takeovers ORDER BY id";
    let by = format!("system:serviceaccount:{second}:platform");
    assert_eq!(installation.column(audit.to_owned()).await?, [format!("retained {by}"), format!("archived {by}")]);
    Ok(())
}

async fn a_deletion_finishes_in_whatever_state_it_begins(version: PgVersion) -> anyhow::Result<()> {
    let mut installation = Installation::new(version).await?;
    // No event can be written in a namespace that is being deleted.
    installation.denials_are_expected = true;
    let _operator = installation.operator("one").await?;
    // Without its AgentConfig nothing was created, and nothing is left.
    installation.tenant("early", "Archive").await?;
    installation.wait_condition("early", "Accepted", "False", "AgentConfigNotFound").await?;
    installation.delete("early").await?;
    installation.wait_gone("early").await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    // While it waits for a replica, and there is none.
    installation.agent("support", "You help.").await?;
    installation.tenant("midway", "Archive").await?;
    installation.wait_condition("midway", "Served", "Unknown", "NoReplicas").await?;
    installation.delete("midway").await?;
    installation.wait_gone("midway").await?;
    assert_eq!(installation.archives().await?.len(), 1);

    let _replica = installation.replica().await?;
    let names = [("archived", "Archive"), ("dropped", "Delete"), ("kept", "Retain"), ("broken", "Archive")];
    for (name, policy) in names {
        installation.tenant(name, policy).await?;
    }
    for (name, _) in names {
        installation.wait_ready(name).await?;
    }
    // Their AgentConfig vanishes, and one Tenant gets an invalid spec.
    let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    installation.agents.delete("support", &DeleteParams::default()).await?;
    installation.agents.patch("support", &PatchParams::default(), &nothing).await?;
    installation.annotate("broken", "agent-tenancy.dev/rotate-keys", "").await?;
    installation.wait_condition("broken", "Accepted", "False", "InvalidSpec").await?;
    installation.wait_condition("kept", "Accepted", "False", "AgentConfigNotFound").await?;

    // Their namespace is deleted: everything in it is being deleted, and nothing can be created in it.
    let namespaces: Api<Namespace> = Api::all(installation.env.client().await?);
    let namespace = installation.tenants_namespace.clone();
    namespaces.delete(&namespace, &DeleteParams::default()).await?;
    let late = installation.tenant("late", "Delete").await;
    assert!(late.is_err_and(|e| e.to_string().contains("terminated")), "the namespace is being deleted");
    installation.tenants.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    installation.wait_no_tenants().await?;
    assert_eq!(installation.ledger("retained").await?, ["kept"]);
    assert_eq!(installation.archives().await?.len(), 3);
    assert_eq!(installation.ledger("dropped").await?, ["archived", "broken", "dropped", "midway"]);
    assert_eq!((installation.key_secrets().await?.len(), installation.entries("tenant").await?.len()), (0, 0));
    let access = format!(
        "SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
         JOIN pg_roles a ON a.oid = m.member WHERE a.rolname = '{}'",
        installation.schema("acc_1")
    );
    assert_eq!(installation.column(access).await?, Vec::<String>::new(), "no role has access to the remaining data");
    Ok(())
}
