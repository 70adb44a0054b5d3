//! The watch of the ConfigMap with custom migrations. Invalid files are reported in the log and in a metric, and the last valid
//! files stay in force.

use crate::controller::context::OperatorContext;
use crate::{
    domain::{custom_migrations::CustomMigrations, ident::Version},
    effects::kubernetes::{
        cache::{Cache, Versioned},
        watch::{version_of, watch_into},
    },
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use kube_runtime::watcher;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{sync::watch, task::JoinSet};

/// The cached part of the ConfigMap.
#[derive(Clone)]
struct Files {
    version: Version,
    data: BTreeMap<String, String>,
}

impl Versioned for Files {
    fn version(&self) -> Version {
        self.version
    }
}

/// Watches the ConfigMap. The receiver turns true after the first list.
pub(crate) fn follow(
    tasks: &mut JoinSet<()>,
    context: &Arc<OperatorContext>,
    client: &Client,
    namespace: &str,
    name: &str,
    seconds: u32,
) -> watch::Receiver<bool> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().timeout(seconds).fields(&format!("metadata.name={name}"));
    let (synced, receiver) = watch::channel(false);
    let context = Arc::clone(context);
    let view = |map: ConfigMap| Files { version: version_of(&map), data: map.data.unwrap_or_default() };
    let changed = move |_: &_, change: crate::effects::kubernetes::cache::CacheChange<Files>| {
        context.set_custom_migrations(change.after.as_deref().map(|files| &files.data));
    };
    tasks.spawn(watch_into(api, None, config, Cache::default(), view, changed, synced));
    receiver
}

impl OperatorContext {
    fn set_custom_migrations(&self, files: Option<&BTreeMap<String, String>>) {
        let Some(files) = files else {
            tracing::warn!(
                "the ConfigMap with custom migrations is missing; the last files stay in force until a restart"
            );
            return;
        };
        match CustomMigrations::parse(files) {
            Ok(migrations) => {
                self.metrics.record_custom_migrations(Some(migrations.version()));
                tracing::info!(files = migrations.version(), "custom migrations were read");
                self.custom_migrations.send_if_modified(|old| {
                    let changes = old.as_ref() != Some(&migrations);
                    *old = Some(migrations);
                    changes
                });
            }
            Err(error) => {
                self.metrics.record_custom_migrations(None);
                tracing::error!(%error, "the custom migrations are invalid; the last valid ones stay in force");
            }
        }
    }
}
