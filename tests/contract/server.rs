//! The CRDs in a real API server: admission, pruning, defaults, columns, names, selectors.

use super::{
    bounds::probes,
    cases::{Answer, Case, agent, cases, tenant},
    samples::samples,
    support::repository,
};
use devkit::{Environment, eventually};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A namespace of its own in a control plane with the CRDs.
struct Server {
    env: &'static Environment,
    client: Client,
    namespace: String,
}

impl Server {
    async fn prepare(prefix: &str) -> Server {
        let env = Environment::shared().await.unwrap();
        env.apply_crds().await.unwrap();
        let (client, namespace) = (env.client().await.unwrap(), env.create_namespace(prefix).await.unwrap());
        Server { env, client, namespace }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let plural = format!("{}s", kind.to_lowercase());
        let resource = ApiResource {
            group: "agent-tenancy.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "agent-tenancy.dev/v1alpha1".to_owned(),
            kind: kind.to_owned(),
            plural,
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    async fn create(&self, object: &Value, dry_run: bool) -> Result<DynamicObject, String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let api = self.api(&object.types.as_ref().unwrap().kind);
        api.create(&PostParams { dry_run, field_manager: None }, &object).await.map_err(|error| error.to_string())
    }

    async fn replace(&self, object: &Value) -> Result<DynamicObject, String> {
        let mut object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let api = self.api(&object.types.as_ref().unwrap().kind);
        let name = object.metadata.name.clone().unwrap();
        object.metadata.resource_version = api.get(&name).await.unwrap().metadata.resource_version;
        api.replace(&name, &PostParams::default(), &object).await.map_err(|error| error.to_string())
    }

    async fn answer(&self, case: &Case) -> Result<DynamicObject, String> {
        let Some(before) = &case.before else { return self.create(&case.object, true).await };
        let created = self.create(before, false).await.unwrap();
        let answer = self.replace(&case.object).await;
        let api = self.api(&created.types.as_ref().unwrap().kind);
        api.delete(&created.metadata.name.unwrap(), &Default::default()).await.unwrap();
        answer
    }

    /// Runs kubectl in this namespace.
    async fn kubectl(&self, args: &[&str]) -> String {
        let all = [&["-n", &self.namespace], args].concat();
        self.env.kubectl(&all).await.unwrap().ok().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_answers_every_case_as_expected() {
    let server = Server::prepare("cases").await;
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = server.answer(&case).await;
        let as_expected = match (&case.answer, &answer) {
            (Answer::Accepted, answer) => answer.is_ok(),
            (Answer::Refused(expected), Err(error)) => error.contains(expected),
            (Answer::Refused(_), Ok(_)) => false,
        };
        if !as_expected {
            let answer = answer.map(|_| "it was accepted");
            wrong
                .push(format!("{}: expected {:?}, got {answer:?} for {}", case.rule, case.answer, case.object["spec"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_has_the_bounds_of_the_schema() {
    let server = Server::prepare("bounds").await;
    let mut wrong = Vec::new();
    for probe in probes() {
        let answer = server.create(&probe.object, true).await.map(drop);
        if answer.is_ok() != probe.allowed {
            wrong.push(format!("{}: the schema allows it: {}, the server: {answer:?}", probe.name, probe.allowed));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_pass_strict_validation() {
    let server = Server::prepare("samples").await;
    let folder = repository().join("config/samples");
    let applied =
        server.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", folder.to_str().unwrap()]).await;
    assert_eq!(applied.lines().count(), samples().len(), "{applied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_when_strict_and_pruned_otherwise() {
    let server = Server::prepare("unknown").await;
    let object = tenant("acme", json!({ "colour": "blue" }));
    let strict = PatchParams::apply("test").validation_strict();
    let error = server.api("Tenant").patch("acme", &strict, &Patch::Apply(&object)).await.unwrap_err().to_string();
    assert!(error.contains("spec.colour: field not declared"), "{error}");
    let stored = server.create(&object, false).await.unwrap();
    assert!(stored.data["spec"].get("colour").is_none(), "{}", stored.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_object_has_its_defaults_and_the_initial_status() {
    let server = Server::prepare("defaults").await;
    let stored = server.create(&tenant("acme", json!({})), false).await.unwrap();
    assert_eq!(stored.data["status"], json!({ "observedGeneration": -1 }));
    assert_eq!(
        stored.data["spec"]["database"],
        json!({ "deletionPolicy": "Retain", "maxConcurrentTransactions": 8, "statementTimeoutSeconds": 10 })
    );
    assert!(stored.data["spec"].get("tenantId").is_none(), "the id is shown in status, never written to spec");
    let stored = server.create(&agent("support", json!({})), false).await.unwrap();
    assert_eq!(stored.data["spec"]["timeouts"], json!({ "totalSeconds": 60 }));

    // What decodes is what the operator works with; it equals what a user sees.
    let typed: Api<agent_tenancy::api::Tenant> = Api::namespaced(server.client.clone(), &server.namespace);
    let tenant = typed.get("acme").await.unwrap();
    assert_eq!(tenant.spec.database, agent_tenancy::api::TenantDatabase::default());
    assert_eq!(tenant.status.and_then(|status| status.observed_generation), Some(-1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spec_can_be_written_without_the_status_and_the_other_way_round() {
    let server = Server::prepare("subresource").await;
    server.create(&tenant("acme", json!({})), false).await.unwrap();
    let api = server.api("Tenant");
    let both = json!({ "spec": { "displayName": "Acme" }, "status": { "tenantId": "forged" } });
    let written = api.patch("acme", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert!(written.data["status"].get("tenantId").is_none(), "a spec write changed the status: {}", written.data);
    assert_eq!(written.metadata.generation, Some(2));
    let both = json!({ "spec": { "displayName": "Other" }, "status": { "tenantId": "acme" } });
    let written = api.patch_status("acme", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(written.data["spec"]["displayName"], "Acme");
    assert_eq!(written.data["status"]["tenantId"], "acme");
    assert_eq!(written.metadata.generation, Some(2), "a status write is no new generation");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_columns_short_names_category_and_selections() {
    let server = Server::prepare("columns").await;
    server.create(&tenant("acme", json!({})), false).await.unwrap();
    server
        .create(&tenant("globex", json!({ "tenantId": "gx", "database": { "deletionPolicy": "Delete" } })), false)
        .await
        .unwrap();
    server.create(&agent("support", json!({})), false).await.unwrap();
    let condition = |status: &str, reason: &str, message: &str| {
        json!({
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1
        })
    };
    let status = json!({ "status": {
        "observedGeneration": 1, "tenantId": "acme", "conditions": [condition("False", "Lost", "the schema is gone")]
    }});
    let params = PatchParams::default();
    server.api("Tenant").patch_status("acme", &params, &Patch::Merge(&status)).await.unwrap();

    let table = server.kubectl(&["get", "atn", "acme"]).await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = table.lines().map(words).collect();
    assert_eq!(lines[0], ["NAME", "READY", "REASON", "SCHEMA-VERSION", "TENANT-ID", "AGE"]);
    assert_eq!(lines[1][..4], ["acme", "False", "Lost", "acme"]);
    let wide = server.kubectl(&["get", "tenants.agent-tenancy.dev", "-o", "wide"]).await;
    assert!(wide.starts_with("NAME") && wide.contains("SCHEMA") && wide.contains("the schema is gone"), "{wide}");
    let table = server.kubectl(&["get", "agc"]).await;
    assert_eq!(
        words(table.lines().next().unwrap()),
        ["NAME", "READY", "REASON", "REVISION", "PROVIDER", "MODEL", "AGE"]
    );
    assert_eq!(words(table.lines().nth(1).unwrap())[..3], ["support", "Echo", "m"]);

    let category = server.kubectl(&["get", "agent-tenancy", "-o", "name"]).await;
    assert_eq!(
        words(&category),
        ["agentconfig.agent-tenancy.dev/support", "tenant.agent-tenancy.dev/acme", "tenant.agent-tenancy.dev/globex"]
    );
    for (kind, selector, expected) in [
        ("atn", "spec.tenantId=gx", "tenant.agent-tenancy.dev/globex"),
        ("atn", "spec.database.deletionPolicy=Delete", "tenant.agent-tenancy.dev/globex"),
        ("atn", "spec.database.deletionPolicy=Retain", "tenant.agent-tenancy.dev/acme"),
        ("agc", "spec.provider.type=Echo", "agentconfig.agent-tenancy.dev/support"),
        ("agc", "spec.model=other", ""),
    ] {
        let found = server.kubectl(&["get", kind, "--field-selector", selector, "-o", "name"]).await;
        assert_eq!(found.trim(), expected, "{selector}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explain_reads_well() {
    let server = Server::prepare("explain").await;
    // kubectl asks the aggregated OpenAPI document, which is published a moment later.
    let text = eventually(Duration::from_secs(30), "kubectl explain knows the Tenant", || async {
        server.env.kubectl(&["explain", "tenants.spec.database.deletionPolicy"]).await?.ok()
    })
    .await
    .unwrap();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("ENUM: Retain Archive Delete"), "{flat}");
    assert!(flat.contains("What happens to the tenant's schema, role and data when the Tenant is deleted."), "{flat}");
}
