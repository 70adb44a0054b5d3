//! `plan -f` sends the operator what kubectl sends the API server for the same file.

use super::fake_operator::FakeOperator;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// An admin API that notes every Tenant and answers with an empty plan.
async fn admin_api() -> anyhow::Result<(String, Arc<Mutex<Vec<Value>>>)> {
    use axum::{Json, Router, extract::State, routing::post};
    type Received = Arc<Mutex<Vec<Value>>>;
    async fn plan(State(received): State<Received>, Json(tenant): Json<Value>) -> Json<Value> {
        let metadata = &tenant["metadata"];
        let answer = json!({ "namespace": metadata["namespace"], "name": metadata["name"], "event": "Created",
                             "steps": [], "conditions": [] });
        received.lock().unwrap_or_else(|e| e.into_inner()).push(tenant);
        Json(answer)
    }
    let received = Received::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let routes = Router::new().route("/v1/plan", post(plan)).with_state(Arc::clone(&received));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok((url, received))
}

const TENANT: &str = "apiVersion: agent-tenancy.dev/v1alpha1\nkind: Tenant\nmetadata: { name: acme }\nspec:\n  \
                      agents: [{ name: main, configRef: { name: support } }]\n";

#[tokio::test]
async fn a_file_is_read_as_kubectl_reads_it() -> anyhow::Result<()> {
    let fake = FakeOperator::new().await?;
    let (url, received) = admin_api().await?;
    let dir = tempfile::tempdir()?;
    let (file, token) = (dir.path().join("tenants.yaml"), dir.path().join("token"));
    std::fs::write(&token, "token")?;
    let (file_name, token) = (file.to_str().context("a path")?, token.to_str().context("a path")?);
    let second = TENANT.replace("acme", "globex");
    let list = "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: agent-tenancy.dev/v1alpha1, kind: Tenant, metadata: { \
                name: acme }, spec: { agents: [] } }\n";
    let files = [
        ("plain", TENANT.to_owned()),
        ("booleans", format!("{TENANT}  suspend: on\n  displayName: \"on\"\n")),
        ("a boolean where text belongs", format!("{TENANT}  displayName: yes\n")),
        ("numbers", format!("{TENANT}  auth: {{ maxTokenSeconds: 0x100, rotationPeriodSeconds: 1e4 }}\n")),
        (
            "octal and underscores",
            format!("{TENANT}  auth: {{ maxTokenSeconds: 0777, rotationPeriodSeconds: 86_400 }}\n"),
        ),
        (
            "merge keys",
            format!(
                "{TENANT}  auth: &auth {{ issuer: a, audience: b }}\n  database: {{ instance: main, <<: *auth, audience: c }}\n"
            ),
        ),
        (
            "a merge after a key",
            format!("{TENANT}  auth: &auth {{ issuer: a }}\n  limits: {{ issuer: mine, <<: *auth }}\n"),
        ),
        ("times and nulls", format!("{TENANT}  displayName: 2001-01-01\n  tenantId: ~\n")),
        ("a block", format!("{TENANT}  displayName: |\n    two\n    lines\n")),
        ("a byte order mark", format!("\u{feff}{TENANT}")),
        ("CRLF", format!("# a comment\n---\n{TENANT}---\n{second}").replace('\n', "\r\n")),
        ("several documents", format!("---\n{TENANT}---\n# only a comment\n---\n{second}...\n")),
        ("a list", list.to_owned()),
        ("a key twice", format!("{TENANT}  displayName: a\n  displayName: b\n")),
        ("keys that are booleans", format!("{TENANT}  on: 1\n  no: 2\n")),
        (
            "JSON",
            "{\"apiVersion\":\"agent-tenancy.dev/v1alpha1\",\"kind\":\"Tenant\",\n\t\"metadata\":{\"name\":\"acme\"}}"
                .to_owned(),
        ),
        ("damaged", format!("{TENANT}  displayName: [\n")),
        ("a merge of text", format!("{TENANT}  auth: {{ <<: text }}\n")),
        ("an unknown alias", format!("{TENANT}  displayName: *x\n")),
        ("not a number", format!("{TENANT}  auth: {{ maxTokenSeconds: .nan }}\n")),
        ("empty", "# nothing\n".to_owned()),
    ];
    let ns = fake.namespace.as_str();
    for (what, text) in files {
        std::fs::write(&file, text)?;
        let kubectl = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-n", ns, "-f", file_name];
        let read = fake.kubectl(&kubectl).await?;
        let plan = fake.plugin(&["plan", "-f", file_name, "--server", &url, "--token-file", token]).await?;
        assert_eq!(plan.is_success(), read.is_success(), "{what}: {}\n{}", plan.text(), read.text());
        let sent = std::mem::take(&mut *received.lock().unwrap_or_else(|e| e.into_inner()));
        let objects = serde_json::Deserializer::from_str(&read.stdout).into_iter::<Value>();
        let mut wanted: Vec<Value> = Vec::new();
        for object in objects {
            match object? {
                Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                    wanted.extend(list["items"].take().as_array().cloned().unwrap_or_default());
                }
                one => wanted.push(one),
            }
        }
        for tenant in &mut wanted {
            tenant["metadata"]["namespace"] = ns.into();
        }
        if read.is_success() {
            assert_eq!(sent, wanted, "{what}");
        }
    }
    // As with kubectl, `-n` does not move a Tenant.
    std::fs::write(&file, TENANT.replace("name: acme", "name: acme, namespace: elsewhere"))?;
    let read = fake.kubectl(&["create", "--dry-run=client", "-n", ns, "-f", file_name]).await?;
    let plan = fake.plugin(&["plan", "-f", file_name, "--server", &url, "--token-file", token]).await?;
    assert!(
        !read.is_success() && plan.status == 3 && plan.stderr.contains("elsewhere"),
        "{}{}",
        read.text(),
        plan.text()
    );
    Ok(())
}
