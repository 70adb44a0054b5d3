//! Authentication and permissions of a caller, by TokenReview and SubjectAccessReview. Nothing is stored.

use super::{cache::Key, error::required};
use crate::effects::error::EffectError;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, Resource, api::PostParams};

/// The user of a token, as the API server reports it.
#[derive(Clone, Debug)]
pub struct AuthenticatedUser(UserInfo);

impl AuthenticatedUser {
    pub(crate) fn name(&self) -> &str {
        self.0.username.as_deref().unwrap_or("a user without a name")
    }
}

/// Requests TokenReviews and SubjectAccessReviews.
#[derive(Clone)]
pub struct Reviews {
    client: Client,
}

impl Reviews {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The user of a token, if it is valid for one of these audiences. No audience: the API server's own.
    ///
    /// # Errors
    /// As any request. Neither errors nor results quote the token.
    pub(crate) async fn observe_caller(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<AuthenticatedUser>, EffectError> {
        let requested = Some(audiences.to_vec()).filter(|list| !list.is_empty());
        let spec = TokenReviewSpec { audiences: requested, token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = required("review the caller's token", api.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        // An API server that does not support audiences answers without them.
        let for_us = audiences.is_empty()
            || status.audiences.unwrap_or_default().iter().any(|audience| audiences.contains(audience));
        let known = status.user.filter(|user| user.username.as_deref().is_some_and(|name| !name.is_empty()));
        Ok(known.filter(|_| status.authenticated == Some(true) && for_us).map(AuthenticatedUser))
    }

    /// Whether a caller has permission for a verb on an object. For "create", the name is not considered.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn observe_permission<K: Resource<DynamicType = ()>>(
        &self,
        caller: &AuthenticatedUser,
        verb: &str,
        object: &Key,
    ) -> Result<bool, EffectError> {
        let attributes = ResourceAttributes {
            namespace: Some(object.namespace.clone()),
            name: Some(object.name.clone()).filter(|_| verb != "create"),
            ..resource_attributes::<K>(verb)
        };
        self.observe_allowed(caller, attributes).await
    }

    /// Whether a user may do this with every object of a resource, in all namespaces.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn observe_cluster_permission<K: Resource<DynamicType = ()>>(
        &self,
        caller: &AuthenticatedUser,
        verb: &str,
    ) -> Result<bool, EffectError> {
        self.observe_allowed(caller, resource_attributes::<K>(verb)).await
    }

    async fn observe_allowed(
        &self,
        caller: &AuthenticatedUser,
        attributes: ResourceAttributes,
    ) -> Result<bool, EffectError> {
        let UserInfo { extra, groups, uid, username } = caller.0.clone();
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
        let answer = required("review the caller's permissions", api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// A verb on all objects of a resource.
fn resource_attributes<K: Resource<DynamicType = ()>>(verb: &str) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(K::group(&()).into_owned()),
        version: Some(K::version(&()).into_owned()),
        resource: Some(K::plural(&()).into_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    }
}
