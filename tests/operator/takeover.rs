//! A cluster that is lost and built anew from the same manifests, beside the database that outlived it.

use super::{
    clients::{Signer, ask},
    fleet::{Fleet, LONG},
    planning_stage::say,
};
use anyhow::Context as _;
use devkit::{Component, PgVersion, eventually};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

on_each_postgres!(a_cluster_built_anew_gets_back_what_the_lost_one_left, a_person_lets_one_tenant_take_over);

impl Fleet {
    /// What a cluster holds is gone: nobody is asked, and nothing is cleaned up.
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

    pub async fn identity_of_data(&self, name: &str) -> anyhow::Result<String> {
        let status = self.tenants.get(name).await?.status.context("no status")?;
        Ok(status.database.context("no database")?.incarnation)
    }
}

/// `acme` and `globex` are served, and have data.
async fn two_say_something(fleet: &Fleet, url: &str) -> anyhow::Result<()> {
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_ready(name).await?;
        let token = Signer::of(fleet, name).await?.token(name)?;
        assert_eq!(ask(url, name, &token, Some(&format!("said by {name}"))).await?.0, 200);
    }
    Ok(())
}

async fn a_cluster_built_anew_gets_back_what_the_lost_one_left(version: PgVersion) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(version).await?;
    for (name, value) in [("RESYNC_SECONDS", "10"), ("CLUSTER_SILENCE_SECONDS", "10"), ("CLUSTER_ID", "lost")] {
        fleet.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let operator = fleet.operator("one").await?;
    let (replica, url) = fleet.replica().await?;
    two_say_something(&fleet, &url).await?;
    let data = fleet.identity_of_data("acme").await?;
    let old_token = Signer::of(&fleet, "acme").await?.token("acme")?;
    // Whoever leads says that he lives.
    let seen =
        || fleet.column("SELECT seen_at::text FROM agent_tenancy.heartbeats WHERE cluster_id = 'lost'".to_owned());
    let first = seen().await?;
    eventually(LONG, "another sign of life", || async {
        anyhow::ensure!(seen().await? != first);
        Ok(())
    })
    .await?;
    operator.process.kill_9().await?;
    replica.kill_9().await?;
    fleet.lose_the_cluster().await?;

    // The new one has the same manifests, and doesn't know yet whom it follows.
    fleet.set(Component::Operator, "AGENT_TENANCY__CLUSTER_ID", "anew");
    let operator = fleet.operator("two").await?;
    let (_replica, url) = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_condition(name, "Ready", "False", "Conflict").await?;
    }
    operator.process.kill_9().await?;
    // Nothing is taken from a cluster that lives.
    fleet
        .execute("UPDATE agent_tenancy.heartbeats SET seen_at = now() + interval '1 h' WHERE cluster_id = 'lost'")
        .await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__PREVIOUS_CLUSTER_IDS", "[lost]");
    let _operator = fleet.operator("two").await?;
    eventually(LONG, "it is said for what is waited", || async {
        let message = fleet.message("acme", "Accepted").await?;
        anyhow::ensure!(
            message.contains("of cluster lost") && message.contains("less than 10 seconds ago"),
            "{message}"
        );
        Ok(())
    })
    .await?;
    fleet
        .execute("UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '11 s' WHERE cluster_id = 'lost'")
        .await?;

    for name in ["acme", "globex"] {
        fleet.wait_ready(name).await?;
        let token = Signer::of(&fleet, name).await?.token(name)?;
        let (status, history) = ask(&url, name, &token, None).await?;
        assert!(status == 200 && history.contains(&format!("said by {name}")), "{history}");
    }
    assert_eq!(fleet.identity_of_data("acme").await?, data);
    assert_eq!(ask(&url, "acme", &old_token, None).await?.0, 401, "the keys went with their cluster");
    let audit =
        "SELECT tenant_id || ' ' || from_cluster_id || ' ' || to_cluster_id FROM agent_tenancy.takeovers ORDER BY 1";
    assert_eq!(fleet.column(audit.to_owned()).await?, ["acme lost anew", "globex lost anew"]);
    let uid = fleet.tenants.get("acme").await?.uid().context("a UID")?;
    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(fleet.env.client().await?, fleet.tenants.namespace().unwrap_or_default());
    let all = events.list(&ListParams::default()).await?.items;
    let told = all.iter().find(|e| {
        e.reason.as_deref() == Some("Adopted") && e.regarding.as_ref().and_then(|r| r.uid.as_ref()) == Some(&uid)
    });
    assert!(told.is_some_and(|e| e.note.as_deref().unwrap_or_default().contains("of cluster lost")), "{told:?}");
    // It is this cluster's now, to the end.
    fleet.delete("acme").await?;
    fleet.wait_gone("acme").await?;
    assert_eq!(fleet.schemas().await?, [fleet.schema("globex")]);
    Ok(())
}

async fn a_person_lets_one_tenant_take_over(version: PgVersion) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(version).await?;
    for (name, value) in [("CLUSTER_SILENCE_SECONDS", "10"), ("CLUSTER_ID", "lost")] {
        fleet.set(Component::Operator, &format!("AGENT_TENANCY__{name}"), value);
    }
    let operator = fleet.operator("one").await?;
    let (replica, url) = fleet.replica().await?;
    two_say_something(&fleet, &url).await?;
    operator.process.kill_9().await?;
    replica.kill_9().await?;
    fleet.lose_the_cluster().await?;
    let heard = |when: &str| format!("UPDATE agent_tenancy.heartbeats SET seen_at = {when} WHERE cluster_id = 'lost'");
    fleet.execute(&heard("now() + interval '1 h'")).await?;

    fleet.set(Component::Operator, "AGENT_TENANCY__CLUSTER_ID", "anew");
    let operator = fleet.operator("two").await?;
    let (_replica, url) = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "globex"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_condition(name, "Ready", "False", "Conflict").await?;
    }
    // Both ways out are named.
    let message = fleet.message("acme", "Accepted").await?;
    for part in ["of cluster lost", "previousClusterIds", "kubectl tenant takeover acme --from lost"] {
        assert!(message.contains(part), "{message}");
    }

    // Whoever may do anything else with Tenants may not do this.
    fleet.account("editor", &["get", "list", "watch", "create", "update", "patch", "delete"], &[]).await?;
    fleet.account("restorer", &["takeover"], &["acme"]).await?;
    let door = format!("http://{}", operator.plan);
    let takeover = async |name: &str, from: &str, account: &str, timeout: &str| {
        let way = ["--server", &door, "--as-service-account", account];
        say(&fleet, &[&["takeover", name, "--from", from, "--timeout", timeout], &way[..]].concat(), "").await
    };
    for (name, account) in [("acme", "editor"), ("globex", "restorer"), ("nobody-there", "restorer")] {
        let said = match name {
            // The plugin itself looks for the Tenant first.
            "nobody-there" => {
                let token = ["create", "token", account, "--audience", "agent-tenancy.dev/plan", "-n"];
                let namespace = fleet.tenants.namespace().context("a namespace")?;
                let token = fleet.env.kubectl(&[&token[..], &[namespace]].concat()).await?.ok()?;
                let body = json!({ "namespace": namespace, "name": name, "from": "lost" });
                let request = reqwest::Client::new().post(format!("{door}/v1/takeover")).json(&body);
                let answer = request.bearer_auth(token.trim()).send().await?;
                assert_eq!(answer.status(), 403);
                answer.text().await?
            }
            _ => {
                let said = takeover(name, "lost", account, "60s").await?;
                assert_eq!(said.code, 5, "{}{}", said.out, said.err);
                said.err
            }
        };
        assert!(said.contains("may not takeover tenants.agent-tenancy.dev in namespace"), "{said}");
    }
    for (from, part) in [("third", "of cluster lost, not of cluster third"), ("anew", "this cluster's own id")] {
        let said = takeover("acme", from, "restorer", "60s").await?;
        assert!(said.code == 7 && said.err.contains(part), "{} {}", said.code, said.err);
    }
    let closed =
        ["takeover", "acme", "--from", "lost", "--server", "http://127.0.0.1:1", "--as-service-account", "restorer"];
    let said = say(&fleet, &closed, "").await?;
    assert!(said.code == 6 && said.err.contains("plan.enabled=true"), "{} {}", said.code, said.err);
    let permissions = "SELECT allowed_by FROM agent_tenancy.takeover_permissions".to_owned();
    assert_eq!(fleet.column(permissions.clone()).await?, [""; 0]);

    // Allowed, and nothing is taken from a cluster that lives.
    let said = takeover("acme", "lost", "restorer", "1s").await?;
    assert!(
        said.code == 4 && said.err.contains("the takeover starts in 10s without another"),
        "{} {}",
        said.code,
        said.err
    );
    eventually(LONG, "it is said for what is waited", || async {
        let message = fleet.message("acme", "Accepted").await?;
        anyhow::ensure!(message.contains("heard of less than 10 seconds ago"), "{message}");
        Ok(())
    })
    .await?;
    let account = format!("system:serviceaccount:{}:restorer", fleet.tenants.namespace().unwrap_or_default());
    assert_eq!(fleet.column(permissions.clone()).await?, [account.as_str()]);

    fleet.execute(&heard("now() - interval '11 s'")).await?;
    // Once more when it is done, too: as after a lost reply.
    for _ in 0..2 {
        let said = takeover("acme", "lost", "restorer", "90s").await?;
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        assert_eq!(said.out, "tenant.agent-tenancy.dev/acme ready, with the data taken over from cluster lost\n");
    }
    let token = Signer::of(&fleet, "acme").await?.token("acme")?;
    let (status, history) = ask(&url, "acme", &token, None).await?;
    assert!(status == 200 && history.contains("said by acme"), "{history}");
    let audit =
        "SELECT concat_ws(' ', tenant_id, from_cluster_id, to_cluster_id, allowed_by) FROM agent_tenancy.takeovers";
    assert_eq!(fleet.column(audit.to_owned()).await?, [format!("acme lost anew {account}")]);
    assert_eq!(fleet.column(permissions).await?, [""; 0], "used up");
    let metrics = operator.metrics().await?;
    for code in ["403", "200"] {
        let counted = format!("tenant_operator_door_requests_total{{asked=\"takeover\",code=\"{code}\"}}");
        assert_eq!(metrics.get(&counted), Some(&3.0), "{metrics:?}");
    }
    let message = fleet.message("globex", "Accepted").await?;
    assert!(message.contains("kubectl tenant takeover globex --from lost"), "it was for one Tenant: {message}");
    Ok(())
}
