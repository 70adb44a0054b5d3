//! A tenant's data is exported, also after interruptions, and one user's data is erased.

use super::{
    installation::Installation,
    users::{ask, plugin},
};
use anyhow::Context as _;
use devkit::{PgVersion, TestToken};
use serde_json::Value;
use std::collections::BTreeMap;

on_each_postgres!(a_tenants_data_is_exported_and_a_user_is_erased,);

/// How many rows of each type an export contains.
fn rows(text: &str) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap_or_default();
        *rows.entry(row["type"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
    }
    rows.remove("page");
    rows.remove("export");
    rows
}

async fn a_tenants_data_is_exported_and_a_user_is_erased(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    let namespace = installation.tenants_namespace.clone();
    installation.agent("support", "You help.").await?;
    for name in ["acme", "other"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
    }
    let chat = async |tenant: &str, sub: &str, message: String| -> anyhow::Result<()> {
        let token = TestToken::new(tenant, sub).sign(&installation.signing_key(tenant).await?)?;
        let (status, text) = ask(&url, tenant, &token, Some(&message)).await?;
        anyhow::ensure!(status == 200, "{text}");
        Ok(())
    };
    for n in 0..3 {
        chat("acme", "ann/o'neill", format!("of ann {n}")).await?;
        chat("acme", "bob", format!("of bob {n}")).await?;
    }
    chat("other", "ann/o'neill", "of another tenant".to_owned()).await?;

    // Exported once to the terminal and once into a file, interrupted twice.
    let whole = plugin(&["export", "acme", "-n", &namespace, "--server", &url]).await?;
    assert!(whole.is_success(), "{whole:?}");
    let whole = whole.text();
    let wanted = [("conversation", 6), ("message", 12), ("usage", 6)];
    assert_eq!(rows(&whole), wanted.map(|(name, n)| (name.to_owned(), n)).into());
    assert!(whole.contains("of ann 2") && whole.contains("of bob 0") && !whole.contains("another tenant"), "{whole}");
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("acme.jsonl");
    let path = file.to_str().context("a path")?;
    let first = whole.lines().position(|line| line.contains("\"page\"")).context("a page")? + 1;
    let begun: String = whole.lines().take(first).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, begun + "{\"type\":\"message\",\"content\":\"half a li")?;
    for _ in 0..2 {
        let output = plugin(&["export", "acme", "-n", &namespace, "--server", &url, "-o", path]).await?;
        assert!(output.is_success() && output.text().contains("complete"), "{output:?}");
    }
    assert_eq!(std::fs::read_to_string(&file)?, whole, "the interrupted export is complete");
    // Neither more data of the tenant nor another tenant's goes into a file that is complete.
    chat("acme", "bob", "later".to_owned()).await?;
    let again = plugin(&["export", "acme", "-n", &namespace, "--server", &url, "-o", path]).await?;
    assert!(again.is_success() && again.text().contains("already complete"), "{again:?}");
    let foreign = plugin(&["export", "other", "-n", &namespace, "--server", &url, "-o", path]).await?;
    assert!(foreign.status == 3 && foreign.text().contains("holds an export of tenant acme"), "{foreign:?}");
    assert_eq!(std::fs::read_to_string(&file)?, whole, "the file is left as it is");
    let own = plugin(&["export", "acme", "-n", &namespace, "--server", &url, "--sub", "bob"]).await?.text();
    assert!(rows(&own) == [("conversation", 4), ("message", 8), ("usage", 4)].map(|(k, n)| (k.to_owned(), n)).into());

    // A token without the scope `data:export` is refused.
    for (scope, status) in [(None, 403), (Some("chat:read"), 403), (Some("data:export"), 200)] {
        let token = TestToken::new("acme", "bob");
        let token = scope.into_iter().fold(token, TestToken::scope).sign(&installation.signing_key("acme").await?)?;
        let export = format!("{url}/api/v1/tenants/acme/export");
        assert_eq!(reqwest::Client::new().get(export).bearer_auth(token).send().await?.status(), status, "{scope:?}");
    }
    let erase = ["erase", "acme", "-n", &namespace, "--server", &url, "--sub", "ann/o'neill"];
    let output = plugin(&erase).await?;
    assert!(!output.is_success() && output.text().contains("--yes"), "{output:?}");
    let output = plugin(&[erase.as_slice(), &["--yes"]].concat()).await?;
    assert!(output.is_success(), "{output:?}");
    assert_eq!(
        output.text().trim(),
        "user 'ann/o'neill' erased: 3 conversations with 6 messages deleted, 3 rows renamed"
    );
    let left = plugin(&["export", "acme", "-n", &namespace, "--server", &url]).await?.text();
    assert_eq!(rows(&left), [("conversation", 4), ("message", 8), ("usage", 7)].map(|(k, n)| (k.to_owned(), n)).into());
    assert!(!left.contains("ann") && left.contains("\"erased-"), "{left}");
    let other = plugin(&["export", "other", "-n", &namespace, "--server", &url]).await?.text();
    assert!(other.contains("ann/o'neill"), "a user of the same name of another tenant stays: {other}");
    Ok(())
}
