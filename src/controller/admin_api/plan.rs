//! The requests for a plan. A caller needs the permission for the planned change.

use super::{
    dry_run::{DryRunError, PlanTarget, dry_run},
    manifest::{resolve_key, resolve_manifest},
    server::{AdminApi, AdminError, CountedRoute, answer, count, read_body},
};
use crate::controller::{context::OperatorContext, metrics::OperatorMetrics};
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
struct PlanQuery {
    #[serde(default)]
    delete: bool,
}

/// `POST /v1/plan` with a Tenant as JSON; `GET /v1/plan/{namespace}/{name}`, with `?delete=true` for its deletion.
pub(crate) fn routes(metrics: &OperatorMetrics) -> Router<AdminApi> {
    Router::new()
        .route("/v1/plan", post(plan_manifest))
        .route("/v1/plan/{namespace}/{name}", get(plan_present))
        .route_layer(from_fn_with_state(CountedRoute { metrics: metrics.clone(), name: "plan" }, count))
}

impl AdminApi {
    /// A plan for an authenticated caller. A caller without permission to read the Tenant does not learn whether it exists.
    async fn plan(
        &self,
        caller: &AuthenticatedUser,
        context: &OperatorContext,
        target: PlanTarget,
    ) -> Result<String, AdminError> {
        let key = target.key().clone();
        self.check_permission(caller, "get", &key).await?;
        let exists = context.world.tenants.cache.get(&key).is_some();
        match (&target, exists) {
            (PlanTarget::Apply(_), false) => self.check_permission(caller, "create", &key).await?,
            (PlanTarget::Apply(_), true) => self.check_permission(caller, "update", &key).await?,
            (PlanTarget::Delete(_), _) => self.check_permission(caller, "delete", &key).await?,
            (PlanTarget::Present(_), _) => {}
        }
        let Ok(_permit) = self.limits.plans.try_acquire() else {
            return Err(AdminError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "other plans are in progress; try again in a second",
            ));
        };
        let planned = dry_run(context, target).await.map_err(|why| match why {
            DryRunError::Missing => AdminError::new(StatusCode::NOT_FOUND, format!("there is no Tenant {key}")),
            DryRunError::Invalid(rule) => AdminError::new(StatusCode::UNPROCESSABLE_ENTITY, rule),
            DryRunError::Unread(error) => error.into(),
        });
        tracing::info!(caller = caller.name(), tenant = %key, succeeded = planned.is_ok(), "a plan was requested");
        planned
    }
}

async fn plan_manifest(State(admin_api): State<AdminApi>, headers: HeaderMap, body: Body) -> Response {
    answer(async {
        let caller = admin_api.authenticate(&headers).await?;
        let context = admin_api.leader_context().await?;
        let body = read_body(body).await?;
        let manifest = resolve_manifest(&body).map_err(|why| AdminError::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        admin_api.plan(&caller, &context, PlanTarget::Apply(Box::new(manifest))).await
    })
    .await
}

/// The Tenant that a path names.
#[derive(Deserialize)]
struct TenantPath {
    namespace: String,
    name: String,
}

async fn plan_present(
    State(admin_api): State<AdminApi>,
    Path(tenant): Path<TenantPath>,
    Query(query): Query<PlanQuery>,
    headers: HeaderMap,
) -> Response {
    answer(async {
        let caller = admin_api.authenticate(&headers).await?;
        let context = admin_api.leader_context().await?;
        let key = resolve_key(&tenant.namespace, &tenant.name)
            .map_err(|why| AdminError::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        let target = if query.delete { PlanTarget::Delete(key) } else { PlanTarget::Present(key) };
        admin_api.plan(&caller, &context, target).await
    })
    .await
}
