//! Events: each is recorded once, when something happens to an object.

use super::Reason;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Something succeeded.
    Normal,
    /// Something that may need attention.
    Warning,
}

/// One event on the reconciled object (events.k8s.io/v1; `note` is cut to 1 kB when it is written).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How serious it is.
    pub kind: NoticeKind,
    /// The reason, from the same closed list as the reasons of conditions.
    pub reason: Reason,
    /// A sentence for people. It never contains a secret.
    pub note: String,
}
