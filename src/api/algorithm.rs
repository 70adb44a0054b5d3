//! The algorithms that sign tenants' tokens.

use serde::{Deserialize, Serialize};

/// How a tenant's tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    #[default]
    HS256,
    /// Ed25519: the agent API has public keys only.
    EdDSA,
    /// ECDSA with P-256 and SHA-256: the agent API has public keys only.
    ES256,
}

impl SigningAlgorithm {
    /// Its name in a token's header and in the signing Secret.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
        }
    }

    /// Whether the key that verifies is also the key that signs.
    pub const fn is_symmetric(self) -> bool {
        match self {
            Self::HS256 => true,
            Self::EdDSA | Self::ES256 => false,
        }
    }
}
