//! What is shown, and the checks of the results.

use anyhow::Context as _;
use serde_json::Value;

use super::{
    install::{REGISTRY, TENANTS},
    terminal::{Answer, Terminal},
};

/// The arguments of a chat call.
pub(super) fn chat(replica: &str, tenant: &str, token: &str, message: &str) -> String {
    let body = serde_json::json!({ "message": message });
    format!(
        "-H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json' \\\n    \
         -d '{body}' ${replica}/api/v1/tenants/{tenant}/chat"
    )
}

/// Shows an answer's message, which has to contain `part`.
fn show_message(terminal: &Terminal, answer: &Answer, part: &str) -> anyhow::Result<()> {
    let text = answer.body["message"].as_str().context("the answer has no message")?;
    anyhow::ensure!(text.contains(part), "the answer does not show '{part}'");
    for line in text.lines().filter(|line| !line.is_empty()) {
        terminal.say(&format!("  → {line}"));
    }
    Ok(())
}

/// From samples to isolation.
pub(super) async fn show(terminal: &mut Terminal) -> anyhow::Result<()> {
    terminal.open("Two AgentConfigs and two Tenants");
    terminal.run(&format!("kubectl create namespace {TENANTS}")).await?;
    terminal.run(&format!("kubectl config set-context --current --namespace {TENANTS}")).await?;
    terminal.run("kubectl apply -f config/samples").await?;
    terminal.run("kubectl wait --for=condition=Ready tenants,agentconfigs --all --timeout=90s").await?;
    terminal.run("kubectl get tenants,agentconfigs").await?;
    terminal.run("kubectl tenant status acme").await?;

    terminal.open("A token for each tenant, signed with its own key");
    for (name, tenant) in [("ACME", "acme"), ("GLOBEX", "globex")] {
        let token = terminal.keep(name, &format!("kubectl tenant token {tenant}")).await?;
        anyhow::ensure!(token.split('.').count() == 3, "{tenant} got no token");
        terminal.say(&format!("  a token of {} characters, valid for ten minutes", token.len()));
    }

    terminal.open("Both tenants chat; the built-in provider answers with the configuration of each");
    let acme = terminal.call(&chat("A", "acme", "$ACME", "How do I get a refund?"), 200).await?;
    show_message(terminal, &acme, "support agent")?;
    let globex = terminal.call(&chat("B", "globex", "$GLOBEX", "Which plan fits me?"), 200).await?;
    show_message(terminal, &globex, "Offer the yearly plan first")?;

    terminal.open("Calls without a token, with a forged one, or for another tenant are refused");
    let unsigned = "-H 'Content-Type: application/json' -d '{\"message\":\"hi\"}' $A/api/v1/tenants/acme/chat";
    refused(terminal, unsigned, 401).await?;
    let forged = "${ACME%.*}.c2lnbmVkLWJ5LXNvbWVib2R5LWVsc2UtYWx0b2dldGhlcg";
    refused(terminal, &chat("A", "acme", forged, "hi"), 401).await?;
    refused(terminal, &chat("A", "globex", "$ACME", "hi"), 403).await?;

    terminal.open("Each tenant's messages are in its own schema, which the other tenant can't read");
    for (schema, own, others) in [("at_acme", "refund", "plan fits"), ("at_globex", "plan fits", "refund")] {
        let select = format!("psql \"$PG\" -c 'SELECT role, agent, content FROM {schema}.messages ORDER BY id'");
        let rows = terminal.run(&select).await?;
        anyhow::ensure!(
            rows.contains(own) && !rows.contains(others),
            "{schema} does not contain its tenant's messages alone"
        );
    }
    let across = "psql \"$PG\" -v ON_ERROR_STOP=1 -c 'SET ROLE at_acme' -c 'SELECT content FROM at_globex.messages'";
    terminal.run_refused(across, "permission denied").await
}

async fn refused(terminal: &Terminal, args: &str, status: u16) -> anyhow::Result<()> {
    let answer = terminal.call(args, status).await?;
    let code = answer.body["code"].as_str().context("a refusal has a code")?;
    terminal.say(&format!("  → {}: {code}", answer.status));
    Ok(())
}

/// Deletes a tenant.
pub(super) async fn delete_a_tenant(terminal: &mut Terminal) -> anyhow::Result<()> {
    terminal.open("A Tenant is deleted; its deletion policy is Retain");
    terminal.run("kubectl delete tenant acme --timeout=90s").await?;
    terminal.run("kubectl tenant wait acme --for deleted").await?;
    terminal.say("# deleted: the keys and the registry entry; calls are refused");
    terminal.run_refused("kubectl get secret acme-signing-keys", "NotFound").await?;
    let entries = terminal.run(&format!("kubectl -n {REGISTRY} get secrets -o name")).await?;
    anyhow::ensure!(!entries.contains("tenant-acme") && entries.contains("tenant-globex"), "the registry is wrong");
    refused(terminal, &chat("A", "acme", "$ACME", "hi"), 401).await?;
    refused(terminal, &chat("B", "acme", "$ACME", "hi"), 401).await?;
    terminal.forget("ACME");
    terminal.say("# kept: schema, role and data, for the database's administrator; and the row in the ledger");
    let count = terminal.run("psql \"$PG\" -At -c 'SELECT count(*) FROM at_acme.messages'").await?;
    anyhow::ensure!(count.trim().parse::<u32>().is_ok_and(|n| n >= 2), "acme's messages were not kept");
    let ledger = "psql \"$PG\" -c 'SELECT tenant_id, state, schema_name, role_name FROM agent_tenancy.tenants'";
    let rows = terminal.run(ledger).await?;
    anyhow::ensure!(rows.contains("retained"), "the ledger does not say that acme's data was kept");
    terminal.say("# the other tenant is not affected");
    let globex = terminal.call(&chat("A", "globex", "$GLOBEX", "Still there?"), 200).await?;
    anyhow::ensure!(globex.body["message"] != Value::Null, "globex got no answer");
    Ok(())
}
