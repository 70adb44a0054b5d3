//! What would be done for a Tenant, without doing it: the operator is asked, with a token that is made for that. The way
//! to it leads through the API server (as `kubectl proxy` would go), or to a URL.

use super::{
    cluster::Cluster,
    door::{Door, DoorArgs},
    error::PluginError,
    observe::observe_existing,
    plan_text::render_plan,
    report::find,
};
use crate::{
    api::{ConditionType, names},
    domain::class::ErrorClass,
    plan::dry_run::DryRun,
};
use kube::ResourceExt;
use serde::Deserialize as _;
use serde_json::Value;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// What is to be planned.
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    /// Name of a Tenant: what would be done for it as it is
    #[arg(required_unless_present = "filename")]
    pub name: Option<String>,
    /// File with Tenants to apply, YAML or JSON; - reads standard input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["name", "delete"])]
    pub filename: Option<PathBuf>,
    /// What would be done if it were deleted
    #[arg(long)]
    pub delete: bool,
    #[command(flatten)]
    pub door: DoorArgs,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Text)]
    pub output: PlanFormat,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// Steps, requests and SQL for people
    Text,
    /// A JSON document for each Tenant
    Json,
    /// A YAML document for each Tenant
    Yaml,
}

/// Asks for every plan. What to print, and the error if one of them leads nowhere without somebody's help.
///
/// # Errors
/// When there is nothing to plan, or the operator can't be asked or refuses.
pub async fn plan(cluster: &Cluster, args: &PlanArgs) -> Result<(String, Option<PluginError>), PluginError> {
    let mut asked = Vec::new();
    if let Some(file) = &args.filename {
        let text = observe_text(file)?;
        let (tenants, skipped) = resolve_tenants(&text, cluster.namespace.as_deref())?;
        for other in skipped {
            eprintln!("note: skipped {other}: only Tenants are planned");
        }
        if tenants.is_empty() {
            return Err(PluginError::new(ErrorClass::Invalid, format!("{} holds no Tenant", file.display())));
        }
        asked.extend(tenants.into_iter().map(|tenant| ("/v1/plan".to_owned(), Some(tenant))));
    }
    if let Some(name) = &args.name {
        let tenant = observe_existing(cluster, name).await?;
        let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
        let query = if args.delete { "?delete=true" } else { "" };
        asked.push((format!("/v1/plan/{namespace}/{name}{query}"), None));
    }
    let door = Door::open(cluster, &args.door).await?;
    let (mut shown, mut stalled) = (String::new(), None);
    for (path, tenant) in asked {
        let dry_run = door.observe_plan(&path, tenant.as_ref()).await?;
        shown.push_str(&render(&dry_run, args.output)?);
        stalled = stalled.or(resolve_stalled(&dry_run));
    }
    Ok((shown, stalled))
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

/// The Tenants of one or several documents, with a namespace each, and the names of what else is there.
fn resolve_tenants(text: &str, namespace: Option<&str>) -> Result<(Vec<Value>, Vec<String>), PluginError> {
    let wrong = |why: String| PluginError::new(ErrorClass::Invalid, why);
    let mut objects = Vec::new();
    for (number, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let value = Value::deserialize(document).map_err(|e| wrong(format!("document {}: {e}", number + 1)))?;
        match value {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                let items = list.get_mut("items").map(Value::take);
                objects.extend(items.and_then(|items| items.as_array().cloned()).into_iter().flatten());
            }
            object => objects.push(object),
        }
    }
    let (mut tenants, mut skipped) = (Vec::new(), Vec::new());
    for mut object in objects {
        let ours = object["apiVersion"].as_str().is_some_and(|v| v.split('/').next() == Some(names::GROUP));
        let name = object["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        if !ours || object["kind"] != "Tenant" {
            skipped.push(format!("{} {name}", object["kind"].as_str().unwrap_or("an object of no kind")));
            continue;
        }
        if object["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
            let default = namespace.ok_or_else(|| wrong(format!("Tenant {name} names no namespace; give -n")))?;
            object["metadata"]["namespace"] = default.into();
        }
        tenants.push(object);
    }
    Ok((tenants, skipped))
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

/// The error of a plan after which nothing would happen until somebody acts.
fn resolve_stalled(dry_run: &DryRun) -> Option<PluginError> {
    let stalled = find(&dry_run.conditions, ConditionType::Stalled).filter(|c| c.status == "True")?;
    let DryRun { namespace, name, .. } = dry_run;
    let text = format!("Tenant {namespace}/{name} would be stuck: {}: {}", stalled.reason, stalled.message);
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
        let (tenants, skipped) = resolve_tenants(text, Some("shop")).unwrap();
        let places: Vec<_> = tenants.iter().map(|t| t["metadata"]["namespace"].as_str().unwrap()).collect();
        assert_eq!(places, ["shop", "other"]);
        assert_eq!(skipped, ["AgentConfig support", "Tenant foreign"]);
        assert!(resolve_tenants(text, None).unwrap_err().to_string().contains("acme names no namespace"));
        assert!(resolve_tenants("a: [", None).unwrap_err().to_string().starts_with("document 1:"));
        let json = r#"{"apiVersion":"agent-tenancy.dev/v1alpha1","kind":"Tenant","metadata":{"name":"acme"}}"#;
        assert_eq!(resolve_tenants(json, Some("shop")).unwrap().0.len(), 1);
    }
}
