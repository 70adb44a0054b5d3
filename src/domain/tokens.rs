//! What a tenant's tokens have to contain: resolved from its spec, published in its entry, checked by the agent API.

use super::violation::Violations;
use crate::api::TenantAuth;
use serde::{Deserialize, Serialize};

/// What a tenant's tokens have to contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRules {
    /// Required `iss`.
    pub issuer: String,
    /// Required member of `aud`.
    pub audience: String,
    /// Longest `exp - iat`, in seconds.
    pub max_token_seconds: i32,
}

impl TokenRules {
    /// The rules in the entry of a tenant that is being deleted, when its rules are unknown: no token follows them.
    pub(crate) const UNKNOWN: Self = Self { issuer: String::new(), audience: String::new(), max_token_seconds: 0 };

    pub(super) fn resolve(spec: &TenantAuth, wrong: &mut Violations) -> Self {
        wrong.check_number("spec.auth.maxTokenSeconds", spec.max_token_seconds, TenantAuth::TOKEN_SECONDS);
        wrong.check_text("spec.auth.issuer", &spec.issuer, TenantAuth::CLAIM);
        wrong.check_text("spec.auth.audience", &spec.audience, TenantAuth::CLAIM);
        let TenantAuth { issuer, audience, max_token_seconds, .. } = spec;
        Self { issuer: issuer.clone(), audience: audience.clone(), max_token_seconds: *max_token_seconds }
    }
}
