//! What would be done, shown without doing it: to whom, how exactly, and that nothing happens.

use super::{fleet::LONG, planning_stage::Stage, stories::settle};
use anyhow::Context as _;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use devkit::{PgVersion, Postgres, Request, eventually};
use kube::api::ListParams;
use serde_json::{Value, json};
use std::{io::Write as _, net::UdpSocket};

on_each_postgres!(
    a_plan_is_what_is_done_afterwards_and_does_nothing_itself,
    plans_are_shown_to_those_who_may_do_what_they_show,
);

fn tenant(name: &str, spec: &Value) -> String {
    let mut object = json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": name },
        "spec": { "agents": [{ "name": "main", "configRef": { "name": "support" } }], "database": { "deletionPolicy": "Delete" } },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object.to_string()
}

/// Statements as they stand in the server's log, with what is drawn anew each time as a plan shows it.
fn normalise(log: &str, masks: &[(&str, &str)]) -> String {
    let mut text = log.replace("\n\t", "\n");
    for (found, shown) in masks {
        text = text.replace(found, shown);
    }
    let mut parts = text.split("'SCRAM-SHA-256$");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("'<SCRAM verifier of the new password>'");
        shown.push_str(part.split_once('\'').map_or("", |(_, rest)| rest));
    }
    shown
}

async fn a_plan_is_what_is_done_afterwards_and_does_nothing_itself(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let stage = Stage::new(&server).await?;
    let fleet = &stage.fleet;
    fleet.execute("ALTER SYSTEM SET log_statement = 'all'").await?;
    fleet.execute("SELECT pg_reload_conf()").await?;
    settle(fleet).await?;

    // The first Tenant of all: with a cell to make.
    let (world, writes, logged) = (stage.world().await?, stage.writes()?, server.log_text().await?.len());
    let documents = format!("kind: AgentConfig\nmetadata: {{ name: other }}\n---\n{}", tenant("acme", &json!({})));
    let said = stage.plan_as_planner(&["-f", "-"], &documents).await?;
    assert_eq!(
        (said.code, said.err.as_str()),
        (0, "note: skipped AgentConfig other: only Tenants are planned\n"),
        "{}",
        said.out
    );
    for part in
        ["if it is created", "CREATE SCHEMA", "SCRAM verifier of", "Then the operator waits", "WaitingForReplicas"]
    {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    let started = std::time::Instant::now();
    let said = stage.plan_as_planner(&["-f", "-", "-o", "json"], &documents).await?;
    println!("one plan with the plugin's start and its token: {:?}", started.elapsed());
    let shown: Value = serde_json::from_str(&said.out)?;
    assert_eq!(stage.world().await?, world, "a plan changed something");
    assert_eq!(stage.writes()?, writes, "a plan wrote something");
    let statements = normalise(&server.log_text().await?.split_off(logged), &[]);
    assert!(!statements.contains("agent_tenancy.fence("), "a change was sent");

    // Applied, just that is done: every statement word by word, every request.
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    settle(fleet).await?;
    let status = fleet.tenants.get("acme").await?;
    let uid = status.metadata.uid.context("a UID")?;
    let incarnation = status.status.and_then(|s| s.database).context("a database")?.incarnation;
    let digest = fleet.column("SELECT ring_digest FROM agent_tenancy.tenants".to_owned()).await?.remove(0);
    let login = fleet.column("SELECT login_id::text FROM agent_tenancy.cells".to_owned()).await?.remove(0);
    let masks = [
        (login.as_str(), "<new login>"),
        (uid.as_str(), "<uid>"),
        (incarnation.as_str(), "<new incarnation>"),
        (digest.as_str(), "<digest of the new keyring>"),
    ];
    let statements = normalise(&server.log_text().await?.split_off(logged), &masks);
    let done: Vec<Request> = stage.writes()?.split_off(writes.len());
    let (mut compared, mut requests) = (0, 0);
    for step in shown["steps"].as_array().context("steps")? {
        for sql in step["sql"].as_array().into_iter().flatten() {
            let sql = sql.as_str().context("a text")?.trim_end();
            assert!(statements.contains(sql), "this was not sent:\n{sql}\n-- but:\n{statements}");
            compared += 1;
        }
        for request in step["requests"].as_array().into_iter().flatten() {
            let same = |r: &&Request| {
                request["verb"] == *r.verb
                    && request["resource"] == *r.resource
                    && request["namespace"] == *r.namespace
                    // The API server's log does not know the name of what is created.
                    && (r.verb == "create" || request["name"] == *r.name)
            };
            assert!(done.iter().any(|r| same(&r)), "{request} was not asked for: {done:?}");
            requests += 1;
        }
    }
    println!("{compared} transactions and {requests} requests shown were done just so; {} requests in all", done.len());
    assert_eq!((compared, requests), (2, 5), "{shown:#}");

    // As it is, changed, and deleted.
    let said = stage.plan_as_planner(&["acme"], "").await?;
    assert!(said.code == 0 && said.out.contains("Nothing to do."), "{}{}", said.out, said.err);
    let said = stage.plan_as_planner(&["-f", "-"], &tenant("acme", &json!({ "suspend": true }))).await?;
    assert!(said.out.contains("if this is applied") && said.out.contains("state: suspended"), "{}", said.out);
    let said = stage.plan_as_planner(&["acme", "--delete"], "").await?;
    assert!(said.out.contains("if it is deleted") && said.out.contains("state: deleting"), "{}", said.out);
    assert_eq!(fleet.condition("acme", "Ready").await?.0, "True", "it was only a plan");

    // Two who want one id.
    let said = stage.plan_as_planner(&["-f", "-"], &tenant("second", &json!({ "tenantId": "acme" }))).await?;
    assert_eq!(said.code, 3, "{}{}", said.out, said.err);
    assert!(said.err.contains("would be stalled: Conflict"), "{}", said.err);

    // No secret is shown anywhere: of the tenant's keys, the cell's login, the operator.
    let keys: Vec<_> = fleet.secrets.list(&ListParams::default().labels("agent-tenancy.dev/tenant-uid")).await?.items;
    let ring: Value = serde_json::from_slice(&keys[0].data.as_ref().context("data")?["ring.json"].0)?;
    let cell = fleet.entry(&fleet.entries("cell").await?[0]).await?;
    let mut plans = String::new();
    for args in [["acme", "-o", "json"].as_slice(), ["acme", "--delete", "-o", "yaml"].as_slice(), ["acme"].as_slice()]
    {
        plans += &stage.plan_as_planner(args, "").await?.out;
    }
    for (name, spec) in
        [("acme", json!({ "suspend": true })), ("new", json!({})), ("new", json!({ "auth": { "algorithm": "EdDSA" } }))]
    {
        plans += &stage.plan_as_planner(&["-f", "-", "-o", "json"], &tenant(name, &spec)).await?.out;
    }
    plans += &fleet_log(&stage);
    let token = stage.token("planner", Some("agent-tenancy.dev/plan")).await?;
    let known = reqwest::Client::new().get(format!("{}/v1/plan/{}/acme", stage.url(), stage.namespace));
    plans += &known.bearer_auth(&token).send().await?.error_for_status()?.text().await?;
    let canaries = [
        ring["keys"][0]["key"].as_str().context("a key")?.to_owned(),
        cell["password"].as_str().context("a password")?.to_owned(),
        super::fleet::PASSWORD.to_owned(),
        token.rsplit_once('.').context("a signature")?.1.to_owned(),
    ];
    for canary in &canaries {
        let bytes = BASE64_STANDARD.decode(canary).unwrap_or_else(|_| canary.clone().into_bytes());
        let forms =
            [canary.clone(), String::from_utf8_lossy(&bytes).into_owned(), BASE64_STANDARD_NO_PAD.encode(&bytes)];
        assert!(forms.iter().all(|form| !plans.contains(form.as_str())), "a secret is shown");
    }
    assert!(plans.contains("<redacted>") && plans.contains("<new public key>"));

    // The database is gone: a plan says so.
    server.stop_immediate().await?;
    let said = eventually(LONG, "the outage is told", || async {
        let said = stage.plan_as_planner(&["-f", "-"], &tenant("late", &json!({}))).await?;
        anyhow::ensure!(said.out.contains("DatabaseUnavailable"), "{}{}", said.out, said.err);
        Ok(said)
    })
    .await?;
    assert!(!said.out.contains("SQL"), "{}", said.out);
    server.start_again().await?;
    Ok(())
}

fn fleet_log(stage: &Stage) -> String {
    let log = stage.operator.process.log();
    assert!(log.contains("a plan was asked for"), "{log}");
    log
}

async fn plans_are_shown_to_those_who_may_do_what_they_show(version: PgVersion) -> anyhow::Result<()> {
    let stage = Stage::new(&Postgres::shared(version).await?).await?;
    let (fleet, audience) = (&stage.fleet, Some("agent-tenancy.dev/plan"));
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let in_namespace = |text: String| {
        let mut object: Value = serde_json::from_str(&text).unwrap_or_default();
        object["metadata"]["namespace"] = stage.namespace.clone().into();
        object.to_string()
    };
    let post = async |token: Option<&str>, body: String| {
        let request = client.post(format!("{}/v1/plan", stage.url())).body(body);
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await?;
        anyhow::Ok((
            answer.status().as_u16(),
            answer.json::<Value>().await?["error"].as_str().unwrap_or_default().to_owned(),
        ))
    };
    let new = || in_namespace(tenant("new", &json!({})));

    // Who comes.
    let strange = stage.token("planner", None).await?;
    for token in [None, Some("nonsense"), Some(strange.as_str())] {
        let (status, error) = post(token, new()).await?;
        assert!(status == 401 && error.contains("made for the audience 'agent-tenancy.dev/plan'"), "{status} {error}");
    }
    let [planner, viewer, nobody] = [
        stage.token("planner", audience).await?,
        stage.token("viewer", audience).await?,
        stage.token("nobody", audience).await?,
    ];
    assert_eq!(post(Some(&planner), new()).await?, (200, String::new()));
    for (token, name, missing) in [
        (&nobody, "new", "may not get tenants.agent-tenancy.dev"),
        (&nobody, "acme", "may not get tenants.agent-tenancy.dev"),
        (&viewer, "new", "may not create tenants.agent-tenancy.dev"),
        (&viewer, "acme", "may not update tenants.agent-tenancy.dev"),
    ] {
        let (status, error) = post(Some(token), in_namespace(tenant(name, &json!({})))).await?;
        assert!(status == 403 && error.contains(missing) && error.contains(&stage.namespace), "{status} {error}");
    }

    // What it brings.
    let mut elsewhere: Value = serde_json::from_str(&new())?;
    elsewhere["metadata"]["namespace"] = "default".into();
    let (status, error) = post(Some(&planner), elsewhere.to_string()).await?;
    assert!(status == 403 && error.contains("'default'"), "{status} {error}");
    for (spec, field) in [
        (json!({ "databse": {} }), "spec.databse: no such field"),
        (json!({ "agents": [{ "name": "main" }] }), "spec.agents[0]"),
        (json!({ "defaultAgent": "nobody" }), "spec.defaultAgent must name one"),
    ] {
        let (status, error) = post(Some(&planner), in_namespace(tenant("new", &spec))).await?;
        assert!(status == 422 && error.contains(field), "{status} {error}");
    }
    let long = json!({ "displayName": "x".repeat(200_000) });
    assert_eq!(post(Some(&planner), in_namespace(tenant("new", &long))).await?.0, 413);

    // What the plugin makes of it.
    let url = stage.url();
    let said = stage.plan(&["acme", "--delete", "--server", &url, "--as-service-account", "viewer"], "").await?;
    assert!(said.code == 5 && said.err.contains("may not delete tenants"), "{} {}", said.code, said.err);
    let said = stage.plan(&["acme", "--server", &url, "--as-service-account", "viewer"], "").await?;
    assert!(said.code == 0 && said.out.contains("Nothing to do."), "{}", said.err);
    let said = stage.plan(&["acme", "--server", &url], "").await?;
    assert!(said.code == 3 && said.err.contains("--as-service-account"), "{}", said.err);
    let said = stage.plan(&["-f", "-", "--as-service-account", "planner", "--server", &url], "a: 1").await?;
    assert!(said.code == 3 && said.err.contains("holds no Tenant"), "{}", said.err);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(planner.as_bytes())?;
    let path = file.path().to_str().context("a path")?;
    let said = stage.plan(&["acme", "--server", &url, "--token-file", path], "").await?;
    assert_eq!(said.code, 0, "{}", said.err);
    let said = stage.plan(&["acme", "--as-service-account", "planner"], "").await?;
    assert!(said.code != 0 && said.err.contains("plan.enabled=true"), "{}", said.err);

    // Many at once: few are served at a time, and the others are told to come again; passes go on.
    let burst = futures::future::join_all((0..60).map(|_| post(Some(&planner), new()))).await;
    let codes: Vec<u16> = burst.into_iter().map(|answer| answer.map(|(code, _)| code)).collect::<Result<_, _>>()?;
    let count = |code| codes.iter().filter(|c| **c == code).count();
    println!("of 60 at once: {} plans, {} told to come again", count(200), count(429));
    assert!(count(200) >= 1 && count(429) >= 30 && count(200) + count(429) == 60, "{codes:?}");
    fleet.tenant("later", "Delete").await?;
    fleet.wait_ready("later").await?;
    through_the_api_server(&stage).await
}

/// The chart's Service, with endpoints outside the cluster: the plugin needs no way to the operator but the API server's,
/// whichever of two operators that finds first.
async fn through_the_api_server(stage: &Stage) -> anyhow::Result<()> {
    let standby = stage.fleet.operator("two").await?;
    let answer = reqwest::Client::new().get(format!("http://{}/v1/plan/{}/acme", standby.plan, stage.namespace));
    let token = stage.token("planner", Some("agent-tenancy.dev/plan")).await?;
    let answer = answer.bearer_auth(token).send().await?;
    assert_eq!(answer.status(), 503);
    let refusal: Value = answer.json().await?;
    assert!(refusal["error"].as_str().is_some_and(|e| e.contains("stands by")), "{refusal}");
    assert!(refusal["leader"].as_str().is_some_and(|leader| leader.len() > 8), "{refusal}");

    // No packet is sent: this only asks which address the machine has. The API server goes to no loopback address.
    let probe = UdpSocket::bind("0.0.0.0:0")?;
    let Some(address) = probe.connect("203.0.113.1:9").ok().and_then(|()| probe.local_addr().ok()).map(|a| a.ip())
    else {
        println!("this machine has no address but its loopback: the way through the API server is not told");
        return Ok(());
    };
    let system = stage.fleet.release.namespace();
    let name = "fleet-agent-tenancy-operator-plan";
    let port = |address: &String| Ok(address.rsplit(':').next().unwrap_or_default().parse::<u16>()?);
    let ports = [&stage.operator.plan, &standby.plan].map(port).into_iter().collect::<anyhow::Result<Vec<u16>>>()?;
    // Nor to an address that is not a Pod's.
    let target = json!({ "kind": "Pod", "name": name, "namespace": system });
    let account = stage.fleet.release.account(devkit::Component::Operator)?;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": {
        "serviceAccountName": account, "containers": [{ "name": "operator", "image": "none" }] } });
    stage.fleet.env.kubectl_with(&["create", "-n", system, "-f", "-"], &pod.to_string()).await?.ok()?;
    let status = json!({ "status": { "podIP": address, "podIPs": [{ "ip": address }] } }).to_string();
    let patch = ["patch", "pod", name, "-n", system, "--subresource=status", "--type=merge", "-p", &status];
    stage.fleet.env.kubectl(&patch).await?.ok()?;
    let mut items = vec![json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "ports": [{ "name": "plan", "port": 8082 }] },
    })];
    items.extend(ports.iter().map(|port| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": format!("{name}-{port}"), "labels": { "kubernetes.io/service-name": name } },
            "endpoints": [{ "addresses": [address], "targetRef": target, "conditions": { "ready": true, "serving": true } }], "ports": [{ "name": "plan", "port": port }],
        })
    }));
    let subsets: Vec<_> = ports
        .iter()
        .map(|port| json!({ "addresses": [{ "ip": address, "targetRef": target }], "ports": [{ "name": "plan", "port": port }] }))
        .collect();
    items.push(json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": name,
        "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } }, "subsets": subsets }));
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    stage.fleet.env.kubectl_with(&["apply", "-n", system, "-f", "-"], &list.to_string()).await?.ok()?;
    let path = format!("/api/v1/namespaces/{system}/services/http:{name}:plan/proxy/v1/plan/a/b");
    eventually(std::time::Duration::from_secs(20), "the API server knows where the Service leads", || async {
        // Without a token, so that it is the operator that refuses, which kubectl tells in its own words.
        let raw = stage.fleet.env.kubectl(&["get", "--raw", &path]).await?;
        anyhow::ensure!(raw.stderr.contains("credentials"), "{raw:?}");
        Ok(())
    })
    .await?;
    let service = format!("{system}/{name}");
    for _ in 0..4 {
        let said = stage.plan(&["acme", "--service", &service, "--as-service-account", "planner"], "").await?;
        assert!(said.code == 0 && said.out.contains("Nothing to do."), "{}{}", said.out, said.err);
    }
    let said = stage.plan(&["acme", "--delete", "--service", &service, "--as-service-account", "viewer"], "").await?;
    assert!(said.code == 5 && said.err.contains("may not delete"), "{}{}", said.out, said.err);
    Ok(())
}
