//! What is shown, and what has to come out.

use anyhow::Context as _;
use serde_json::Value;

use super::{
    install::{REGISTRY, TENANTS},
    stage::{Answer, Stage},
};

/// The arguments of a chat call.
pub(super) fn chat(replica: &str, tenant: &str, token: &str, message: &str) -> String {
    let body = serde_json::json!({ "message": message });
    format!(
        "-H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json' \\\n    \
         -d '{body}' ${replica}/api/v1/tenants/{tenant}/chat"
    )
}

/// Shows what the tenant got to read, which has to contain that.
fn said(stage: &Stage, answer: &Answer, what: &str) -> anyhow::Result<()> {
    let text = answer.body["message"].as_str().context("the answer has no message")?;
    anyhow::ensure!(text.contains(what), "the answer does not show '{what}'");
    for line in text.lines().filter(|line| !line.is_empty()) {
        stage.say(&format!("  → {line}"));
    }
    Ok(())
}

/// From samples to isolation.
pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open("Two AgentConfigs and two Tenants");
    stage.run(&format!("kubectl create namespace {TENANTS}")).await?;
    stage.run(&format!("kubectl config set-context --current --namespace {TENANTS}")).await?;
    stage.run("kubectl apply -f config/samples").await?;
    stage.run("kubectl wait --for=condition=Ready tenants,agentconfigs --all --timeout=90s").await?;
    stage.run("kubectl get tenants,agentconfigs").await?;
    stage.run("kubectl tenant status acme").await?;

    stage.open("A token for each tenant, signed with its own key");
    for (name, tenant) in [("ACME", "acme"), ("GLOBEX", "globex")] {
        let token = stage.keep(name, &format!("kubectl tenant token {tenant}")).await?;
        anyhow::ensure!(token.split('.').count() == 3, "{tenant} got no token");
        stage.say(&format!("  a token of {} characters, valid for ten minutes", token.len()));
    }

    stage.open("Both tenants chat; the built-in provider answers with how each is configured");
    let acme = stage.call(&chat("A", "acme", "$ACME", "How do I get a refund?"), 200).await?;
    said(stage, &acme, "support agent")?;
    let globex = stage.call(&chat("B", "globex", "$GLOBEX", "Which plan fits me?"), 200).await?;
    said(stage, &globex, "Offer the yearly plan first")?;

    stage.open("Nobody gets in without a token, with a forged one, or to another tenant");
    let unsigned = "-H 'Content-Type: application/json' -d '{\"message\":\"hi\"}' $A/api/v1/tenants/acme/chat";
    refused(stage, unsigned, 401).await?;
    let forged = "${ACME%.*}.c2lnbmVkLWJ5LXNvbWVib2R5LWVsc2UtYWx0b2dldGhlcg";
    refused(stage, &chat("A", "acme", forged, "hi"), 401).await?;
    refused(stage, &chat("A", "globex", "$ACME", "hi"), 403).await?;

    stage.open("Each tenant's messages are in its own schema, out of the other's reach");
    for (schema, own, others) in [("at_acme", "refund", "plan fits"), ("at_globex", "plan fits", "refund")] {
        let select = format!("psql \"$PG\" -c 'SELECT role, agent, content FROM {schema}.messages ORDER BY id'");
        let rows = stage.run(&select).await?;
        anyhow::ensure!(
            rows.contains(own) && !rows.contains(others),
            "{schema} does not hold its tenant's messages alone"
        );
    }
    let across = "psql \"$PG\" -v ON_ERROR_STOP=1 -c 'SET ROLE at_acme' -c 'SELECT content FROM at_globex.messages'";
    stage.run_refused(across, "permission denied").await
}

async fn refused(stage: &Stage, args: &str, status: u16) -> anyhow::Result<()> {
    let answer = stage.call(args, status).await?;
    let code = answer.body["code"].as_str().context("a refusal has a code")?;
    stage.say(&format!("  → {}: {code}", answer.status));
    Ok(())
}

/// A tenant goes.
pub(super) async fn end(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open("A Tenant is deleted; its deletion policy is Retain");
    stage.run("kubectl delete tenant acme --timeout=90s").await?;
    stage.run("kubectl tenant wait acme --for deleted").await?;
    stage.say("# gone: the keys, the registry entry, and every way in");
    stage.run_refused("kubectl get secret acme-signing-keys", "NotFound").await?;
    let entries = stage.run(&format!("kubectl -n {REGISTRY} get secrets -o name")).await?;
    anyhow::ensure!(!entries.contains("tenant-acme") && entries.contains("tenant-globex"), "the registry is wrong");
    refused(stage, &chat("A", "acme", "$ACME", "hi"), 401).await?;
    refused(stage, &chat("B", "acme", "$ACME", "hi"), 401).await?;
    stage.forget("ACME");
    stage.say("# stays: schema, role and data, for the database's administrator; and the ledger's row");
    let count = stage.run("psql \"$PG\" -At -c 'SELECT count(*) FROM at_acme.messages'").await?;
    anyhow::ensure!(count.trim().parse::<u32>().is_ok_and(|n| n >= 2), "acme's messages were not kept");
    let ledger = "psql \"$PG\" -c 'SELECT tenant_id, state, schema_name, role_name FROM agent_tenancy.tenants'";
    let rows = stage.run(ledger).await?;
    anyhow::ensure!(rows.contains("retained"), "the ledger does not say that acme's data was kept");
    stage.say("# and the other tenant never noticed");
    let globex = stage.call(&chat("A", "globex", "$GLOBEX", "Still there?"), 200).await?;
    anyhow::ensure!(globex.body["message"] != Value::Null, "globex got no answer");
    Ok(())
}
