//! From the usual flags to a client: kubeconfig, context, namespace.

use super::error::{PluginError, innermost};
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
}

/// Reads the kubeconfig and creates the client; nothing is sent yet.
///
/// # Errors
/// When there is no usable configuration.
pub(crate) async fn observe_cluster(args: &ClusterArgs) -> Result<Cluster, PluginError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let no_cluster = |reason: String| PluginError::new(ErrorClass::Invalid, format!("no usable kubeconfig: {reason}"));
    let mut config = match (&args.kubeconfig, &args.context) {
        (Some(file), _) => {
            let read = Kubeconfig::read_from(file).map_err(|e| no_cluster(e.to_string()))?;
            Config::from_custom_kubeconfig(read, &options).await.map_err(|e| no_cluster(e.to_string()))?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|e| no_cluster(e.to_string()))?,
        // Inside a Pod there is no kubeconfig.
        (None, None) => Config::infer().await.map_err(|e| no_cluster(innermost(&e)))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = match (args.all_namespaces, &args.namespace) {
        (true, _) => None,
        (false, Some(given)) => Some(given.clone()),
        (false, None) => Some(config.default_namespace.clone()),
    };
    let client = Client::try_from(config).map_err(|e| no_cluster(e.to_string()))?;
    Ok(Cluster { client, namespace })
}
