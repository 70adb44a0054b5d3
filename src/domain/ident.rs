//! Identifiers, parsed once. A value of one of these types obeys the rule of its constructor.

use crate::api::{TenantDatabase, bounds, names::RESERVED_TENANT_IDS};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// Wrong length or characters.
    #[error("must be 1 to {max} characters of 'a-z', '0-9' and '-', starting and ending with a letter or digit")]
    Grammar {
        /// Longest allowed length in bytes.
        max: usize,
    },
    /// Wrong length or characters of a tenant id.
    #[error(
        "must be 1 to {max} characters of 'A-Z', 'a-z', '0-9', '.', '_' and '-', starting and ending with a letter or digit"
    )]
    TenantId {
        /// Longest allowed length in bytes.
        max: usize,
    },
    /// The name is reserved for the product.
    #[error("'{0}' is a reserved name")]
    Reserved(String),
    /// A database prefix that breaks its rule.
    #[error("must be 1 to 10 characters of 'a-z', '0-9', starting with a letter, and must not start with 'pg'")]
    Prefix,
}

fn is_label(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.len() <= max
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// [`bounds::TENANT_ID_PATTERN`].
fn is_tenant_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= bounds::TENANT_ID.max
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| edge(Some(b)) || matches!(b, b'.' | b'_' | b'-'))
}

/// Number of base32 characters of a hash in a name: 130 bits.
const HASH_CHARACTERS: usize = 26;

/// Whether a text looks like a hash in a name: `x[a-z2-7]{26}`.
fn is_hashed_name(text: &str) -> bool {
    let digits = text.strip_prefix('x').map(str::as_bytes);
    digits.is_some_and(|d| d.len() == HASH_CHARACTERS && d.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')))
}

/// `x` and the first 130 bits of the text's SHA-256 in base32 (RFC 4648, in lower case).
fn render_hashed_name(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let bit = |at: usize| hash.as_ref().get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digit = |place: usize| (0..5).fold(0, |value, at| value << 1 | bit(place * 5 + at));
    let character = |value: u8| char::from(if value < 26 { b'a' + value } else { b'2' + value - 26 });
    std::iter::once('x').chain((0..HASH_CHARACTERS).map(|place| character(digit(place)))).collect()
}

/// Whether a text can name a database instance: `[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?`.
pub(crate) fn is_instance_name(text: &str) -> bool {
    is_label(text, TenantDatabase::INSTANCE.max)
}

/// Whether a text can name an object of Kubernetes: [`bounds::OBJECT_NAME_PATTERN`].
pub(crate) fn is_object_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bounds::OBJECT_NAME.allow_text(text)
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| edge(Some(b)) || matches!(b, b'-' | b'.'))
}

/// Whether a text can be a key of a Secret: [`bounds::SECRET_KEY_PATTERN`].
pub(crate) fn is_secret_key(text: &str) -> bool {
    bounds::OBJECT_NAME.allow_text(text)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

macro_rules! text_newtype {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdentError;
            fn try_from(text: String) -> Result<Self, IdentError> {
                Self::parse(&text)
            }
        }
    };
}

text_newtype! {
    /// Id of a tenant: `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?`, not reserved. Compared byte by byte: `Acme` and
    /// `acme` are two tenants.
    TenantId
}
text_newtype! {
    /// Name of an agent within a tenant: `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`.
    AgentName
}
text_newtype! {
    /// Prefix of every role and schema that one operator creates on one Postgres server: `[a-z][a-z0-9]{0,9}`.
    NamePrefix
}

impl TenantId {
    /// Parses a tenant id.
    ///
    /// # Errors
    /// When the text breaks the grammar or is reserved.
    pub fn parse(text: &str) -> Result<Self, IdentError> {
        if !is_tenant_id(text) {
            return Err(IdentError::TenantId { max: bounds::TENANT_ID.max });
        }
        if RESERVED_TENANT_IDS.contains(&text) {
            return Err(IdentError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether names contain the id as it is: it is of an agent name's grammar and can't be mistaken for a hash.
    pub(crate) fn is_plain(&self) -> bool {
        is_label(&self.0, bounds::ID.max) && !is_hashed_name(&self.0)
    }

    /// The id as a part of names: the id itself if it is plain, else a hash. At most 40 characters of `a-z`, `0-9` and
    /// `-`, and different for every id: no plain id looks like a hash.
    fn name(&self) -> Cow<'_, str> {
        if self.is_plain() { Cow::Borrowed(&self.0) } else { Cow::Owned(render_hashed_name(&self.0)) }
    }

    /// Name of the schema and of the role: `<prefix>_<name>`, at most 51 bytes, so that an archive suffix fits into
    /// Postgres' 63. The last part contains no underscore, so this is never the name of a cell's role
    /// (`<prefix>_own_1`).
    pub fn database_name(&self, prefix: &NamePrefix) -> String {
        format!("{prefix}_{}", self.name())
    }

    /// Name of the registry Secret. Names that differ in case only don't occur.
    pub fn entry_name(&self) -> String {
        format!("tenant-{}", self.name())
    }

    /// Name of the registry Secret that an earlier version gave to this id, if it is another one: that of an id which
    /// looks like a hash.
    pub(crate) fn earlier_entry_name(&self) -> Option<String> {
        is_hashed_name(&self.0).then(|| format!("tenant-{self}"))
    }
}

impl AgentName {
    /// Parses an agent name.
    ///
    /// # Errors
    /// When the text breaks the grammar.
    pub fn parse(text: &str) -> Result<Self, IdentError> {
        if is_label(text, bounds::ID.max) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentError::Grammar { max: bounds::ID.max })
        }
    }
}

impl NamePrefix {
    /// The prefix if the settings have none.
    pub fn standard() -> Self {
        Self("at".to_owned())
    }

    /// Parses a prefix.
    ///
    /// # Errors
    /// When the text breaks the rule.
    pub fn parse(text: &str) -> Result<Self, IdentError> {
        let ok = (1..=10).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && !text.starts_with("pg");
        if ok { Ok(Self(text.to_owned())) } else { Err(IdentError::Prefix) }
    }
}

macro_rules! uuid_newtype {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_newtype! {
    /// Identity of a tenant's data. Adoption keeps it; new data gets a new one.
    Incarnation
}
uuid_newtype! {
    /// Identity of a database, created with its control schema.
    DatabaseId
}
uuid_newtype! {
    /// Identity of one agent API process.
    ProcessId
}
uuid_newtype! {
    /// Id of one password of one of a cell's logins.
    LoginId
}

impl Incarnation {
    /// The last digits, which distinguish this data from other data of the same name.
    fn digits(self, count: usize) -> String {
        let digits = self.0.simple().to_string();
        digits.get(32 - count..).unwrap_or_default().to_owned()
    }

    /// Name of the schema or role of this data's own tables (`custom_migrations`) while it is archived; `schema` is the
    /// name of its schema in use: `<schema>_x<10 hexadecimal digits>`, at most 63 bytes too.
    pub fn archived_own_name(self, schema: &str) -> String {
        format!("{schema}_x{}", self.digits(10))
    }

    /// The name in use, from the name while it is archived.
    pub(crate) fn name_before_archive(self, archived: &str) -> Option<&str> {
        archived.strip_suffix(&format!("_{}", self.digits(11)))
    }

    /// Name of a schema or role of this data while it is archived: `<name>_<11 hexadecimal digits>`. This is never the
    /// name of another tenant's schema, which has no underscore in its last part, or of a cell's role: their last parts
    /// have another form.
    pub fn archive_name(&self, name: &str) -> String {
        format!("{name}_{}", self.digits(11))
    }
}

/// UID of a Kubernetes object. The API server creates it, and its form is not checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub String);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One Kubernetes object. The UID distinguishes it from an earlier or later object of the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the object.
    pub uid: Uid,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A `resourceVersion`: comparable within one resource type (Kubernetes KEP-5504).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// Parses a `resourceVersion`; `None` if it is not a number.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a cell, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellNumber(pub i32);

impl fmt::Display for CellNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fence value: how often leadership has changed, as the Lease and the database count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
