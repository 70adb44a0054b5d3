//! A chat call on the only connection there is, stopped at everything it waits for: the client leaves, the database ends
//! the session, the network breaks. What follows is clean, whatever happened.

use super::{
    gate::{Gate, Pieces},
    in_process::{InProcessApi, agent, token},
};
use crate::setup::on_both;
use axum::{Json, Router, routing::post};
use devkit::PgVersion;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
};

on_both!(a_client_leaves_at_everything_that_its_call_waits_for, the_database_ends_the_session_at_every_message,);

/// Far more points than a call has.
const MANY: usize = 1000;

/// `acme` and `beta` on one connection, a provider, and the gate before both.
struct Scene {
    api: InProcessApi,
    gate: Arc<Gate>,
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// For queries of the test; kept, because each login takes time.
    admin: Mutex<PgConnection>,
}

/// Where a call was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// While the question is stored, the login included.
    T1,
    Provider,
    /// While the answer is stored.
    T2,
}

impl Scene {
    async fn new() -> Self {
        Self::on(PgVersion::NEWEST).await
    }

    async fn on(version: PgVersion) -> Self {
        let mut api = InProcessApi::on(version, &["acme", "beta"], |s| s.database.connection_budget = 1).await;
        let gate = Gate::new();
        let database = format!("{}:{}", api.instance.test.host, api.instance.test.port).parse().unwrap();
        let mut cell = api.cell();
        cell["port"] = json!(gate.before(database, Pieces::OfPostgres).await);
        api.apply("cell-main-1", &cell).await;

        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let complete = post(async move |Json(_): Json<Value>| {
            counted.fetch_add(1, Ordering::SeqCst);
            Json(json!({"choices": [{"message": {"content": "an answer ".repeat(20)}}]}))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = listener.local_addr().unwrap();
        let routes = Router::new().route("/v1/chat/completions", complete);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let port = gate.before(provider, Pieces::OfProvider(100)).await;
        let mut agent = agent("a1");
        let behaviour = &mut agent["current"]["behaviour"];
        behaviour["provider"] = json!({"type": "OpenAICompatible", "baseUrl": format!("http://127.0.0.1:{port}/v1")});
        api.apply("agent-a1", &agent).await;
        api.settled().await;
        let address = api.listen().await;
        let admin = Mutex::new(api.instance.admin().await);
        Self { api, gate, address, asked, admin }
    }

    /// The bytes of a call of `acme`.
    fn call(&self, message: &str) -> Vec<u8> {
        let body = json!({ "message": message }).to_string();
        let head = format!(
            "POST /api/v1/tenants/acme/chat HTTP/1.1\r\nHost: api\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            token("acme", "ann"),
            body.len()
        );
        (head + &body).into_bytes()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Calls until the gate holds what the call waits for, or until the answer: its status.
    async fn call_until_held(&self, message: &str) -> Result<(TcpStream, Point), u16> {
        let asked = self.asked.load(Ordering::SeqCst);
        let mut client = self.connect().await;
        client.write_all(&self.call(message)).await.unwrap();
        let mut answer = Vec::new();
        let held = tokio::select! {
            held = self.gate.holds() => held,
            read = client.read_to_end(&mut answer) => {
                read.unwrap();
                return Err(status(&answer));
            }
        };
        let point = match held {
            Pieces::OfProvider(_) => Point::Provider,
            Pieces::OfPostgres if self.asked.load(Ordering::SeqCst) == asked => Point::T1,
            Pieces::OfPostgres => Point::T2,
        };
        Ok((client, point))
    }

    /// The next tenant's call, on the connection that is left: clean, and as nobody else.
    async fn next_tenant_is_clean(&self, note: &str) {
        let answer = self.api.chat("beta", "bob", &json!({"message": "after"})).await;
        assert_eq!(answer.status, 200, "{note}: {}", answer.body);
        let schema = crate::setup::tenant_id("beta").database_name(&self.api.instance.prefix);
        let foreign = format!("SELECT count(*) FROM \"{schema}\".messages WHERE sub <> 'bob'");
        let mut admin = self.admin.lock().await;
        let foreign: i64 = sqlx::query(AssertSqlSafe(foreign)).fetch_one(&mut *admin).await.unwrap().get(0);
        let open = self.api.context.database.pool().usage().open;
        assert_eq!((foreign, open), (0, 1), "{note}");
    }

    /// The statuses of a question of `acme`, as often as it stands there.
    async fn stored(&self, message: &str) -> String {
        let schema = crate::setup::tenant_id("acme").database_name(&self.api.instance.prefix);
        let of = format!("SELECT coalesce(string_agg(status, ' '), '') FROM \"{schema}\".messages WHERE content = $1");
        let mut admin = self.admin.lock().await;
        sqlx::query(AssertSqlSafe(of)).bind(message).fetch_one(&mut *admin).await.unwrap().get(0)
    }

    async fn all_tasks_end(&self) {
        self.api.context.tasks.close();
        tokio::time::timeout(Duration::from_secs(10), self.api.context.tasks.wait()).await.unwrap();
    }

    /// The next call has to log in first.
    async fn forget_the_connection(&self) {
        self.api.context.database.pool().close().await;
    }
}

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no answer: {text}"))
}

async fn a_client_leaves_at_everything_that_its_call_waits_for(version: PgVersion) {
    let scene = Scene::on(version).await;
    let mut left: BTreeMap<Point, usize> = BTreeMap::new();
    for pieces in 0..MANY {
        let message = format!("left after {pieces}");
        scene.forget_the_connection().await;
        scene.gate.close_after(pieces);
        let finished = match scene.call_until_held(&message).await {
            Ok((client, point)) => {
                *left.entry(point).or_default() += 1;
                drop(client);
                // The server notices, and drops what it did for that client.
                tokio::time::sleep(Duration::from_millis(3)).await;
                false
            }
            Err(status) => {
                assert_eq!(status, 200, "nobody left");
                true
            }
        };
        scene.gate.open();
        scene.next_tenant_is_clean(&message).await;
        if finished {
            break;
        }
    }
    println!("a client left a chat call at {} points: {left:?}", left.values().sum::<usize>());
    assert!(left[&Point::T1] > 10 && left[&Point::Provider] > 3 && left[&Point::T2] > 10, "{left:?}");
    // Nobody listened, and everything was answered and counted all the same.
    scene.all_tasks_end().await;
    let calls = i64::try_from(left.values().sum::<usize>()).unwrap() + 1;
    let count = async |sql| scene.api.count("acme", sql).await;
    assert_eq!(count("SELECT count(*) FROM {schema}.messages WHERE status = 'answered'").await, calls);
    assert_eq!(count("SELECT count(*) FROM {schema}.usage WHERE outcome = 'ok'").await, calls);
    assert_eq!(count("SELECT count(*) FROM {schema}.messages").await, 2 * calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_leaves_while_it_still_speaks() {
    let scene = Scene::new().await;
    let call = scene.call("half a question");
    let cuts: Vec<usize> = (1..call.len()).step_by(61).chain([call.len() - 1]).collect();
    for end in &cuts {
        let mut client = scene.connect().await;
        client.write_all(&call[..*end]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        drop(client);
        scene.next_tenant_is_clean(&format!("{end} bytes")).await;
    }
    println!("a client left after {} parts of its request", cuts.len());
    assert_eq!(scene.api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 0);
}

/// Stops calls at every message of the database, does something to the connection there, and checks what is left. Before
/// a login the connection is closed, and only the login's messages are of interest: `most`.
async fn harmed(scene: &Scene, login: bool, most: usize, harm: impl AsyncFn(&Scene)) -> BTreeMap<u16, Vec<usize>> {
    let (mut answers, mut points) = (BTreeMap::new(), 0);
    for pieces in 0..most {
        let message = format!("harmed after {pieces}, login {login}");
        if login {
            scene.forget_the_connection().await;
        }
        scene.gate.close_after(pieces);
        let status = match scene.call_until_held(&message).await {
            Err(status) => {
                assert_eq!(status, 200, "nothing happened to it");
                break;
            }
            Ok((mut client, _)) => {
                points += 1;
                harm(scene).await;
                scene.gate.open();
                let mut answer = Vec::new();
                let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer));
                read.await.unwrap().unwrap();
                status(&answer)
            }
        };
        answers.entry(status).or_insert_with(Vec::new).push(pieces);
        scene.next_tenant_is_clean(&message).await;
        let stored = scene.stored(&message).await;
        let possible: &[&str] = match status {
            200 => &["answered"],
            502 => &["failed"],
            // Where the reply to a COMMIT was lost, what it did may be there; never twice.
            503 => &["", "pending", "answered"],
            other => panic!("{message}: {other}"),
        };
        assert!(possible.contains(&stored.as_str()), "{message}: {status}, {stored}");
    }
    assert!(points > 20, "{points}");
    let schema = crate::setup::tenant_id("acme").database_name(&scene.api.instance.prefix);
    let miscounted = format!(
        "SELECT (SELECT sum(octet_length(content)) FROM \"{schema}\".messages)::int8 \
              - (SELECT sum(bytes) FROM \"{schema}\".storage)::int8"
    );
    let mut admin = scene.admin.lock().await;
    let miscounted: i64 = sqlx::query(AssertSqlSafe(miscounted)).fetch_one(&mut *admin).await.unwrap().get(0);
    assert_eq!(miscounted, 0, "bytes are counted as they were committed");
    answers
}

/// Messages of a login and of the first statement after it.
const LOGIN: usize = 25;

async fn the_database_ends_the_session_at_every_message(version: PgVersion) {
    let scene = Scene::on(version).await;
    let terminate = async |scene: &Scene| {
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'agent-api' AND datname = current_database()";
        sqlx::query(all).execute(&mut *scene.admin.lock().await).await.unwrap();
    };
    let answers = harmed(&scene, false, MANY, terminate).await;
    println!("the session ended at every message: {answers:?}");
    assert!(answers.keys().eq([&200]), "nothing was committed, so a second try gave an answer: {answers:?}");
    println!("at every message of a login: {:?}", harmed(&scene, true, LOGIN, terminate).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_breaks_at_every_message() {
    let scene = Scene::new().await;
    let cut = async |scene: &Scene| scene.gate.cut();
    println!("the network broke at every message: {:?}", harmed(&scene, false, MANY, cut).await);
    println!("at every message of a login: {:?}", harmed(&scene, true, LOGIN, cut).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_given_up_and_not_used_again() {
    let mut scene = Scene::new().await;
    for tenant in ["acme", "beta"] {
        let mut entry = scene.api.tenant(tenant);
        entry["database"]["statementTimeoutSeconds"] = json!(1);
        scene.api.apply(&format!("tenant-{tenant}"), &entry).await;
    }
    scene.api.settled().await;
    scene.next_tenant_is_clean("before").await;
    // A reply of T1 that never comes: the transaction's future is dropped where it waits for it.
    scene.gate.close_after(3);
    let (mut client, point) = scene.call_until_held("no answer").await.unwrap();
    assert_eq!(point, Point::T1);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(15), client.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    assert_eq!(status(&answer), 503);
    scene.gate.open();
    scene.next_tenant_is_clean("after no answer").await;
    assert_eq!(scene.stored("no answer").await, "");
}
