//! A reverse proxy in front of the API server that injects the faults of a network and of an overloaded server.
//!
//! It speaks plain HTTP on loopback; a kubeconfig that leads through it is a copy of the program's own with another
//! server, so that each program keeps its own credentials and permissions.

mod fault;
mod request;
mod watch;

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::broadcast};

pub use fault::{Fault, RandomFaults, WatchFault};
pub use request::ApiRequest;

use watch::WatchEnd;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Reply = Response<UnsyncBoxBody<Bytes, Failure>>;
type Decide = Box<dyn Fn(&ApiRequest) -> Option<Fault> + Send + Sync>;

/// A running proxy; it ends with the runtime that started it. Clones are handles to the same one.
#[derive(Clone)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    admin: String,
    client: reqwest::Client,
    decide: Mutex<Option<Decide>>,
    injected: Mutex<BTreeMap<String, u64>>,
    seen: Mutex<BTreeMap<String, u64>>,
    live: broadcast::Sender<WatchFault>,
    folder: tempfile::TempDir,
}

impl Proxy {
    /// Starts one in front of the API server of this administrator's kubeconfig; without faults yet.
    pub async fn start(kubeconfig: &Path) -> anyhow::Result<Proxy> {
        crate::control_plane::install_crypto();
        let file: Value = serde_yaml::from_str(&fs::read_to_string(kubeconfig)?)?;
        let text = |path: &str| {
            let found = file.pointer(path).and_then(Value::as_str);
            found.map(str::to_owned).with_context(|| format!("the kubeconfig has no {path}"))
        };
        let ca = fs::read(text("/clusters/0/cluster/certificate-authority")?)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca)?)
            .build()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream: text("/clusters/0/cluster/server")?,
            admin: format!("Bearer {}", text("/users/0/user/token")?),
            client,
            decide: Mutex::default(),
            injected: Mutex::default(),
            seen: Mutex::default(),
            live: broadcast::Sender::new(16),
            folder: tempfile::tempdir()?,
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Proxy { port, shared })
    }

    /// A copy of a kubeconfig (of the form that this crate writes) that leads through this proxy.
    pub fn kubeconfig(&self, original: &Path) -> anyhow::Result<PathBuf> {
        let mut file: Value = serde_yaml::from_str(&fs::read_to_string(original)?)?;
        let server = file.pointer_mut("/clusters/0/cluster/server").context("the kubeconfig names no server")?;
        *server = Value::String(format!("http://127.0.0.1:{}", self.port));
        let path = self.shared.folder.path().join(format!("{}.kubeconfig", crate::unique("proxied")));
        crate::credentials::write_secret(&path, &serde_yaml::to_string(&file)?)?;
        Ok(path)
    }

    /// From now on this function chooses the fault of each request.
    pub fn inject(&self, decide: impl Fn(&ApiRequest) -> Option<Fault> + Send + Sync + 'static) {
        *lock(&self.shared.decide) = Some(Box::new(decide));
    }

    /// No fault is injected any more. Watches that are silent stay silent.
    pub fn heal(&self) {
        *lock(&self.shared.decide) = None;
    }

    /// Makes every running watch fail.
    pub fn break_watches(&self, how: WatchFault) {
        // An error means that no watch is running.
        let _ = self.shared.live.send(how);
    }

    /// How often each kind of fault was injected.
    pub fn injected(&self) -> BTreeMap<String, u64> {
        lock(&self.shared.injected).clone()
    }

    /// How often each `verb resource` was requested.
    pub fn seen(&self) -> BTreeMap<String, u64> {
        lock(&self.shared.seen).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| serve(Arc::clone(&shared), request));
        tokio::spawn(async move {
            // An error means that the client has left, or that a fault cut the connection.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// One request. An error ends the connection without an answer.
async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Failure> {
    let asked = ApiRequest::of(request.method(), request.uri());
    *lock(&shared.seen).entry(format!("{} {}", asked.verb, asked.resource)).or_default() += 1;
    let fault = lock(&shared.decide).as_ref().and_then(|decide| decide(&asked));
    if let Some(fault) = fault {
        *lock(&shared.injected).entry(fault.kind()).or_default() += 1;
    }
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await?.to_bytes());
    match fault {
        None if asked.verb == "watch" => shared.watch(&request, None).await,
        Some(Fault::Watch(after, how)) if asked.verb == "watch" => {
            shared.watch(&request, Some(WatchEnd { after, how })).await
        }
        None | Some(Fault::Watch(..)) => shared.forward(&request).await,
        Some(Fault::Refused(code)) => status(code),
        Some(Fault::Masked(code)) => {
            shared.forward(&request).await?.into_body().collect().await?;
            status(code)
        }
        Some(Fault::Twice) => {
            shared.forward(&request).await?.into_body().collect().await?;
            shared.forward(&request).await
        }
        Some(Fault::Rival) => {
            shared.rival(&asked).await?;
            shared.forward(&request).await
        }
        Some(Fault::Cut) => Err("cut before the request".into()),
        Some(Fault::LostReply) => {
            shared.forward(&request).await?.into_body().collect().await?;
            Err("cut instead of the reply".into())
        }
        Some(Fault::Held(pause)) => {
            tokio::time::sleep(pause).await;
            shared.forward(&request).await
        }
        Some(Fault::Clipped) => {
            let (mut parts, body) = shared.forward(&request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            parts.headers.remove(header::CONTENT_LENGTH);
            Ok(Response::from_parts(parts, whole(body.slice(..body.len().saturating_sub(8)))))
        }
        Some(Fault::Late(pause)) => {
            let (parts, body) = shared.forward(&request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            tokio::time::sleep(pause).await;
            Ok(Response::from_parts(parts, whole(body)))
        }
    }
}

impl Shared {
    /// Forwards a request; the body of the answer streams.
    async fn forward(&self, request: &Request<Bytes>) -> Result<Reply, Failure> {
        let (head, answer) = self.ask(request).await?;
        let body = StreamBody::new(answer.bytes_stream().map_ok(Frame::data).map_err(Failure::from));
        Ok(head.body(UnsyncBoxBody::new(body))?)
    }

    /// Forwards a watch, until it fails.
    async fn watch(&self, request: &Request<Bytes>, end: Option<WatchEnd>) -> Result<Reply, Failure> {
        let commands = self.live.subscribe();
        let (head, answer) = self.ask(request).await?;
        let lines = watch::lines(answer.bytes_stream().map_err(Failure::from), end, commands);
        Ok(head.body(UnsyncBoxBody::new(StreamBody::new(lines.map_ok(Frame::data))))?)
    }

    async fn ask(&self, request: &Request<Bytes>) -> Result<(http::response::Builder, reqwest::Response), Failure> {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let mut headers = request.headers().clone();
        headers.remove(header::HOST);
        let call = self.client.request(request.method().clone(), format!("{}{path}", self.upstream));
        let answer = call.headers(headers).body(request.body().clone()).send().await?;
        let mut head = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            // These headers belong to the connection, not to the answer.
            if name != header::TRANSFER_ENCODING && name != header::CONNECTION {
                head = head.header(name, value);
            }
        }
        Ok((head, answer))
    }

    /// Changes an annotation as the administrator; it does not matter whether the object exists.
    async fn rival(&self, asked: &ApiRequest) -> Result<(), Failure> {
        let patch = format!(r#"{{"metadata":{{"annotations":{{"example.com/rival":"{}"}}}}}}"#, uuid::Uuid::new_v4());
        let call = self.client.request(Method::PATCH, format!("{}{}", self.upstream, asked.path));
        let call = call.header(header::AUTHORIZATION, &self.admin);
        call.header(header::CONTENT_TYPE, "application/merge-patch+json").body(patch).send().await?;
        Ok(())
    }
}

fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, Failure> {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A Status object like those of the API server.
fn status(code: u16) -> Result<Reply, Failure> {
    let reason = match code {
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "injected by a test",
        "reason": reason, "code": code,
    });
    let mut head = Response::builder().status(StatusCode::from_u16(code)?);
    head = head.header(header::CONTENT_TYPE, "application/json");
    if matches!(code, 429 | 503) {
        head = head.header(header::RETRY_AFTER, "1");
    }
    Ok(head.body(whole(body.to_string().into()))?)
}
