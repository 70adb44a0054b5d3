//! What each verb prints, and its exit code.

use super::fake_operator::{FakeOperator, KEY};
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn status_prints_a_tree_of_the_tenants_parts() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    fake.agent_config("support-bot", 3).await?;
    let version = fake.served_tenant("acme").await?;
    fake.replica("agent-api-a", version + 1).await?;
    fake.replica("agent-api-b", version - 1).await?;
    let shown = fake.plugin(&["status", "acme", "--agent-api-namespace", &fake.namespace]).await?;
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    let tree = &shown.stdout;
    let ns = &fake.namespace;
    for line in [
        &format!("Tenant {ns}/acme, tenant id acme: ready"),
        "├─ database: instance main",
        "│  ├─ schema at_acme, version 1",
        "├─ keys: Secret acme-signing-keys",
        "│  └─ kid-1  Current  HS256",
        "│  └─ support (default): AgentConfig support-bot, revision 3, ready",
        &format!("└─ replicas: 1 of 2 serve entry version {version}"),
        &format!("   ├─ {ns}/agent-api-a  serves it, applied up to {}", version + 1),
        &format!("   └─ {ns}/agent-api-b  has not applied it yet, applied up to {}", version - 1),
    ] {
        assert!(tree.contains(line), "no '{line}' in\n{tree}");
    }
    assert!(!tree.contains(KEY));

    let args = ["status", "acme", "-o", "json", "--agent-api-namespace", ns];
    let document: Value = serde_json::from_str(&fake.plugin(&args).await?.ok()?)?;
    assert_eq!(document["replicas"][0]["state"], "Serving");
    assert_eq!(
        document["keys"]["ring"][0],
        json!({ "kid": "kid-1", "algorithm": "HS256", "state": "Current", "lastTransitionTime": "2030-01-01T00:00:00Z" })
    );
    let yaml = fake.plugin(&["status", "acme", "-o", "yaml", "--agent-api-namespace", ns]).await?.ok()?;
    assert_eq!(serde_yaml::from_str::<Value>(&yaml)?["conditions"], document["conditions"]);
    Ok(())
}

#[tokio::test]
async fn parts_without_permission_are_named_in_the_status() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    fake.agent_config("support-bot", 1).await?;
    fake.served_tenant("acme").await?;
    let reader = fake.reader_of_tenants().await?;
    let shown = fake.plugin_as(&reader, &["status", "acme"]).await?;
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    for line in [
        "kid-1  Current  HS256",
        "└─ not shown",
        "agent support: you may not read the AgentConfig",
        "give --agent-api-namespace",
    ] {
        assert!(shown.stdout.contains(line), "no '{line}' in\n{}", shown.stdout);
    }
    let refused = fake.plugin_as(&reader, &["token", "acme"]).await?;
    assert_eq!((refused.status, refused.stdout.as_str()), (5, ""));
    assert!(refused.stderr.contains("you may not read the Secret"), "{}", refused.stderr);
    let refused = fake.plugin_as(&reader, &["-A", "status", "acme"]).await?;
    assert_eq!(refused.status, 5, "{}", refused.stderr);
    Ok(())
}

#[tokio::test]
async fn a_token_is_signed_with_the_tenants_current_key() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    fake.served_tenant("acme").await?;
    let args = ["token", "acme", "--sub", "alice", "--seconds", "7200", "--scope", "chat:write"];
    let printed = fake.plugin(&args).await?;
    assert_eq!(printed.status, 0, "{}", printed.stderr);
    assert!(printed.stderr.contains("valid for 3600 s"), "{}", printed.stderr);
    let mut rules = Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.set_audience(&["agent-api"]);
    rules.set_issuer(&["agent-tenancy"]);
    let token = decode::<Value>(printed.stdout.trim_end(), &DecodingKey::from_secret(KEY.as_bytes()), &rules)?;
    assert_eq!(token.header.kid.as_deref(), Some("kid-1"));
    let claims = token.claims;
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!([&claims["sub"], &claims["scope"], &claims["tenant_id"]], ["alice", "chat:write", "acme"]);

    fake.tenant("fresh", json!({})).await?;
    let early = fake.plugin(&["token", "fresh"]).await?;
    assert_eq!((early.status, early.stdout.as_str()), (4, ""));
    assert!(early.stderr.contains("not served yet"), "{}", early.stderr);
    Ok(())
}

#[tokio::test]
async fn a_tenant_is_found_by_its_id_in_any_namespace() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    let id = format!("{}_Acme.com", devkit::unique("id"));
    fake.tenant("renamed", json!({ "tenantId": id })).await?;
    let found = fake.plugin(&["status", "-A", &id]).await?.ok()?;
    assert!(found.starts_with(&format!("Tenant {}/renamed", fake.namespace)), "{found}");
    let both = fake.plugin(&["status", "-A", &id, "-n", "x"]).await?;
    assert_eq!(both.status, 2);
    Ok(())
}

#[tokio::test]
async fn wait_ends_when_the_tenant_becomes_ready_and_when_it_is_deleted() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    fake.tenant("acme", json!({})).await?;
    let args = ["wait", "acme", "--timeout", "30s"];
    let (waited, updated) = tokio::join!(fake.plugin(&args), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        fake.conditions("acme", &[("Ready", "True", "Ready")]).await
    });
    updated?;
    assert_eq!(waited?.ok()?, "tenant.agent-tenancy.dev/acme ready\n");
    let args = ["wait", "acme", "--for", "deleted", "--timeout", "30s"];
    let (waited, deleted) = tokio::join!(fake.plugin(&args), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        fake.delete("acme").await
    });
    deleted?;
    assert_eq!(waited?.ok()?, "tenant.agent-tenancy.dev/acme deleted\n");
    assert!(fake.plugin(&args).await?.is_success(), "it is deleted already");
    Ok(())
}

#[tokio::test]
async fn wait_reports_what_is_missing_after_the_timeout_or_when_manual_intervention_is_required() -> anyhow::Result<()>
{
    let fake = FakeOperator::new().await?;
    fake.tenant("acme", json!({})).await?;
    fake.conditions("acme", &[("Accepted", "True", "Accepted"), ("Ready", "Unknown", "WaitingForReplicas")]).await?;
    let late = fake.plugin(&["wait", "acme", "--timeout", "1s"]).await?;
    assert_eq!((late.status, late.stdout.as_str()), (4, ""));
    assert!(late.stderr.contains("WaitingForReplicas") && !late.stderr.contains("Accepted "), "{}", late.stderr);
    assert!(late.stderr.contains("is not ready after 1s"), "{}", late.stderr);

    fake.conditions("acme", &[("Ready", "False", "Conflict"), ("Stalled", "True", "Conflict")]).await?;
    let stalled = fake.plugin(&["wait", "acme", "--timeout", "30s"]).await?;
    assert_eq!(stalled.status, 3, "{}", stalled.stderr);
    assert!(stalled.stderr.contains("manual intervention required: Conflict"), "{}", stalled.stderr);
    Ok(())
}

#[tokio::test]
async fn every_error_is_one_sentence_with_its_exit_code() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    let unknown = fake.plugin(&["status", "nobody"]).await?;
    assert_eq!(unknown.status, 3);
    assert_eq!(unknown.stderr, format!("error: there is no Tenant 'nobody' in namespace '{}'\n", fake.namespace));
    let nowhere = fake.plugin(&["status", "acme", "--kubeconfig", "no-such-file"]).await?;
    assert_eq!(nowhere.status, 3);
    assert!(nowhere.stderr.starts_with("error: no usable kubeconfig: "), "{}", nowhere.stderr);
    let unreachable = fake.kubeconfig_to(&format!("https://127.0.0.1:{}", devkit::free_port()?))?;
    let away = fake.plugin_as(&unreachable, &["status", "acme"]).await?;
    assert_eq!(away.status, 6, "{}", away.stderr);
    assert!(away.stderr.to_lowercase().contains("connection refused"), "{}", away.stderr);
    for text in [&unknown.stderr, &nowhere.stderr, &away.stderr] {
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_eq!(fake.plugin(&["status"]).await?.status, 2);
    Ok(())
}

#[tokio::test]
async fn kubectl_finds_the_plugin() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    fake.served_tenant("acme").await?;
    let help = fake.kubectl(&["tenant", "wait", "-h"]).await?.ok()?;
    assert!(help.contains("Usage: kubectl tenant wait [OPTIONS] <NAME>"), "{help}");
    let listed = fake.kubectl(&["plugin", "list"]).await?;
    assert!(listed.stdout.contains("/kubectl-tenant"), "{} {}", listed.stdout, listed.stderr);
    let namespace = fake.namespace.clone();
    let tree = fake.kubectl(&["tenant", "status", "acme", "-n", &namespace]).await?.ok()?;
    assert!(tree.starts_with(&format!("Tenant {namespace}/acme, tenant id acme: ready")), "{tree}");
    Ok(())
}
