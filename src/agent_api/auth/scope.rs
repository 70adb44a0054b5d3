//! What a token may allow: a value for the claim, and a type for each handler.

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Reading the history.
    ChatRead,
    /// Sending messages.
    ChatWrite,
    /// Reading settings.
    SettingsRead,
    /// Changing settings.
    SettingsWrite,
    /// Exporting everything, of every user.
    DataExport,
    /// Erasing a user.
    DataErase,
}

impl Scope {
    /// Its name in the claim `scope`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatRead => "chat:read",
            Self::ChatWrite => "chat:write",
            Self::SettingsRead => "settings:read",
            Self::SettingsWrite => "settings:write",
            Self::DataExport => "data:export",
            Self::DataErase => "data:erase",
        }
    }

    /// Whether a token has to name it. A token without scopes is a user's: it must not show or change what concerns the
    /// whole tenant.
    pub(super) const fn has_to_be_named(self) -> bool {
        match self {
            Self::ChatRead | Self::ChatWrite => false,
            Self::SettingsRead | Self::SettingsWrite | Self::DataExport | Self::DataErase => true,
        }
    }
}

/// A scope as a type, for the signature of a handler: [`Caller<ChatRead>`](super::Caller).
pub trait RequiredScope: Send + Sync + 'static {
    /// The scope.
    const SCOPE: Scope;
}

macro_rules! required_scopes {
    ($($name:ident: $docs:literal,)+) => {
        $(
            #[doc = $docs]
            pub struct $name;

            impl RequiredScope for $name {
                const SCOPE: Scope = Scope::$name;
            }
        )+
    };
}

required_scopes! {
    ChatRead: "Requires `chat:read`.",
    ChatWrite: "Requires `chat:write`.",
    SettingsRead: "Requires `settings:read`.",
    SettingsWrite: "Requires `settings:write`.",
    DataExport: "Requires `data:export`.",
    DataErase: "Requires `data:erase`.",
}
