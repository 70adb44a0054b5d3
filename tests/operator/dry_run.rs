//! Plans (`kubectl tenant plan`): which users may see them, that they are exact, and that they change nothing.

use super::{dry_run_setup::DryRunSetup, installation::LONG, installation_state::settle};
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
    a_plan_shows_exactly_what_is_done_afterwards_and_changes_nothing,
    plans_are_shown_to_users_who_may_make_the_change,
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

/// Statements of the server's log, with random values replaced by the placeholders of a plan.
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

async fn a_plan_shows_exactly_what_is_done_afterwards_and_changes_nothing(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let setup = DryRunSetup::new(&server).await?;
    let installation = &setup.installation;
    installation.execute("ALTER SYSTEM SET log_statement = 'all'").await?;
    installation.execute("SELECT pg_reload_conf()").await?;
    settle(installation).await?;

    // The first Tenant of the installation: a cell is created too.
    let (world, writes, logged) = (setup.world().await?, setup.writes()?, server.log_text().await?.len());
    let documents = format!("kind: AgentConfig\nmetadata: {{ name: other }}\n---\n{}", tenant("acme", &json!({})));
    let output = setup.plan_as_planner(&["-f", "-"], &documents).await?;
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (0, "note: skipped AgentConfig other: only Tenants are planned\n"),
        "{}",
        output.stdout
    );
    for part in
        ["if it is created", "CREATE SCHEMA", "SCRAM verifier of", "Then the operator waits", "WaitingForReplicas"]
    {
        assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
    }
    let started = std::time::Instant::now();
    let output = setup.plan_as_planner(&["-f", "-", "-o", "json"], &documents).await?;
    println!("one plan with the plugin's start and its token: {:?}", started.elapsed());
    let shown: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(setup.world().await?, world, "a plan changed something");
    assert_eq!(setup.writes()?, writes, "a plan wrote something");
    let statements = normalise(&server.log_text().await?.split_off(logged), &[]);
    assert!(!statements.contains("agent_tenancy.fence("), "a change was sent");

    // When it is applied, every statement and every request is as the plan showed.
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    settle(installation).await?;
    let status = installation.tenants.get("acme").await?;
    let uid = status.metadata.uid.context("a UID")?;
    let incarnation = status.status.and_then(|s| s.database).context("a database")?.incarnation;
    let digest = installation.column("SELECT ring_digest FROM agent_tenancy.tenants".to_owned()).await?.remove(0);
    let login = installation.column("SELECT login_id::text FROM agent_tenancy.cells".to_owned()).await?.remove(0);
    let masks = [
        (login.as_str(), "<new login>"),
        (uid.as_str(), "<uid>"),
        (incarnation.as_str(), "<new incarnation>"),
        (digest.as_str(), "<digest of the new keyring>"),
    ];
    let statements = normalise(&server.log_text().await?.split_off(logged), &masks);
    let done: Vec<Request> = setup.writes()?.split_off(writes.len());
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
                    // The API server's log does not contain the name of a created object.
                    && (r.verb == "create" || request["name"] == *r.name)
            };
            assert!(done.iter().any(|r| same(&r)), "{request} was not asked for: {done:?}");
            requests += 1;
        }
    }
    println!(
        "{compared} planned transactions and {requests} planned requests were made; {} requests in all",
        done.len()
    );
    assert_eq!((compared, requests), (2, 5), "{shown:#}");

    // Plans for an unchanged, a changed and a deleted Tenant.
    let output = setup.plan_as_planner(&["acme"], "").await?;
    assert!(output.status == 0 && output.stdout.contains("Nothing to do."), "{}{}", output.stdout, output.stderr);
    let output = setup.plan_as_planner(&["-f", "-"], &tenant("acme", &json!({ "suspend": true }))).await?;
    assert!(
        output.stdout.contains("if this is applied") && output.stdout.contains("state: suspended"),
        "{}",
        output.stdout
    );
    let output = setup.plan_as_planner(&["acme", "--delete"], "").await?;
    assert!(
        output.stdout.contains("if it is deleted") && output.stdout.contains("state: deleting"),
        "{}",
        output.stdout
    );
    assert_eq!(installation.condition("acme", "Ready").await?.0, "True", "it was only a plan");

    // A second Tenant with the same tenant id.
    let output = setup.plan_as_planner(&["-f", "-"], &tenant("second", &json!({ "tenantId": "acme" }))).await?;
    assert_eq!(output.status, 3, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("would be stalled: Conflict"), "{}", output.stderr);

    // No plan contains a secret: of the tenant's keys, the cell's login, the operator.
    let keys: Vec<_> =
        installation.secrets.list(&ListParams::default().labels("agent-tenancy.dev/tenant-uid")).await?.items;
    let keyring: Value = serde_json::from_slice(&keys[0].data.as_ref().context("data")?["ring.json"].0)?;
    let cell = installation.entry(&installation.entries("cell").await?[0]).await?;
    let mut plans = String::new();
    for args in [["acme", "-o", "json"].as_slice(), ["acme", "--delete", "-o", "yaml"].as_slice(), ["acme"].as_slice()]
    {
        plans += &setup.plan_as_planner(args, "").await?.stdout;
    }
    for (name, spec) in
        [("acme", json!({ "suspend": true })), ("new", json!({})), ("new", json!({ "auth": { "algorithm": "EdDSA" } }))]
    {
        plans += &setup.plan_as_planner(&["-f", "-", "-o", "json"], &tenant(name, &spec)).await?.stdout;
    }
    plans += &operator_log(&setup);
    let token = setup.token("planner", Some("agent-tenancy.dev/plan")).await?;
    let known = reqwest::Client::new().get(format!("{}/v1/plan/{}/acme", setup.url()?, setup.namespace));
    plans += &known.bearer_auth(&token).send().await?.error_for_status()?.text().await?;
    let canaries = [
        keyring["keys"][0]["key"].as_str().context("a key")?.to_owned(),
        cell["password"].as_str().context("a password")?.to_owned(),
        super::installation::PASSWORD.to_owned(),
        token.rsplit_once('.').context("a signature")?.1.to_owned(),
    ];
    for canary in &canaries {
        let bytes = BASE64_STANDARD.decode(canary).unwrap_or_else(|_| canary.clone().into_bytes());
        let forms =
            [canary.clone(), String::from_utf8_lossy(&bytes).into_owned(), BASE64_STANDARD_NO_PAD.encode(&bytes)];
        assert!(forms.iter().all(|form| !plans.contains(form.as_str())), "a plan contains a secret");
    }
    assert!(plans.contains("<redacted>") && plans.contains("<new public key>"));

    // While the database is down, a plan says so.
    server.stop_immediate().await?;
    let output = eventually(LONG, "the plan reports the outage", || async {
        let output = setup.plan_as_planner(&["-f", "-"], &tenant("late", &json!({}))).await?;
        anyhow::ensure!(output.stdout.contains("DatabaseUnavailable"), "{}{}", output.stdout, output.stderr);
        Ok(output)
    })
    .await?;
    assert!(!output.stdout.contains("SQL"), "{}", output.stdout);
    server.start_again().await?;
    Ok(())
}

fn operator_log(setup: &DryRunSetup) -> String {
    let log = setup.operator.process.log();
    assert!(log.contains("a plan was requested"), "{log}");
    log
}

async fn plans_are_shown_to_users_who_may_make_the_change(version: PgVersion) -> anyhow::Result<()> {
    let setup = DryRunSetup::new(&Postgres::shared(version).await?).await?;
    let (installation, audience) = (&setup.installation, Some("agent-tenancy.dev/plan"));
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let in_namespace = |text: String| {
        let mut object: Value = serde_json::from_str(&text).unwrap_or_default();
        object["metadata"]["namespace"] = setup.namespace.clone().into();
        object.to_string()
    };
    let post = async |token: Option<&str>, body: String| {
        let request = client.post(format!("{}/v1/plan", setup.url()?)).body(body);
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await?;
        anyhow::Ok((
            answer.status().as_u16(),
            answer.json::<Value>().await?["error"].as_str().unwrap_or_default().to_owned(),
        ))
    };
    let new = || in_namespace(tenant("new", &json!({})));

    // Authentication and authorization.
    let strange = setup.token("planner", None).await?;
    for token in [None, Some("nonsense"), Some(strange.as_str())] {
        let (status, error) = post(token, new()).await?;
        assert!(
            status == 401 && error.contains("a bearer token for the audience 'agent-tenancy.dev/plan'"),
            "{status} {error}"
        );
    }
    let [planner, viewer, nobody] = [
        setup.token("planner", audience).await?,
        setup.token("viewer", audience).await?,
        setup.token("nobody", audience).await?,
    ];
    assert_eq!(post(Some(&planner), new()).await?, (200, String::new()));
    for (token, name, missing) in [
        (&nobody, "new", "may not get tenants.agent-tenancy.dev"),
        (&nobody, "acme", "may not get tenants.agent-tenancy.dev"),
        (&viewer, "new", "may not create tenants.agent-tenancy.dev"),
        (&viewer, "acme", "may not update tenants.agent-tenancy.dev"),
    ] {
        let (status, error) = post(Some(token), in_namespace(tenant(name, &json!({})))).await?;
        assert!(status == 403 && error.contains(missing) && error.contains(&setup.namespace), "{status} {error}");
    }

    // The request body.
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

    // What the plugin prints.
    let url = setup.url()?;
    let output = setup.plan(&["acme", "--delete", "--server", url, "--as-service-account", "viewer"], "").await?;
    assert!(
        output.status == 5 && output.stderr.contains("may not delete tenants"),
        "{} {}",
        output.status,
        output.stderr
    );
    let output = setup.plan(&["acme", "--server", url, "--as-service-account", "viewer"], "").await?;
    assert!(output.status == 0 && output.stdout.contains("Nothing to do."), "{}", output.stderr);
    let output = setup.plan(&["acme", "--server", url], "").await?;
    assert!(output.status == 3 && output.stderr.contains("--as-service-account"), "{}", output.stderr);
    let output = setup.plan(&["-f", "-", "--as-service-account", "planner", "--server", url], "a: 1").await?;
    assert!(output.status == 3 && output.stderr.contains("holds no Tenant"), "{}", output.stderr);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(planner.as_bytes())?;
    let path = file.path().to_str().context("a path")?;
    let output = setup.plan(&["acme", "--server", url, "--token-file", path], "").await?;
    assert_eq!(output.status, 0, "{}", output.stderr);
    let output = setup.plan(&["acme", "--as-service-account", "planner"], "").await?;
    assert!(output.status != 0 && output.stderr.contains("adminApi.enabled=true"), "{}", output.stderr);

    // Many at once: few are served at a time, the others get 429, and reconciles continue.
    let burst = futures::future::join_all((0..60).map(|_| post(Some(&planner), new()))).await;
    let codes: Vec<u16> = burst.into_iter().map(|answer| answer.map(|(code, _)| code)).collect::<Result<_, _>>()?;
    let count = |code| codes.iter().filter(|c| **c == code).count();
    println!("of 60 at once: {} plans, {} answers 429", count(200), count(429));
    assert!(count(200) >= 1 && count(429) >= 30 && count(200) + count(429) == 60, "{codes:?}");
    installation.tenant("later", "Delete").await?;
    installation.wait_ready("later").await?;
    through_the_api_server(&setup).await
}

/// The chart's Service, with endpoints outside the cluster: the plugin reaches the operator through the API server alone,
/// whichever of the two operators the API server chooses.
async fn through_the_api_server(setup: &DryRunSetup) -> anyhow::Result<()> {
    let standby = setup.installation.operator("two").await?;
    let answer = reqwest::Client::new().get(format!("{}/v1/plan/{}/acme", standby.admin_url()?, setup.namespace));
    let token = setup.token("planner", Some("agent-tenancy.dev/plan")).await?;
    let answer = answer.bearer_auth(token).send().await?;
    assert_eq!(answer.status(), 503);
    let refusal: Value = answer.json().await?;
    assert!(refusal["error"].as_str().is_some_and(|e| e.contains("is a standby")), "{refusal}");
    assert!(refusal["leader"].as_str().is_some_and(|leader| leader.len() > 8), "{refusal}");

    // No packet is sent: this only determines the machine's address. The API server connects to no loopback address.
    let probe = UdpSocket::bind("0.0.0.0:0")?;
    let Some(address) = probe.connect("203.0.113.1:9").ok().and_then(|()| probe.local_addr().ok()).map(|a| a.ip())
    else {
        println!("this machine has only a loopback address: the way through the API server is not tested");
        return Ok(());
    };
    let system = setup.installation.release.namespace();
    let name = "test-agent-tenancy-operator-plan";
    let port = |url: &str| Ok(url.rsplit(':').next().unwrap_or_default().parse::<u16>()?);
    let ports = [setup.url()?, standby.admin_url()?].map(port).into_iter().collect::<anyhow::Result<Vec<u16>>>()?;
    // It only connects to addresses of Pods.
    let target = json!({ "kind": "Pod", "name": name, "namespace": system });
    let account = setup.installation.release.account(devkit::Component::Operator)?;
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": {
        "serviceAccountName": account, "containers": [{ "name": "operator", "image": "none" }] } });
    setup.installation.env.kubectl_with(&["create", "-n", system, "-f", "-"], &pod.to_string()).await?.ok()?;
    let status = json!({ "status": { "podIP": address, "podIPs": [{ "ip": address }] } }).to_string();
    let patch = ["patch", "pod", name, "-n", system, "--subresource=status", "--type=merge", "-p", &status];
    setup.installation.env.kubectl(&patch).await?.ok()?;
    let mut items = vec![json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "ports": [{ "name": "admin-api", "port": 8082 }] },
    })];
    items.extend(ports.iter().map(|port| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "name": format!("{name}-{port}"), "labels": { "kubernetes.io/service-name": name } },
            "endpoints": [{ "addresses": [address], "targetRef": target, "conditions": { "ready": true, "serving": true } }], "ports": [{ "name": "admin-api", "port": port }],
        })
    }));
    let subsets: Vec<_> = ports
        .iter()
        .map(|port| json!({ "addresses": [{ "ip": address, "targetRef": target }], "ports": [{ "name": "admin-api", "port": port }] }))
        .collect();
    items.push(json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": name,
        "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } }, "subsets": subsets }));
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    setup.installation.env.kubectl_with(&["apply", "-n", system, "-f", "-"], &list.to_string()).await?.ok()?;
    let path = format!("/api/v1/namespaces/{system}/services/http:{name}:admin-api/proxy/v1/plan/a/b");
    eventually(std::time::Duration::from_secs(20), "the API server knows the endpoints of the Service", || async {
        // Without a token, so that the operator refuses the request; kubectl prints its own message.
        let raw = setup.installation.env.kubectl(&["get", "--raw", &path]).await?;
        anyhow::ensure!(raw.stderr.contains("credentials"), "{raw:?}");
        Ok(())
    })
    .await?;
    let service = format!("{system}/{name}");
    for _ in 0..4 {
        let output = setup.plan(&["acme", "--service", &service, "--as-service-account", "planner"], "").await?;
        assert!(output.status == 0 && output.stdout.contains("Nothing to do."), "{}{}", output.stdout, output.stderr);
    }
    let output = setup.plan(&["acme", "--delete", "--service", &service, "--as-service-account", "viewer"], "").await?;
    assert!(output.status == 5 && output.stderr.contains("may not delete"), "{}{}", output.stdout, output.stderr);
    Ok(())
}
