//! A token for a tenant's agent API, signed with the tenant's current key.

use crate::{
    api::Tenant,
    domain::{class::ErrorClass, keyring::Keyring, keys::Algorithm},
    kubectl_tenant::error::PluginError,
};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use kube::ResourceExt;
use serde::Serialize;

/// The claims that the user chooses.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// The `sub` claim: the user
    #[arg(long, value_name = "NAME", default_value = "kubectl")]
    pub(crate) sub: String,
    /// Lifetime of the token; at most the Tenant's spec.auth.maxTokenSeconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) seconds: i64,
    /// The `scope` claim: scopes separated by spaces; default: no claim, which allows chat:read and chat:write
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<String>,
}

/// The claims that the agent API requires.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    tenant_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

impl Claims {
    /// Lifetime of the token in seconds.
    pub(crate) fn seconds(&self) -> i64 {
        self.exp - self.iat
    }
}

/// The claims for a Tenant.
///
/// # Errors
/// When the Tenant is being deleted or not served yet: the agent API would refuse the token.
pub(crate) fn project_claims(tenant: &Tenant, args: &TokenArgs, now: Timestamp) -> Result<Claims, PluginError> {
    let name = tenant.name_any();
    if tenant.metadata.deletion_timestamp.is_some() {
        return Err(PluginError::new(ErrorClass::Invalid, format!("Tenant {name} is being deleted")));
    }
    let status = tenant.status.as_ref();
    let served = status.filter(|s| s.served.is_some() && s.keys.is_some()).and_then(|s| s.tenant_id.clone());
    let Some(tenant_id) = served else {
        let advice =
            format!("Tenant {name} is not served yet, so the agent API would refuse the token; wait until it is ready");
        return Err(PluginError::new(ErrorClass::Waiting, advice));
    };
    let auth = &tenant.spec.auth;
    let iat = now.as_second();
    Ok(Claims {
        iss: auth.issuer.clone(),
        aud: auth.audience.clone(),
        sub: args.sub.clone(),
        iat,
        exp: iat + args.seconds.min(i64::from(auth.max_token_seconds)),
        tenant_id,
        scope: args.scope.clone(),
    })
}

/// Signs the claims with the keyring's current key.
///
/// # Errors
/// When no key may sign yet, or signing fails.
pub(crate) fn project_token(keyring: &Keyring, claims: &Claims) -> Result<String, PluginError> {
    let bug = |what: &str| PluginError::new(ErrorClass::Bug, format!("the token can't be signed: {what}"));
    let waiting = || PluginError::new(ErrorClass::Waiting, "the new key may not sign yet; try again in a few seconds");
    let key = keyring.current().ok_or_else(waiting)?;
    let bytes = key.signing_bytes().ok_or_else(|| bug("its key is incomplete"))?.expose();
    let (algorithm, signing) = match key.verifying.algorithm {
        Algorithm::HS256 => (jsonwebtoken::Algorithm::HS256, EncodingKey::from_secret(bytes)),
        Algorithm::EdDSA => (jsonwebtoken::Algorithm::EdDSA, EncodingKey::from_ed_der(bytes)),
        Algorithm::ES256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_der(bytes)),
    };
    let header = Header { kid: Some(key.verifying.kid.to_string()), ..Header::new(algorithm) };
    encode(&header, claims, &signing).map_err(|e| bug(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl_tenant::samples::{CANARY, keyring, ready_tenant, waiting_tenant};
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

    fn args(seconds: i64) -> TokenArgs {
        TokenArgs { sub: "kubectl".into(), seconds, scope: None }
    }

    #[test]
    fn a_token_holds_what_the_agent_api_requires() {
        let now = Timestamp::now();
        let claims = project_claims(&ready_tenant(), &args(600), now).unwrap();
        let token = project_token(&keyring(), &claims).unwrap();
        let header = decode_header(&token).unwrap();
        assert_eq!((header.kid.as_deref(), header.typ.as_deref()), (Some("kid-now"), Some("JWT")));
        let mut rules = Validation::new(jsonwebtoken::Algorithm::HS256);
        rules.set_audience(&["agent-api"]);
        rules.set_issuer(&["agent-tenancy"]);
        let read = decode::<serde_json::Value>(&token, &DecodingKey::from_secret(CANARY), &rules).unwrap().claims;
        assert_eq!((&read["tenant_id"], &read["sub"]), (&"acme".into(), &"kubectl".into()));
        assert_eq!(read["exp"].as_i64().unwrap() - read["iat"].as_i64().unwrap(), 600);
        assert!(read.get("scope").is_none());
    }

    #[test]
    fn no_token_lives_longer_than_its_tenant_accepts() {
        let claims = project_claims(&ready_tenant(), &args(999_999), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(claims.seconds(), 3600);
    }

    #[test]
    fn no_token_is_signed_for_a_tenant_that_is_not_served() {
        let error = project_claims(&waiting_tenant(), &args(600), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Waiting);
    }
}
