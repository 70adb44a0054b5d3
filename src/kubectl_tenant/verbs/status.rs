//! `status`: a Tenant with its conditions, database, keys, agents and replicas.

use crate::{
    clock::Clock,
    domain::class::ErrorClass,
    kubectl_tenant::{
        cluster::Cluster,
        error::{PluginError, VerbFailure},
        observe::{observe_existing, observe_facts},
        report::{document::project_report, tree::render_tree},
    },
};

/// Show a Tenant: conditions, database, keys, agents, and the replicas that serve it
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Name of the Tenant
    name: String,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Tree)]
    output: Format,
    /// Namespace of the agent API and its replicas' Leases; default: every namespace
    #[arg(long, value_name = "NAMESPACE")]
    agent_api_namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// A tree of text
    Tree,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

pub(crate) async fn run(cluster: &Cluster, args: &StatusArgs) -> Result<String, VerbFailure> {
    let tenant = observe_existing(cluster, &args.name).await?;
    let facts = observe_facts(&cluster.client, tenant, args.agent_api_namespace.as_deref()).await;
    let now = Clock::system().now();
    let report = project_report(&facts, now);
    let unwritable = |e: String| PluginError::new(ErrorClass::Bug, format!("the answer can't be written: {e}"));
    let text = match args.output {
        Format::Tree => render_tree(&report, now),
        Format::Json => serde_json::to_string_pretty(&report).map_err(|e| unwritable(e.to_string()))? + "\n",
        Format::Yaml => serde_yaml::to_string(&report).map_err(|e| unwritable(e.to_string()))?,
    };
    Ok(text)
}
