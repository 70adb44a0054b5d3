//! Tenant ids of every kind that platforms have: provisioned, followed from a directory, and called over HTTP.

use super::{
    in_process::{InProcessApi, agent, token},
    process::{Process, eventually},
};
use crate::{platform_ids::PLATFORM_IDS, setup::tenant_id};
use axum::http::Method;
use devkit::PgVersion;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write};

/// Every byte percent-encoded, as a cautious client may send it.
fn encoded(id: &str) -> String {
    id.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

/// Messages of a user's history.
fn contents(history: &Value) -> Vec<&str> {
    history["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_every_kind_chat_with_data_of_their_own() {
    let api = InProcessApi::on(PgVersion::OLDEST, &PLATFORM_IDS, |_| {}).await;
    for id in PLATFORM_IDS {
        let answer = api.chat(id, "ann", &json!({ "message": format!("I am {id}") })).await;
        assert_eq!(answer.status, 200, "{id}: {}", answer.body);
    }
    for id in PLATFORM_IDS {
        // Two requests for one path: as it stands, and percent-encoded.
        for path in [id.to_owned(), encoded(id)] {
            let history = api.get(&format!("/api/v1/tenants/{path}/chat"), &token(id, "ann")).await.ok();
            let contents = contents(&history);
            assert_eq!(contents.len(), 2, "{path}: {contents:?}");
            assert!(contents.contains(&format!("I am {id}").as_str()), "{path}: {contents:?}");
        }
        assert_eq!(api.count(id, "SELECT count(*) FROM {schema}.messages").await, 2, "{id}");
    }

    // Ids are compared byte by byte: another one's path is refused, however alike it looks.
    for (holder, path) in
        [("Acme", "acme"), ("acme", "ACME"), ("A_B", "a_b"), ("acme.com", "acme%2Fcom"), ("a_b", "a%20b")]
    {
        let path = format!("/api/v1/tenants/{path}/chat");
        let answer = api.send(api.request(Method::GET, &path, Some(&token(holder, "ann")), None)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "tenant_mismatch"), "{holder} at {path}");
    }

    // The database's names differ, also without regard to case.
    let names: BTreeSet<String> =
        PLATFORM_IDS.iter().map(|id| tenant_id(id).database_name(&api.instance.prefix)).collect();
    assert!(
        names.len() == PLATFORM_IDS.len() && names.iter().all(|name| *name == name.to_lowercase() && name.len() <= 51)
    );
    let ledger = api.instance.count("SELECT count(*) FROM agent_tenancy.tenants WHERE state = 'active'").await;
    assert_eq!(usize::try_from(ledger).unwrap(), PLATFORM_IDS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_holds_ids_that_differ_in_case_only() {
    let api = InProcessApi::with_tenants(&PLATFORM_IDS, |_| {}).await;
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, value: &Value| {
        let temporary = directory.path().join(format!(".{name}"));
        std::fs::write(&temporary, value.to_string()).unwrap();
        std::fs::rename(temporary, directory.path().join(format!("{name}.json"))).unwrap();
    };
    put("agent-a1", &agent("a1"));
    put("cell-main-1", &api.cell());
    for id in PLATFORM_IDS {
        put(&tenant_id(id).entry_name(), &api.tenant(id));
    }
    let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name());
    let folded: BTreeSet<String> = files.map(|name| name.to_str().unwrap().to_lowercase()).collect();
    assert_eq!(folded.len(), PLATFORM_IDS.len() + 2, "a file system that ignores case keeps every entry");

    let log = directory.path().join("log");
    let process = Process::start(&[("AGENT_TENANCY__REGISTRY__DIRECTORY", directory.path().to_str().unwrap())], &log);
    process.wait_until_ready().await;
    eventually("every tenant is served", async || {
        let registry = process.registry().await;
        registry["tenants"] == PLATFORM_IDS.len() && registry["quarantinedCount"] == 0
    })
    .await;
    for id in PLATFORM_IDS {
        let (status, body) = process.chat(id, "hi").await;
        assert_eq!(status, 200, "{id}: {body}");
    }
    let metrics = process.health("/metrics").await.1;
    assert!(PLATFORM_IDS.iter().all(|id| id.len() < 5 || !metrics.contains(id)), "{metrics}");
}
