//! Classes of errors. The class alone decides retry, condition, log level and metric label.

/// What kind of trouble an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The object itself is wrong; nothing changes until the object does.
    Invalid,
    /// Not an error: something else has to happen first.
    Waiting,
    /// Somebody else owns what we would have to change; never overwritten.
    Conflict,
    /// Goes away by itself; retried with growing delays.
    Transient,
    /// We lack a right; somebody has to grant it.
    Denied,
    /// Our own mistake.
    Bug,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 6] = [Self::Invalid, Self::Waiting, Self::Conflict, Self::Transient, Self::Denied, Self::Bug];

    /// Label value for metrics and logs.
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
