//! `plan`: a dry run of the operator for Tenants in the cluster or in a file.

use super::plan_text::render_plan;
use crate::{
    api::{ConditionType, names},
    domain::{admin_api::DryRun, class::ErrorClass},
    kubectl_tenant::{
        clients::admin_api::{AdminApiArgs, AdminApiClient},
        cluster::Cluster,
        error::{PluginError, VerbFailure},
        observe::observe_existing,
        report::document::find,
        yaml::resolve_manifests,
    },
};
use kube::ResourceExt;
use serde_json::Value;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Show what the operator would do for Tenants, with every request and all SQL, without doing it
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Name of a Tenant in the cluster
    #[arg(required_unless_present = "filename")]
    name: Option<String>,
    /// File with Tenants to plan as if they were applied, YAML or JSON; - reads standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["name", "delete"])]
    filename: Option<PathBuf>,
    /// Plan the deletion of the Tenant
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    admin_api: AdminApiArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Text)]
    output: PlanFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PlanFormat {
    /// Steps, requests and SQL as text
    Text,
    /// A JSON document for each Tenant
    Json,
    /// A YAML document for each Tenant
    Yaml,
}

/// One request for a plan.
struct PlanRequest {
    path: String,
    /// The Tenant that is to be applied; `None`: the one in the cluster.
    tenant: Option<Value>,
}

/// Requests every plan.
///
/// # Errors
/// When there is nothing to plan, the operator can't be reached or refuses, or a Tenant would be stalled.
pub(crate) async fn run(cluster: &Cluster, args: &PlanArgs) -> Result<String, VerbFailure> {
    let requests = observe_requests(cluster, args).await?;
    let admin_api = AdminApiClient::open(cluster, &args.admin_api).await?;
    let (mut output, mut stalled) = (String::new(), None);
    for PlanRequest { path, tenant } in requests {
        let dry_run = admin_api.observe_plan(&path, tenant.as_ref()).await?;
        output.push_str(&render(&dry_run, args.output)?);
        stalled = stalled.or(resolve_stalled(&dry_run));
    }
    match stalled {
        None => Ok(output),
        Some(error) => Err(VerbFailure { output, ..error.into() }),
    }
}

async fn observe_requests(cluster: &Cluster, args: &PlanArgs) -> Result<Vec<PlanRequest>, PluginError> {
    let mut requests = Vec::new();
    if let Some(file) = &args.filename {
        let text = observe_text(file)?;
        let ManifestObjects { tenants, skipped } =
            resolve_objects(&text, cluster.namespace.as_deref(), cluster.namespace_is_given)?;
        for other in skipped {
            eprintln!("note: skipped {other}: only Tenants are planned");
        }
        if tenants.is_empty() {
            return Err(PluginError::new(ErrorClass::Invalid, format!("{} holds no Tenant", file.display())));
        }
        let request = |tenant| PlanRequest { path: "/v1/plan".to_owned(), tenant: Some(tenant) };
        requests.extend(tenants.into_iter().map(request));
    }
    if let Some(name) = &args.name {
        let tenant = observe_existing(cluster, name).await?;
        let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
        let query = if args.delete { "?delete=true" } else { "" };
        requests.push(PlanRequest { path: format!("/v1/plan/{namespace}/{name}{query}"), tenant: None });
    }
    Ok(requests)
}

fn observe_text(file: &Path) -> Result<String, PluginError> {
    let unreadable =
        |e: std::io::Error| PluginError::new(ErrorClass::Invalid, format!("'{}' can't be read: {e}", file.display()));
    if file != Path::new("-") {
        return std::fs::read_to_string(file).map_err(unreadable);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// The objects of a file.
#[derive(Debug, Default)]
struct ManifestObjects {
    /// The Tenants, each with a namespace.
    tenants: Vec<Value>,
    /// Kind and name of every other object.
    skipped: Vec<String>,
}

/// Parses a file. `namespace` is that of Tenants without one; where it `is_given`, a Tenant may not name another one, as
/// with kubectl.
fn resolve_objects(text: &str, namespace: Option<&str>, is_given: bool) -> Result<ManifestObjects, PluginError> {
    let wrong = |why: String| PluginError::new(ErrorClass::Invalid, why);
    let objects = resolve_manifests(text).map_err(wrong)?;
    let mut found = ManifestObjects::default();
    for mut object in objects {
        let ours = object["apiVersion"].as_str().is_some_and(|v| v.split('/').next() == Some(names::GROUP));
        let name = object["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        if !ours || object["kind"] != "Tenant" {
            found.skipped.push(format!("{} {name}", object["kind"].as_str().unwrap_or("an object without a kind")));
            continue;
        }
        if object["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
            let default = namespace.ok_or_else(|| wrong(format!("Tenant {name} has no namespace; give -n")))?;
            object["metadata"]["namespace"] = default.into();
        } else if let Some(given) = namespace.filter(|given| is_given && object["metadata"]["namespace"] != *given) {
            let other = object["metadata"]["namespace"].as_str().unwrap_or_default();
            return Err(wrong(format!("Tenant {name} is in namespace {other}, and -n gives {given}")));
        }
        found.tenants.push(object);
    }
    Ok(found)
}

fn render(dry_run: &DryRun, format: PlanFormat) -> Result<String, PluginError> {
    let unwritable = |e: String| PluginError::new(ErrorClass::Bug, format!("the plan can't be written: {e}"));
    match format {
        PlanFormat::Text => Ok(render_plan(dry_run)),
        PlanFormat::Json => {
            serde_json::to_string_pretty(dry_run).map(|text| text + "\n").map_err(|e| unwritable(e.to_string()))
        }
        PlanFormat::Yaml => {
            serde_yaml::to_string(dry_run).map(|text| format!("---\n{text}")).map_err(|e| unwritable(e.to_string()))
        }
    }
}

/// The error of a plan that ends with manual intervention required.
fn resolve_stalled(dry_run: &DryRun) -> Option<PluginError> {
    let stalled = find(&dry_run.conditions, ConditionType::Stalled).filter(|c| c.status == "True")?;
    let DryRun { namespace, name, .. } = dry_run;
    let text = format!("Tenant {namespace}/{name} would be stalled: {}: {}", stalled.reason, stalled.message);
    Some(PluginError::new(ErrorClass::Invalid, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_found_in_several_documents_and_lists() {
        let text = "\
apiVersion: agent-tenancy.dev/v1alpha1
kind: AgentConfig
metadata: { name: support }
---
---
apiVersion: agent-tenancy.dev/v1alpha1
kind: Tenant
metadata: { name: acme }
---
apiVersion: v1
kind: List
items:
- { apiVersion: agent-tenancy.dev/v1alpha1, kind: Tenant, metadata: { name: globex, namespace: other } }
- { apiVersion: other.dev/v1, kind: Tenant, metadata: { name: foreign } }
";
        let ManifestObjects { tenants, skipped } = resolve_objects(text, Some("shop"), false).unwrap();
        let places: Vec<_> = tenants.iter().map(|t| t["metadata"]["namespace"].as_str().unwrap()).collect();
        assert_eq!(places, ["shop", "other"]);
        assert_eq!(skipped, ["AgentConfig support", "Tenant foreign"]);
        assert!(resolve_objects(text, None, false).unwrap_err().to_string().contains("acme has no namespace"));
        let error = resolve_objects(text, Some("shop"), true).unwrap_err();
        assert!(error.to_string().contains("globex is in namespace other"), "{error}");
        assert!(resolve_objects("a: [", None, false).unwrap_err().to_string().starts_with("document 1:"));
        let json = r#"{"apiVersion":"agent-tenancy.dev/v1alpha1","kind":"Tenant","metadata":{"name":"acme"}}"#;
        assert_eq!(resolve_objects(json, Some("shop"), true).unwrap().tenants.len(), 1);
    }
}
