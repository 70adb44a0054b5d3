//! The platform team's own migrations: a ConfigMap beside the operator, watched. Files that break a rule are told in the log
//! and in a metric, and the last good ones stay in force: one wrong file is not to stop what is right.

use crate::controller::context::Context;
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
use tokio::sync::watch;

/// What is kept of the ConfigMap.
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

/// Watches the ConfigMap. The receiver turns true when it is known whether it is there.
pub(crate) fn follow(
    context: &Arc<Context>,
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
    let changed = move |_: &_, change: crate::effects::kubernetes::cache::Change<Files>| {
        context.note_own_files(change.after.as_deref().map(|files| &files.data));
    };
    tokio::spawn(watch_into(api, None, config, Cache::default(), view, changed, synced));
    receiver
}

impl Context {
    fn note_own_files(&self, files: Option<&BTreeMap<String, String>>) {
        let Some(files) = files else {
            tracing::warn!(
                "the ConfigMap with your own migrations is gone; the last files stay in force until a restart"
            );
            return;
        };
        match CustomMigrations::parse(files) {
            Ok(own) => {
                self.metrics.custom_migrations(Some(own.version()));
                tracing::info!(files = own.version(), "your own migrations were read");
                self.own.send_if_modified(|old| {
                    let changes = old.as_ref() != Some(&own);
                    *old = Some(own);
                    changes
                });
            }
            Err(error) => {
                self.metrics.custom_migrations(None);
                tracing::error!(%error, "your own migrations can't be used; the last good ones stay in force");
            }
        }
    }
}
