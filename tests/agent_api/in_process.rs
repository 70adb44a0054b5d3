//! An agent API inside the test: a real database with provisioned tenants, a registry fed by hand, the real router.

use crate::setup::{self, Instance};
use agent_tenancy::{
    agent_api::{
        Context,
        http::router,
        registry::{RawEntry, RegistryEvent},
        serve::start_follower,
    },
    clock::Clock,
    domain::{
        cells::CellRoles,
        entry::{Entry, EntryKind, TenantEntry},
        ident::{CellNumber, Version},
        migrations::TENANT_VERSION,
    },
    settings::agent_api::AgentApiSettings,
};
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use devkit::{SigningKey, TestToken};
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tower::ServiceExt;
use uuid::Uuid;

pub struct InProcessApi {
    pub instance: Instance,
    pub context: Arc<Context>,
    changes: mpsc::Sender<RegistryEvent>,
    router: Router,
    version: u64,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// The one key of a tenant.
pub fn key_bytes(tenant: &str) -> Vec<u8> {
    format!("key-of-{tenant:-<32}").into_bytes()
}

/// A token of a tenant's user before it is signed.
pub fn test_token(tenant: &str, sub: &str) -> TestToken {
    TestToken::new(tenant, sub).claim("iss", "https://issuer").claim("aud", "agents").seconds(600)
}

/// Id of the one key of a tenant: not every tenant id can be a part of it.
fn kid(tenant: &str) -> String {
    setup::tenant_id(tenant).entry_name().replace("tenant-", "kid-")
}

/// A tenant's key that signs.
pub fn signing_key(tenant: &str) -> SigningKey {
    SigningKey::hs256(kid(tenant), key_bytes(tenant))
}

/// A token of a tenant's user, changed as wanted.
pub fn token_with(tenant: &str, sub: &str, change: impl FnOnce(TestToken) -> TestToken) -> String {
    change(test_token(tenant, sub)).sign(&signing_key(tenant)).unwrap()
}

pub fn token(tenant: &str, sub: &str) -> String {
    token_with(tenant, sub, |token| token)
}

/// A token that may also read and change the tenant's settings.
pub fn settings_token(tenant: &str, sub: &str) -> String {
    token_with(tenant, sub, |token| token.scope("chat:read chat:write settings:read settings:write"))
}

/// An AgentConfig's entry with the Echo provider.
pub fn agent(uid: &str) -> Value {
    json!({
        "format": 1, "uid": uid, "namespace": "team", "name": uid, "epoch": 1,
        "current": {"number": 1, "hash": "00", "behaviour": {
            "provider": {"type": "Echo"}, "model": "echo-1", "systemPrompt": "Be kind.",
            "maxOutputTokens": 1000, "maxHistoryMessages": 10, "totalTimeoutSeconds": 30,
        }},
    })
}

impl InProcessApi {
    /// A database with these tenants, all served, with the agent `support` of AgentConfig `a1`.
    pub async fn with_tenants(names: &[&str], configure: impl FnOnce(&mut AgentApiSettings)) -> Self {
        Self::on(devkit::PgVersion::OLDEST, names, configure).await
    }

    /// The same, on a server of this version.
    pub async fn on(version: devkit::PgVersion, names: &[&str], configure: impl FnOnce(&mut AgentApiSettings)) -> Self {
        Self::in_instance(setup::in_use(version).await, names, configure).await
    }

    /// The same, in a database that is there.
    pub async fn in_instance(
        instance: Instance,
        names: &[&str],
        configure: impl FnOnce(&mut AgentApiSettings),
    ) -> Self {
        let mut settings = AgentApiSettings::default();
        configure(&mut settings);
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let context = Context::new(settings, Clock::system()).unwrap();
        let (changes, received) = mpsc::channel(64);
        start_follower(&context, received);
        let router = router(Arc::clone(&context));
        let mut api = Self { instance, context, changes, router, version: 0 };
        api.apply("agent-a1", &agent("a1")).await;
        let cell = api.cell();
        api.apply("cell-main-1", &cell).await;
        for name in names {
            api.instance.tenant(name).await;
            let entry = api.tenant(name);
            api.apply(&setup::tenant_id(name).entry_name(), &entry).await;
        }
        api.settled().await;
        for name in names {
            let status = api.context.registry.status();
            assert!(!status.quarantined.contains_key(&setup::tenant_id(name).entry_name()), "{status:?}");
        }
        api
    }

    pub fn cell(&self) -> Value {
        let login = CellRoles::of(&self.instance.prefix, CellNumber(1)).logins[0].clone();
        json!({
            "format": 1, "instance": "main", "databaseId": self.instance.id.0, "cell": 1,
            "host": self.instance.test.host, "port": self.instance.test.port, "database": self.instance.test.name,
            "sslMode": "disable", "user": login, "password": BASE64_STANDARD.encode(setup::CELL_PASSWORD),
        })
    }

    /// A tenant's entry.
    pub fn tenant(&self, name: &str) -> Value {
        let role = setup::tenant_id(name).database_name(&self.instance.prefix);
        json!({
            "format": TenantEntry::resolve_format(&setup::tenant_id(name), None), "tenantId": name, "incarnation": Uuid::new_v4(), "uid": name, "namespace": "team",
            "name": name, "generation": 1, "epoch": 1, "state": "active", "stateSince": "2026-01-01T00:00:00Z",
            "database": {
                "instance": "main", "cell": 1, "schema": role, "role": role, "schemaVersion": TENANT_VERSION,
                "maxConcurrentTransactions": 4, "statementTimeoutSeconds": 10,
            },
            "agents": {"support": {"configUid": "a1"}}, "defaultAgent": "support", "mutable": [],
            "auth": {"issuer": "https://issuer", "audience": "agents", "maxTokenSeconds": 3600},
            "keys": [{
                "kid": kid(name), "algorithm": "HS256", "state": "Current", "since": "2026-01-01T00:00:00Z",
                "longestTokenSeconds": 3600,
                "key": BASE64_STANDARD.encode(key_bytes(name)),
            }],
        })
    }

    /// Delivers an entry; see [`InProcessApi::settled`].
    pub async fn apply(&mut self, name: &str, entry: &Value) {
        self.version += 1;
        let kind = EntryKind::parse(name.split('-').next().unwrap()).unwrap();
        let content = entry.to_string().into_bytes();
        Entry::parse(kind, &content).unwrap_or_else(|e| panic!("{name}: {e}: {entry}"));
        let version = Version(self.version);
        let document = RawEntry { name: name.into(), kind, version, content: content.into() };
        self.changes.send(RegistryEvent::Applied(document)).await.unwrap();
    }

    /// Waits until everything delivered is applied.
    pub async fn settled(&self) {
        let mut progress = self.context.registry.progress();
        let all = progress.wait_for(|p| p.version.0 >= self.version);
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap().unwrap();
    }

    pub fn request(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match body {
            None => request.body(Body::empty()).unwrap(),
            Some(body) => {
                request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
            }
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        self.pending_answer(request).await
    }

    /// The same, for a task of its own.
    pub fn pending_answer(&self, request: Request<Body>) -> impl Future<Output = Answer> + use<> {
        let call = self.router.clone().oneshot(request);
        async move {
            let (parts, body) = call.await.unwrap().into_parts();
            let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            Answer { status: parts.status, headers: parts.headers, body }
        }
    }

    /// The text of an answer.
    pub async fn text(&self, request: Request<Body>) -> String {
        let body = self.router.clone().oneshot(request).await.unwrap().into_body();
        String::from_utf8(axum::body::to_bytes(body, 1 << 24).await.unwrap().to_vec()).unwrap()
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path, Some(token), None)).await
    }

    /// Sends a chat message as a user of a tenant.
    pub async fn chat(&self, tenant: &str, sub: &str, body: &Value) -> Answer {
        let path = format!("/api/v1/tenants/{tenant}/chat");
        self.send(self.request(Method::POST, &path, Some(&token(tenant, sub)), Some(body))).await
    }

    /// Serves on a port, as a process does.
    pub async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, router) = (listener.local_addr().unwrap(), self.router.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The router's future for a request, to be dropped half-way.
    pub fn pending(&self, request: Request<Body>) -> impl Future<Output = ()> + use<> {
        let call = self.router.clone().oneshot(request);
        async move {
            call.await.unwrap();
        }
    }

    /// A number, asked as the superuser; `{schema}` stands for the tenant's.
    pub async fn count(&self, tenant: &str, sql: &str) -> i64 {
        let schema = format!("\"{}\"", setup::tenant_id(tenant).database_name(&self.instance.prefix));
        self.instance.count(&sql.replace("{schema}", &schema)).await
    }
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}
