//! Classes of errors. Only the class decides retry, condition, log level and metric label.

/// Class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The object itself is invalid. A retry makes sense only after the object has changed.
    Invalid,
    /// Something else has to happen first; this is no failure.
    Waiting,
    /// Another owner has what the operator would have to change. It is never overwritten.
    Conflict,
    /// A temporary failure, retried with growing delays.
    Transient,
    /// A missing permission or privilege, which an administrator has to grant.
    Denied,
    /// A bug of this program.
    Bug,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 6] = [Self::Invalid, Self::Waiting, Self::Conflict, Self::Transient, Self::Denied, Self::Bug];

    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Waiting => "waiting",
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Denied => "denied",
            Self::Bug => "bug",
        }
    }
}
