//! Secrets stay secret: after all kinds of failures, none is in any log, event, status, metric, answer or object other than
//! the one that is meant to hold it.

use super::{
    installation::{Installation, LONG, PASSWORD},
    users::{ask, plugin},
};
use anyhow::Context as _;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use devkit::{Component, Environment, Fault, PgVersion, Postgres, eventually};
use k8s_openapi::{
    api::{
        apps::v1::ControllerRevision,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Debug, time::Duration};

on_each_postgres!(no_failure_reveals_a_secret,);

const WRONG_PASSWORD: &str = "wrong-password-canary";
const API_KEY: &str = "sk-api-key-canary-0123456789";

/// The secrets, and the texts in which none may be found.
#[derive(Default)]
struct Search {
    secrets: BTreeMap<String, Vec<String>>,
    places: BTreeMap<String, String>,
}

impl Search {
    /// Adds a secret in every form in which it could appear; also inside of the data of a Secret, which is base64 and may
    /// contain the secret as base64.
    fn secret(&mut self, name: impl Into<String>, bytes: &[u8]) {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = std::str::from_utf8(bytes).ok().map(str::to_owned);
        let mut forms: Vec<String> = [hex].into_iter().chain(plain).collect();
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            let text = engine.encode(bytes);
            for inner in [bytes, text.as_bytes()] {
                for shift in 0..3 {
                    let shifted = engine.encode([&b"..."[..shift], inner].concat());
                    // The first and last characters depend on the neighbouring bytes.
                    forms.push(shifted[4..shifted.len() - 4].to_owned());
                }
            }
            forms.push(text);
        }
        self.secrets.insert(name.into(), forms);
    }

    fn place(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.places.insert(name.into(), text.into());
    }

    /// Adds every object of a kind in a namespace, as JSON.
    async fn objects<K>(&mut self, installation: &Installation, namespace: &str) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(installation.tenants.clone().into_client(), namespace);
        let items = api.list(&ListParams::default()).await?.items;
        self.place(format!("{} in {namespace}", K::plural(&())), serde_json::to_string(&items)?);
        Ok(())
    }

    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, text) in &self.places {
            for (secret, forms) in &self.secrets {
                if let Some(at) = forms.iter().find_map(|form| text.find(form.as_str())) {
                    let around: String =
                        text[..at].chars().rev().take(80).collect::<Vec<_>>().into_iter().rev().collect();
                    found.push(format!("{secret} in {place}, after {around:?}"));
                }
            }
        }
        found
    }
}

/// Creates an AgentConfig `support` with an API key and a provider that can't be reached.
async fn keyed_agent(installation: &Installation) -> anyhow::Result<()> {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "provider" }, "stringData": { "apiKey": API_KEY },
    }))?;
    installation.secrets.create(&PostParams::default(), &secret).await?;
    let port = devkit::free_port()?;
    let object = json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "AgentConfig", "metadata": { "name": "support" },
        "spec": {
            "provider": {
                "type": "OpenAICompatible", "baseUrl": format!("https://127.0.0.1:{port}/v1"),
                "apiKeySecretRef": { "name": "provider", "key": "apiKey" },
            },
            "model": "gpt-x", "systemPrompt": { "inline": "You help." }, "parameters": { "maxOutputTokens": 64 },
        },
    });
    let params = PatchParams::apply("operator-test").force();
    installation.agents.patch("support", &params, &Patch::Apply(&object)).await?;
    Ok(())
}

async fn no_failure_reveals_a_secret(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let mut installation = Installation::on(Environment::shared().await?, &server).await?;
    // From here on the server logs every statement with its parameters.
    let bootstrap = server.log_text().await?.len();
    installation.execute("ALTER SYSTEM SET log_statement = 'all'").await?;
    installation.execute("SELECT pg_reload_conf()").await?;
    let proxy = installation.through_proxy().await?;
    installation.set(
        Component::Operator,
        "AGENT_TENANCY__LOG__LEVEL",
        "info,kube_client=debug,agent_tenancy=trace,sqlx=debug",
    );
    installation.set(
        Component::AgentApi,
        "AGENT_TENANCY__LOG__LEVEL",
        "info,kube_client=debug,agent_tenancy=trace,sqlx=debug",
    );
    let replica = installation.replica().await?;
    let mut search = Search::default();
    search.secret("the operator's password", PASSWORD.as_bytes());
    search.secret("a wrong password", WRONG_PASSWORD.as_bytes());
    search.secret("the API key", API_KEY.as_bytes());

    // The database refuses the operator; then replies that contain Secrets are truncated.
    keyed_agent(&installation).await?;
    installation.write_password(WRONG_PASSWORD)?;
    let operator = installation.operator("one").await?;
    for name in ["acme", "beta"] {
        installation.tenant(name, "Delete").await?;
    }
    eventually(LONG, "the condition reports the refusal", || async {
        let (status, reason) = installation.condition("acme", "DatabaseReady").await?;
        anyhow::ensure!(status != "True" && reason != "Pending", "{status} {reason}");
        Ok(())
    })
    .await?;
    let refused = plugin(&["status", "acme", "-n", &installation.tenants_namespace]).await?;
    search.place("kubectl tenant status while refused", refused.text());
    proxy.inject(|asked| (asked.resource == "secrets" && asked.verb != "watch").then_some(Fault::Clipped));
    installation.write_password(PASSWORD)?;
    installation.wait_condition("acme", "DatabaseReady", "True", "Provisioned").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.heal();
    for name in ["acme", "beta"] {
        installation.wait_ready(name).await?;
    }

    // Chat: the provider can't be reached; tokens are wrong in every way; then the database refuses the agent API.
    let namespace = installation.tenants_namespace.clone();
    let mut tokens = BTreeMap::new();
    for name in ["acme", "beta"] {
        let minted = plugin(&["token", name, "-n", &namespace]).await?;
        assert!(minted.is_success(), "{}", minted.stderr);
        let token = minted.text();
        let token = token.split_whitespace().find(|word| word.matches('.').count() == 2).context("a token")?.to_owned();
        search.secret(format!("a token of {name}"), token.rsplit_once('.').context("a signature")?.1.as_bytes());
        tokens.insert(name, token);
    }
    let client = reqwest::Client::builder().no_proxy().build()?;
    let chat = async |tenant: &str, token: &str| ask(&replica.url, tenant, token, Some("hi")).await;
    let swapped = format!("{}.x", tokens["acme"].rsplit_once('.').context("a signature")?.0);
    let calls = [
        (502, "acme", tokens["acme"].clone()),
        (401, "acme", format!("{}x", tokens["acme"])),
        (401, "acme", swapped),
        (401, "acme", tokens["acme"][1..].to_owned()),
        (401, "acme", API_KEY.to_owned()),
        (403, "acme", tokens["beta"].clone()),
    ];
    for (status, tenant, token) in calls {
        let answer = chat(tenant, &token).await?;
        assert_eq!(answer.0, status, "{}", answer.1);
        search.place(format!("answer {status} {}", search.places.len()), answer.1);
    }
    let cell = installation.entry(&installation.entries("cell").await?[0]).await?;
    let login = cell["user"].as_str().context("a login")?;
    installation.execute(&format!("ALTER ROLE \"{login}\" PASSWORD 'another'")).await?;
    installation
        .execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{login}'"))
        .await?;
    let shut_out = eventually(LONG, "the database refuses the agent API", || async {
        let answer = chat("acme", &tokens["acme"]).await?;
        anyhow::ensure!(answer.0 == 503, "{} {}", answer.0, answer.1);
        Ok(answer.1)
    })
    .await?;
    search.place("answer 503", shut_out);

    // The secrets that were created meanwhile.
    let password = BASE64_STANDARD.decode(cell["password"].as_str().context("a password")?)?;
    search.secret("the cell's password", &password);
    let keyrings =
        installation.secrets.list(&ListParams::default().labels("agent-tenancy.dev/tenant-uid")).await?.items;
    assert_eq!(keyrings.len(), 2);
    for secret in keyrings {
        let ObjectMeta { name, .. } = secret.metadata;
        let keyring: Value = serde_json::from_slice(&secret.data.unwrap_or_default()["ring.json"].0)?;
        let key = BASE64_STANDARD.decode(keyring["keys"][0]["key"].as_str().context("a key")?)?;
        search.secret(format!("the key in {}", name.unwrap_or_default()), &key);
    }

    for (name, process) in [("the operator", &operator.process), ("the agent API", &replica.process)] {
        search.place(format!("log of {name}"), process.log());
    }
    for (name, url) in [
        ("metrics of the operator", format!("{}/metrics", operator.url)),
        ("metrics of the agent API", format!("{}/metrics", replica.health_url)),
        ("registry page of the agent API", format!("{}/registry", replica.health_url)),
    ] {
        search.place(name, client.get(url).send().await?.error_for_status()?.text().await?);
    }
    for args in [vec!["status", "acme"], vec!["status", "acme", "-o", "json"], vec!["status", "beta"]] {
        let text = plugin(&[args.as_slice(), &["-n", &namespace]].concat()).await?.text();
        assert!(text.contains("Ready"), "{text}");
        search.place(format!("kubectl tenant {}", args.join(" ")), text);
    }
    let registry = installation.registry.namespace().unwrap_or_default().to_owned();
    for namespace in [&namespace, installation.release.namespace(), &registry] {
        search.objects::<Event>(&installation, namespace).await?;
        search.objects::<Lease>(&installation, namespace).await?;
        search.objects::<ConfigMap>(&installation, namespace).await?;
        search.objects::<ControllerRevision>(&installation, namespace).await?;
        search.objects::<agent_tenancy::api::Tenant>(&installation, namespace).await?;
        search.objects::<agent_tenancy::api::AgentConfig>(&installation, namespace).await?;
    }
    let statements = server.log_text().await?.split_off(bootstrap);
    search.place("log of the database server", statements.clone());

    let empty: Vec<_> = search.places.iter().filter(|(_, text)| text.is_empty()).map(|(name, _)| name).collect();
    assert!(empty.is_empty(), "empty texts: {empty:?}");
    assert!(statements.contains("'SCRAM-SHA-256$"), "the server logged how the login got its password");
    let size: usize = search.places.values().map(String::len).sum();
    println!("{} secrets searched for in {} texts, {size} characters", search.secrets.len(), search.places.len());
    assert_eq!(search.found(), Vec::<String>::new());
    // The search itself works.
    search.place("a Secret", serde_json::to_string(&installation.secrets.get("provider").await?)?);
    assert_eq!(search.found().len(), 1);
    Ok(())
}
