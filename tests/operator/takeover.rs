//! A cluster is lost and rebuilt from the same manifests, with the database that still exists.

use super::{
    dry_run_setup::plugin_in,
    installation::{Installation, LONG},
    users::ask,
};
use anyhow::Context as _;
use devkit::{Component, PgVersion, eventually};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

on_each_postgres!(a_rebuilt_cluster_takes_over_the_data_of_the_lost_one, a_user_grants_the_takeover_of_one_tenant);

impl Installation {
    /// Deletes all objects of the cluster without any clean-up.
    pub async fn lose_the_cluster(&self) -> anyhow::Result<()> {
        let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        for tenant in self.tenants.list(&ListParams::default()).await? {
            self.tenants.patch(&tenant.name_any(), &PatchParams::default(), &nothing).await?;
            self.tenants.delete(&tenant.name_any(), &DeleteParams::default()).await?;
        }
        for agent in self.agents.list(&ListParams::default()).await? {
            self.agents.patch(&agent.name_any(), &PatchParams::default(), &nothing).await?;
            self.agents.delete(&agent.name_any(), &DeleteParams::default()).await?;
        }
        for secret in self.key_secrets().await? {
            self.secrets.delete(&secret, &DeleteParams::default()).await?;
        }
        for entry in self.registry.list(&ListParams::default()).await? {
            self.registry.delete(&entry.name_any(), &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

/// Creates `acme` and `globex`, which chat once.
async fn create_two_tenants_with_data(installation: &Installation, url: &str) -> anyhow::Result<()> {
    installation.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
        let token = installation.token(name).await?;
        assert_eq!(ask(url, name, &token, Some(&format!("sent by {name}"))).await?.0, 200);
    }
    Ok(())
}

async fn a_rebuilt_cluster_takes_over_the_data_of_the_lost_one(version: PgVersion) -> anyhow::Result<()> {
    let mut installation = Installation::new(version).await?;
    for (name, value) in [("RESYNC_SECONDS", "10"), ("CLUSTER_HEARTBEAT_TIMEOUT_SECONDS", "10"), ("CLUSTER_ID", "lost")]
    {
        installation.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    create_two_tenants_with_data(&installation, &url).await?;
    let data = installation.incarnation("acme").await?;
    let old_token = installation.token("acme").await?;
    // The leader writes heartbeats.
    let seen = || {
        installation.column("SELECT seen_at::text FROM agent_tenancy.heartbeats WHERE cluster_id = 'lost'".to_owned())
    };
    let first = seen().await?;
    eventually(LONG, "another heartbeat", || async {
        anyhow::ensure!(seen().await? != first);
        Ok(())
    })
    .await?;
    operator.process.kill_9().await?;
    replica.process.kill_9().await?;
    installation.lose_the_cluster().await?;

    // The new cluster has the same manifests, but its settings name no previous cluster yet.
    installation.set(Component::Operator, "AGENT_TENANCY__CLUSTER_ID", "rebuilt");
    let operator = installation.operator("two").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_condition(name, "Ready", "False", "Conflict").await?;
    }
    operator.process.kill_9().await?;
    // Nothing is taken over from a cluster that still sends heartbeats.
    installation
        .execute("UPDATE agent_tenancy.heartbeats SET seen_at = now() + interval '1 h' WHERE cluster_id = 'lost'")
        .await?;
    installation.set(Component::Operator, "AGENT_TENANCY__PREVIOUS_CLUSTER_IDS", "[lost]");
    let _operator = installation.operator("two").await?;
    eventually(LONG, "the message says what is waited for", || async {
        let message = installation.message("acme", "Accepted").await?;
        anyhow::ensure!(
            message.contains("of cluster lost") && message.contains("less than 10 seconds ago"),
            "{message}"
        );
        Ok(())
    })
    .await?;
    installation
        .execute("UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '11 s' WHERE cluster_id = 'lost'")
        .await?;

    for name in ["acme", "globex"] {
        installation.wait_ready(name).await?;
        let token = installation.token(name).await?;
        let (status, history) = ask(&url, name, &token, None).await?;
        assert!(status == 200 && history.contains(&format!("sent by {name}")), "{history}");
    }
    assert_eq!(installation.incarnation("acme").await?, data);
    assert_eq!(ask(&url, "acme", &old_token, None).await?.0, 401, "the keys were lost with their cluster");
    let audit =
        "SELECT tenant_id || ' ' || from_cluster_id || ' ' || to_cluster_id FROM agent_tenancy.takeovers ORDER BY 1";
    assert_eq!(installation.column(audit.to_owned()).await?, ["acme lost rebuilt", "globex lost rebuilt"]);
    let uid = installation.tenants.get("acme").await?.uid().context("a UID")?;
    let notes = installation.notes(&uid, "Adopted").await?;
    assert!(notes.iter().any(|note| note.contains("of cluster lost")), "{notes:?}");
    // From now on the tenant belongs to this cluster.
    installation.delete("acme").await?;
    installation.wait_gone("acme").await?;
    assert_eq!(installation.schemas().await?, [installation.schema("globex")]);
    Ok(())
}

async fn a_user_grants_the_takeover_of_one_tenant(version: PgVersion) -> anyhow::Result<()> {
    let mut installation = Installation::new(version).await?;
    for (name, value) in [("CLUSTER_HEARTBEAT_TIMEOUT_SECONDS", "10"), ("CLUSTER_ID", "lost")] {
        installation.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    create_two_tenants_with_data(&installation, &url).await?;
    operator.process.kill_9().await?;
    replica.process.kill_9().await?;
    installation.lose_the_cluster().await?;
    let heard = |when: &str| format!("UPDATE agent_tenancy.heartbeats SET seen_at = {when} WHERE cluster_id = 'lost'");
    installation.execute(&heard("now() + interval '1 h'")).await?;

    installation.set(Component::Operator, "AGENT_TENANCY__CLUSTER_ID", "rebuilt");
    let operator = installation.operator("two").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_condition(name, "Ready", "False", "Conflict").await?;
    }
    // The message names both remedies.
    let message = installation.message("acme", "Accepted").await?;
    for part in ["of cluster lost", "previousClusterIds", "kubectl tenant takeover acme --from lost"] {
        assert!(message.contains(part), "{message}");
    }

    // All other permissions on Tenants are not enough for a takeover.
    installation.account("editor", &["get", "list", "watch", "create", "update", "patch", "delete"], &[]).await?;
    installation.account("restorer", &["takeover"], &["acme"]).await?;
    let admin_url = operator.admin_url()?;
    let takeover = async |name: &str, from: &str, account: &str, timeout: &str| {
        let server = ["--server", admin_url, "--as-service-account", account];
        plugin_in(&installation, &[&["takeover", name, "--from", from, "--timeout", timeout], &server[..]].concat(), "")
            .await
    };
    for (name, account) in [("acme", "editor"), ("globex", "restorer"), ("missing", "restorer")] {
        let output = match name {
            // The plugin reads the Tenant first, so that the admin API is called directly.
            "missing" => {
                let token = ["create", "token", account, "--audience", "agent-tenancy.dev/plan", "-n"];
                let namespace = installation.tenants_namespace.as_str();
                let token = installation.env.kubectl(&[&token[..], &[namespace]].concat()).await?.ok()?;
                let body = json!({ "namespace": namespace, "name": name, "from": "lost" });
                let request = reqwest::Client::new().post(format!("{admin_url}/v1/takeover")).json(&body);
                let answer = request.bearer_auth(token.trim()).send().await?;
                assert_eq!(answer.status(), 403);
                answer.text().await?
            }
            _ => {
                let output = takeover(name, "lost", account, "60s").await?;
                assert_eq!(output.status, 5, "{}{}", output.stdout, output.stderr);
                output.stderr
            }
        };
        assert!(output.contains("may not takeover tenants.agent-tenancy.dev in namespace"), "{output}");
    }
    for (from, part) in
        [("third", "of cluster lost, not of cluster third"), ("rebuilt", "of cluster lost, not of cluster rebuilt")]
    {
        let output = takeover("acme", from, "restorer", "60s").await?;
        assert!(output.status == 7 && output.stderr.contains(part), "{} {}", output.status, output.stderr);
    }
    let closed =
        ["takeover", "acme", "--from", "lost", "--server", "http://127.0.0.1:1", "--as-service-account", "restorer"];
    let output = plugin_in(&installation, &closed, "").await?;
    assert!(
        output.status == 6 && output.stderr.contains("adminApi.enabled=true"),
        "{} {}",
        output.status,
        output.stderr
    );
    let permissions = "SELECT allowed_by FROM agent_tenancy.takeover_permissions".to_owned();
    assert_eq!(installation.column(permissions.clone()).await?, [""; 0]);

    // Granted, but nothing is taken over from a cluster that still sends heartbeats.
    let output = takeover("acme", "lost", "restorer", "1s").await?;
    assert!(
        output.status == 4 && output.stderr.contains("the takeover starts in 10s without another"),
        "{} {}",
        output.status,
        output.stderr
    );
    eventually(LONG, "the message says what is waited for", || async {
        let message = installation.message("acme", "Accepted").await?;
        anyhow::ensure!(message.contains("heard of less than 10 seconds ago"), "{message}");
        Ok(())
    })
    .await?;
    let account = format!("system:serviceaccount:{}:restorer", installation.tenants.namespace().unwrap_or_default());
    assert_eq!(installation.column(permissions.clone()).await?, [account.as_str()]);

    installation.execute(&heard("now() - interval '11 s'")).await?;
    // A repetition has the same result, as after a lost reply.
    for _ in 0..2 {
        let output = takeover("acme", "lost", "restorer", "90s").await?;
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        assert_eq!(output.stdout, "tenant.agent-tenancy.dev/acme ready, with the data taken over from cluster lost\n");
    }
    let token = installation.token("acme").await?;
    let (status, history) = ask(&url, "acme", &token, None).await?;
    assert!(status == 200 && history.contains("sent by acme"), "{history}");
    let audit =
        "SELECT concat_ws(' ', tenant_id, from_cluster_id, to_cluster_id, allowed_by) FROM agent_tenancy.takeovers";
    assert_eq!(installation.column(audit.to_owned()).await?, [format!("acme lost rebuilt {account}")]);
    assert_eq!(installation.column(permissions).await?, [""; 0], "used up");
    let metrics = operator.metrics().await?;
    for code in ["403", "200"] {
        let counted = format!("tenant_operator_admin_requests_total{{request=\"takeover\",code=\"{code}\"}}");
        assert_eq!(metrics.get(&counted), Some(&3.0), "{metrics:?}");
    }
    let message = installation.message("globex", "Accepted").await?;
    assert!(message.contains("kubectl tenant takeover globex --from lost"), "the grant was for one Tenant: {message}");
    Ok(())
}
