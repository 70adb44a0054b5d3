//! What the operator keeps in memory of a registry entry, and how an entry becomes a Secret.

use super::{cache::Versioned, watch::version_of};
use crate::{
    api::names,
    domain::{
        entry::{Entry, EntryError, EntryKind},
        ident::{Uid, Version},
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use std::collections::BTreeMap;

/// One registry Secret.
#[derive(Clone, Debug)]
pub struct Record {
    /// UID of the Secret.
    pub uid: Uid,
    /// Its version.
    pub version: Version,
    /// What it holds; an unlabelled or unreadable one says so.
    pub entry: Result<Entry, EntryError>,
    /// UID of the Tenant in its label, if it has one.
    pub owner: Option<Uid>,
}

impl Versioned for Record {
    fn version(&self) -> Version {
        self.version
    }
}

impl Record {
    /// Reads a Secret.
    pub fn new(secret: &Secret) -> Self {
        let label = |name: &str| secret.metadata.labels.as_ref().and_then(|l| l.get(name));
        let missing = EntryError::Malformed { line: 0, column: 0 };
        let entry = match (label(names::ENTRY_LABEL).and_then(|k| EntryKind::parse(k)), &secret.data) {
            (Some(kind), Some(data)) => {
                data.get(names::ENTRY_KEY).map_or(Err(missing), |json| Entry::parse(kind, &json.0))
            }
            _ => Err(missing),
        };
        Self {
            uid: Uid(secret.metadata.uid.clone().unwrap_or_default()),
            version: version_of(secret),
            entry,
            owner: label(names::TENANT_UID_LABEL).map(|uid| Uid(uid.clone())),
        }
    }
}

/// The Secret of an entry.
pub fn render_secret(entry: &Entry, namespace: &str, replace: Option<Version>) -> Secret {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "agent-tenancy".to_owned()),
        (names::ENTRY_LABEL.to_owned(), entry.kind().as_str().to_owned()),
    ]);
    if let Entry::Tenant(tenant) = entry {
        labels.insert(names::TENANT_UID_LABEL.to_owned(), tenant.uid.0.clone());
    }
    Secret {
        metadata: ObjectMeta {
            name: Some(entry.name()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            resource_version: replace.map(|v| v.to_string()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(names::ENTRY_KEY.to_owned(), ByteString(entry.render()))])),
        type_: Some(names::ENTRY_SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}
