//! The cached form of a registry Secret, and the Secret of an entry.

use super::{cache::Versioned, watch::version_of};
use crate::{
    api::names,
    domain::{
        entry::{Entry, EntryError, EntryKind},
        ident::{Uid, Version},
        logins::{LoginRequests, NextLogin, resolve_request},
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use std::collections::BTreeMap;

/// One registry Secret.
#[derive(Clone, Debug)]
pub struct Record {
    /// UID of the Secret.
    pub(crate) uid: Uid,
    /// `metadata.resourceVersion` of the Secret.
    pub(crate) version: Version,
    /// The entry, or why the Secret has no readable one.
    pub(crate) entry: Result<Entry, EntryError>,
    /// UID of the Tenant in the Secret's label.
    pub(crate) owner: Option<Uid>,
    /// What a cell's Secret holds next to its entry.
    pub(crate) beside: Option<Box<Beside>>,
}

/// What a cell's Secret holds next to its entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The login that the entry changes to next; also `None` if it can't be decoded.
    pub(crate) next: Option<NextLogin>,
    /// All annotations of the Secret: requests for login rotation, and others, which are preserved.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Beside {
    fn new(secret: &Secret) -> Self {
        let next = secret.data.as_ref().and_then(|data| data.get(names::NEXT_LOGIN_KEY));
        Self {
            next: next.and_then(|json| serde_json::from_slice(&json.0).ok()),
            annotations: secret.metadata.annotations.clone().unwrap_or_default(),
        }
    }

    /// The requested rotation and revocation of logins.
    pub(crate) fn login_requests(&self) -> LoginRequests {
        let value = |name: &str| self.annotations.get(name).and_then(|value| resolve_request(value));
        LoginRequests {
            rotation: value(names::ROTATE_LOGIN_ANNOTATION),
            revocation: value(names::REVOKE_LOGIN_ANNOTATION),
        }
    }
}

impl Versioned for Record {
    fn version(&self) -> Version {
        self.version
    }
}

impl Record {
    pub(crate) fn new(secret: &Secret) -> Self {
        let label = |name: &str| secret.metadata.labels.as_ref().and_then(|l| l.get(name));
        let missing = EntryError::Malformed { line: 0, column: 0 };
        let kind = label(names::ENTRY_LABEL).and_then(|k| EntryKind::parse(k));
        let entry = match (kind, &secret.data) {
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
            beside: (kind == Some(EntryKind::Cell)).then(|| Box::new(Beside::new(secret))),
        }
    }
}

/// The Secret of an entry and of the data next to it.
pub(crate) fn render_secret(
    entry: &Entry,
    beside: Option<&Beside>,
    namespace: &str,
    replace: Option<Version>,
) -> Secret {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "agent-tenancy".to_owned()),
        (names::ENTRY_LABEL.to_owned(), entry.kind().as_str().to_owned()),
    ]);
    if let Entry::Tenant(tenant) = entry {
        labels.insert(names::TENANT_UID_LABEL.to_owned(), tenant.uid.0.clone());
    }
    let mut data = BTreeMap::from([(names::ENTRY_KEY.to_owned(), ByteString(entry.render()))]);
    if let Some(next) = beside.and_then(|beside| beside.next.as_ref()) {
        // Strings and bytes can always be serialised.
        let json = serde_json::to_vec(next).unwrap_or_default();
        data.insert(names::NEXT_LOGIN_KEY.to_owned(), ByteString(json));
    }
    Secret {
        metadata: ObjectMeta {
            annotations: beside.map(|beside| beside.annotations.clone()).filter(|all| !all.is_empty()),
            name: Some(entry.name()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            resource_version: replace.map(|v| v.to_string()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some(names::ENTRY_SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}
