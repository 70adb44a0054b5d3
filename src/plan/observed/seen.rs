//! How one part of the world was read: it is missing, ours, somebody else's, or could not be read.

use crate::{api::Reason, domain::class::ErrorClass};

/// One part of the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<T> {
    /// It does not exist.
    Missing,
    /// It exists and carries our mark.
    Ours(T),
    /// It exists and carries somebody else's mark, or none.
    Foreign(String),
    /// It could not be read. Never a reason to destroy or create anything.
    Unknown(ReadError),
}

impl<T> Seen<T> {
    /// The part, where it exists and carries our mark.
    pub const fn ours(&self) -> Option<&T> {
        match self {
            Self::Ours(part) => Some(part),
            Self::Missing | Self::Foreign(_) | Self::Unknown(_) => None,
        }
    }
}

/// Why a part could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// Class of the error.
    pub class: ErrorClass,
    /// The reason that a condition gives, where the class alone doesn't say it.
    pub reason: Option<Reason>,
    /// The error, for people; holds no secret.
    pub note: String,
}

impl ReadError {
    /// An error with the reason of its class.
    pub fn new(class: ErrorClass, note: impl Into<String>) -> Self {
        Self { class, reason: None, note: note.into() }
    }

    /// The reason for a condition of something that lies in a database.
    pub fn reason(&self) -> Reason {
        self.reason.unwrap_or(match self.class {
            ErrorClass::Denied => Reason::PermissionDenied,
            ErrorClass::Bug => Reason::InternalError,
            ErrorClass::Invalid | ErrorClass::Waiting | ErrorClass::Conflict | ErrorClass::Transient => {
                Reason::DatabaseUnavailable
            }
        })
    }
}

/// Whether the object of a reconcile is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is in the cache. The API server is not asked.
    Cached,
    /// It was taken for gone, and is there.
    Alive,
    /// It was asked for, not in a cache: nothing of this name has this UID.
    Gone,
    /// It was taken for gone, and could not be asked for.
    Unknown(ReadError),
}
