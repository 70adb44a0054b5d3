//! From the usual flags to a client: kubeconfig, context, namespace.

use super::{
    error::{PluginError, innermost},
    proxy::resolve_proxy,
};
use crate::domain::class::ErrorClass;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{path::PathBuf, time::Duration};

/// Longest wait for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags that choose the cluster and the namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Namespace of the Tenant; default: the context's namespace
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Find the Tenant in any namespace, by its name or its tenant id
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Context of the kubeconfig; default: the current context
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// The kubeconfig file; default: $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// A client of the API server, and the namespace of the command.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// `None`: all namespaces.
    pub(crate) namespace: Option<String>,
    /// The namespace was given with `-n`.
    pub(crate) namespace_is_given: bool,
}

/// Reads the kubeconfig and creates the client; nothing is sent yet.
///
/// # Errors
/// When there is no usable configuration.
pub(crate) async fn observe_cluster(args: &ClusterArgs) -> Result<Cluster, PluginError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let no_cluster = |reason: String| PluginError::new(ErrorClass::Invalid, format!("no usable kubeconfig: {reason}"));
    let read = match (&args.kubeconfig, &args.context) {
        (Some(file), _) => Some(Kubeconfig::read_from(file).map_err(|e| no_cluster(e.to_string()))?),
        (None, Some(_)) => Some(Kubeconfig::read().map_err(|e| no_cluster(e.to_string()))?),
        // Inside a Pod there is no kubeconfig.
        (None, None) => Kubeconfig::read().ok(),
    };
    let proxy_url = read.as_ref().and_then(|kubeconfig| observe_proxy_url(kubeconfig, args.context.as_ref()));
    let mut config = match read {
        Some(read) if args.kubeconfig.is_some() || args.context.is_some() => {
            Config::from_custom_kubeconfig(read, &options).await.map_err(|e| no_cluster(e.to_string()))?
        }
        _ => Config::infer().await.map_err(|e| no_cluster(innermost(&e)))?,
    };
    config.proxy_url = resolve_proxy(proxy_url.as_deref(), &config.cluster_url, |name| std::env::var(name).ok())
        .map_err(no_cluster)?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = match (args.all_namespaces, &args.namespace) {
        (true, _) => None,
        (false, Some(given)) => Some(given.clone()),
        (false, None) => Some(config.default_namespace.clone()),
    };
    let client = Client::try_from(config).map_err(|e| no_cluster(e.to_string()))?;
    Ok(Cluster { client, namespace, namespace_is_given: args.namespace.is_some() })
}

/// The `proxy-url` of the cluster that a context names.
fn observe_proxy_url(kubeconfig: &Kubeconfig, context: Option<&String>) -> Option<String> {
    let context = context.or(kubeconfig.current_context.as_ref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == *context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone()
}
