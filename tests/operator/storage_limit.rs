//! A storage limit of a Tenant: chats are refused when it is reached, until data is erased or the limit is raised.

use super::{
    installation::{Installation, LONG},
    users::plugin,
};
use devkit::{PgVersion, TestToken, eventually};
use serde_json::{Value, json};

on_each_postgres!(a_storage_limit_holds_until_data_is_erased_or_the_limit_is_raised,);

async fn a_storage_limit_holds_until_data_is_erased_or_the_limit_is_raised(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    let namespace = installation.tenants_namespace.clone();
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let client = reqwest::Client::new();
    let key = installation.signing_key("acme").await?;
    let token = || TestToken::new("acme", "load").scope("chat:write settings:read").sign(&key);
    let path = |name: &str| format!("{url}/api/v1/tenants/acme/{name}");
    // Sets the limit, and waits until the replica knows it.
    let limit = async |text: Value, bytes: Value| {
        installation.patch("acme", json!({ "spec": { "database": { "storageLimit": text } } })).await?;
        eventually(LONG, "the replica serves the limit", async || {
            let answer = client.get(path("settings")).bearer_auth(token()?).send().await?;
            let settings: Value = answer.error_for_status()?.json().await?;
            anyhow::ensure!(settings["storage"]["limitBytes"] == bytes, "{}", settings["storage"]);
            Ok(())
        })
        .await
    };
    let chat = async || -> anyhow::Result<(u16, Value)> {
        let message = json!({ "message": "x".repeat(200_000) });
        let answer = client.post(path("chat")).bearer_auth(token()?).json(&message).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    limit(json!("1Mi"), json!(1 << 20)).await?;
    let status = plugin(&["status", "acme", "-n", &namespace]).await?.text();
    assert!(status.contains("storage limit 1Mi"), "{status}");
    // The built-in provider repeats every question.
    for n in 0..3 {
        assert_eq!(chat().await?.0, 200, "{n}");
    }
    let (status, problem) = chat().await?;
    assert_eq!((status, &problem["code"]), (507, &json!("storage_limit_reached")), "{problem}");
    let output = plugin(&["erase", "acme", "-n", &namespace, "--server", &url, "--sub", "load", "--yes"]).await?;
    assert!(output.is_success(), "{output:?}");
    for n in 0..3 {
        assert_eq!(chat().await?.0, 200, "{n}");
    }
    assert_eq!(chat().await?.0, 507);
    limit(json!("4Mi"), json!(4 << 20)).await?;
    assert_eq!(chat().await?.0, 200);
    limit(Value::Null, Value::Null).await?;
    assert_eq!(chat().await?.0, 200);
    Ok(())
}
