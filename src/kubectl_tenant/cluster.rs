//! From the usual flags to a client: kubeconfig, context, namespace.

use super::error::{PluginError, innermost};
use crate::domain::class::ErrorClass;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{path::PathBuf, time::Duration};

/// A cluster that does not answer at all should not hold a terminal for long.
const CONNECT: Duration = Duration::from_secs(10);

/// The flags that say which cluster and namespace are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Namespace of the Tenant; without it, the context's
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Look for the Tenant in every namespace, by its name or its tenant id
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Context of the kubeconfig; without it, the current one
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
    /// The kubeconfig file; without it, $KUBECONFIG or the file in your home directory
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// A client and where to look.
pub(crate) struct Cluster {
    /// The client.
    pub(crate) client: Client,
    /// The one namespace to look in; `None`: all of them.
    pub(crate) namespace: Option<String>,
}

/// Reads the configuration and makes the client; nothing is sent yet.
///
/// # Errors
/// When there is no usable configuration.
pub(crate) async fn observe_cluster(args: &ClusterArgs) -> Result<Cluster, PluginError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let no_cluster = |reason: String| PluginError::new(ErrorClass::Invalid, format!("no cluster to talk to: {reason}"));
    let mut config = match (&args.kubeconfig, &args.context) {
        (Some(file), _) => {
            let read = Kubeconfig::read_from(file).map_err(|e| no_cluster(e.to_string()))?;
            Config::from_custom_kubeconfig(read, &options).await.map_err(|e| no_cluster(e.to_string()))?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|e| no_cluster(e.to_string()))?,
        // Inside a Pod there is no kubeconfig.
        (None, None) => Config::infer().await.map_err(|e| no_cluster(innermost(&e)))?,
    };
    config.connect_timeout = Some(CONNECT);
    let namespace = match (args.all_namespaces, &args.namespace) {
        (true, _) => None,
        (false, Some(given)) => Some(given.clone()),
        (false, None) => Some(config.default_namespace.clone()),
    };
    let client = Client::try_from(config).map_err(|e| no_cluster(e.to_string()))?;
    Ok(Cluster { client, namespace })
}
