//! Events: what happened to an object, told once, at the moment it happened.

use super::Reason;

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Something went as it should.
    Normal,
    /// Something a person may have to look at.
    Warning,
}

/// One event on the object under reconciliation (events.k8s.io/v1; `note` is cut to 1 kB when written).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Good or bad news.
    pub kind: NoticeKind,
    /// Why, from the same closed list as condition reasons.
    pub reason: Reason,
    /// A sentence for a person; never holds a secret.
    pub note: String,
}
