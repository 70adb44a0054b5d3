//! Who a caller is and what it may do, asked of the API server: TokenReview and SubjectAccessReview. Nothing is stored.

use super::error::required;
use crate::effects::error::EffectError;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, Resource, api::PostParams};

/// Whoever carries a token, as the API server knows it.
#[derive(Clone, Debug)]
pub struct AuthenticatedUser(UserInfo);

impl AuthenticatedUser {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.username.as_deref().unwrap_or("somebody without a name")
    }
}

/// The reviews behind a client.
#[derive(Clone)]
pub struct Reviews {
    client: Client,
}

impl Reviews {
    /// Reviews behind this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Whose token this is, if it is good and made for one of these audiences. No audience: the API server's own.
    ///
    /// # Errors
    /// As any request. None of them, and nothing that is returned, quotes the token.
    pub async fn observe_caller(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<AuthenticatedUser>, EffectError> {
        let asked = Some(audiences.to_vec()).filter(|list| !list.is_empty());
        let spec = TokenReviewSpec { audiences: asked, token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = required("review the caller's token", api.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        // An API server that knows nothing of audiences answers without them.
        let meant = audiences.is_empty()
            || status.audiences.unwrap_or_default().iter().any(|audience| audiences.contains(audience));
        let known = status.user.filter(|user| user.username.as_deref().is_some_and(|name| !name.is_empty()));
        Ok(known.filter(|_| status.authenticated == Some(true) && meant).map(AuthenticatedUser))
    }

    /// Whether a caller has a right on an object; of one that is not there yet no name counts.
    ///
    /// # Errors
    /// As any request.
    pub async fn observe_right<K: Resource<DynamicType = ()>>(
        &self,
        caller: &AuthenticatedUser,
        verb: &str,
        (namespace, name): (&str, &str),
    ) -> Result<bool, EffectError> {
        let UserInfo { extra, groups, uid, username } = caller.0.clone();
        let attributes = ResourceAttributes {
            group: Some(K::group(&()).into_owned()),
            version: Some(K::version(&()).into_owned()),
            resource: Some(K::plural(&()).into_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name).filter(|_| verb != "create").map(str::to_owned),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            extra,
            groups,
            uid,
            user: username,
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = required("review the caller's rights", api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
