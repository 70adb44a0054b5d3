//! Asking the operator's door for a plan: whoever has the right to do what is to be rehearsed.

use super::{
    dry_run::{DryRunError, PlanTarget, dry_run},
    manifest::{resolve_key, resolve_posted},
    server::{AdminApi, Refused, answer, count, read_body},
};
use crate::controller::{context::Context, metrics::OperatorMetrics};
use crate::effects::kubernetes::review::AuthenticatedUser;
use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    middleware::from_fn_with_state,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct OfDeletion {
    #[serde(default)]
    delete: bool,
}

/// `POST /v1/plan` with a Tenant as JSON; `GET /v1/plan/{namespace}/{name}`, with `?delete=true` for its deletion.
pub(crate) fn routes(metrics: &OperatorMetrics) -> Router<AdminApi> {
    Router::new()
        .route("/v1/plan", post(plan_posted))
        .route("/v1/plan/{namespace}/{name}", get(plan_present))
        .route_layer(from_fn_with_state((metrics.clone(), "plan"), count))
}

impl AdminApi {
    /// A plan for somebody who was let in. Whoever may not see the Tenant is not told whether it is there.
    async fn plan(&self, caller: &AuthenticatedUser, context: &Context, target: PlanTarget) -> Result<String, Refused> {
        let key = target.key().clone();
        self.check_right(caller, "get", &key).await?;
        let exists = context.world.tenants.cache.get(&key).is_some();
        match (&target, exists) {
            (PlanTarget::Apply(_), false) => self.check_right(caller, "create", &key).await?,
            (PlanTarget::Apply(_), true) => self.check_right(caller, "update", &key).await?,
            (PlanTarget::Delete(_), _) => self.check_right(caller, "delete", &key).await?,
            (PlanTarget::Present(_), _) => {}
        }
        let Ok(_permit) = self.limits.at_once.try_acquire() else {
            return Err(Refused::new(
                StatusCode::TOO_MANY_REQUESTS,
                "other plans are being made; try again in a second",
            ));
        };
        let planned = dry_run(context, target).await.map_err(|why| match why {
            DryRunError::Missing => Refused::new(StatusCode::NOT_FOUND, format!("there is no Tenant {key}")),
            DryRunError::Invalid(rule) => Refused::new(StatusCode::UNPROCESSABLE_ENTITY, rule),
            DryRunError::Unread(error) => error.into(),
        });
        tracing::info!(caller = caller.name(), tenant = %key, made = planned.is_ok(), "a plan was asked for");
        planned
    }
}

async fn plan_posted(State(admin_api): State<AdminApi>, headers: HeaderMap, body: Body) -> Response {
    answer(async {
        let caller = admin_api.admit(&headers).await?;
        let context = admin_api.leading().await?;
        let body = read_body(body).await?;
        let manifest = resolve_posted(&body).map_err(|why| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        admin_api.plan(&caller, &context, PlanTarget::Apply(Box::new(manifest))).await
    })
    .await
}

async fn plan_present(
    State(admin_api): State<AdminApi>,
    Path((namespace, name)): Path<(String, String)>,
    Query(of): Query<OfDeletion>,
    headers: HeaderMap,
) -> Response {
    answer(async {
        let caller = admin_api.admit(&headers).await?;
        let context = admin_api.leading().await?;
        let key = resolve_key(&namespace, &name).map_err(|why| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        let target = if of.delete { PlanTarget::Delete(key) } else { PlanTarget::Present(key) };
        admin_api.plan(&caller, &context, target).await
    })
    .await
}
