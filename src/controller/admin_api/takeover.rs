//! The request for a takeover grant, which lets one Tenant take over the data of a lost cluster. It needs the permission
//! `takeover` on the Tenant. The grant records the caller; the reconciles decide whether and when the data is taken over.

use super::{
    manifest::resolve_key,
    server::{AdminApi, AdminError, CountedRoute, answer, count, read_body},
};
use crate::controller::{
    context::OperatorContext,
    metrics::OperatorMetrics,
    queue::work_queue::{Priority, Target},
    reconcile::reconciled::{Form, Reconciled},
};
use crate::{
    domain::{
        admin_api::{TAKEOVER_VERB, TakeoverRequest},
        class::ErrorClass,
    },
    effects::{
        error::EffectError,
        kubernetes::{cache::Key, review::AuthenticatedUser},
    },
    plan::{
        observed::{DatabaseView, unplaced::Unplaced},
        takeover_request::{Applicant, TakeoverRefusal, judge_request},
    },
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    middleware::from_fn_with_state,
    response::Response,
    routing::post,
};

/// `POST /v1/takeover` with a [`TakeoverRequest`].
pub(crate) fn routes(metrics: &OperatorMetrics) -> Router<AdminApi> {
    Router::new()
        .route("/v1/takeover", post(grant_takeover))
        .route_layer(from_fn_with_state(CountedRoute { metrics: metrics.clone(), name: "takeover" }, count))
}

async fn grant_takeover(State(admin_api): State<AdminApi>, headers: HeaderMap, body: Body) -> Response {
    answer(async {
        let caller = admin_api.authenticate(&headers).await?;
        let context = admin_api.leader_context().await?;
        let invalid = |why: String| AdminError::new(StatusCode::UNPROCESSABLE_ENTITY, why);
        let request: TakeoverRequest = serde_json::from_slice(&read_body(body).await?)
            .map_err(|error| invalid(format!("the body is not a takeover request: {error}")))?;
        let key = resolve_key(&request.namespace, &request.name).map_err(invalid)?;
        admin_api.record_grant(&caller, &context, &key, request.from.as_deref()).await
    })
    .await
}

impl AdminApi {
    /// Records a grant. A caller without the permission learns neither whether the Tenant exists, nor what the ledger contains.
    async fn record_grant(
        &self,
        caller: &AuthenticatedUser,
        context: &OperatorContext,
        key: &Key,
        from: Option<&str>,
    ) -> Result<String, AdminError> {
        self.check_permission(caller, TAKEOVER_VERB, key).await?;
        let all_namespaces = self.observe_cluster_permission(caller, TAKEOVER_VERB).await?;
        let invalid = |why: String| AdminError::new(StatusCode::UNPROCESSABLE_ENTITY, why);
        let missing = || AdminError::new(StatusCode::NOT_FOUND, format!("this operator manages no Tenant {key}"));
        let watched = context.world.tenants.cache.get(key).ok_or_else(missing)?;
        let tenant = watched.object.as_ref().map_err(|_| invalid(format!("Tenant {key} can't be read")))?;
        if tenant.metadata.deletion_timestamp.is_some() {
            return Err(invalid(format!("Tenant {key} is being deleted")));
        }
        let (scope, view) = context.world.observe_database(tenant.resolve_scope(Form::Whole)).await;
        let tenant_id = scope.tenant_id.as_ref().ok_or_else(|| invalid(format!("Tenant {key} has no valid id")))?;
        let facts = match view {
            DatabaseView::Facts(facts) => facts,
            DatabaseView::Unknown(read_error) => return Err(EffectError::new(read_error.class, read_error.note).into()),
            DatabaseView::Changed { .. } => {
                return Err(EffectError::new(ErrorClass::Conflict, "the database has been replaced").into());
            }
            DatabaseView::Unplaced(unplaced) => {
                let code = match unplaced {
                    Unplaced::Unasked { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    Unplaced::Unknown { .. } | Unplaced::Closed(_) | Unplaced::Taken { .. } => StatusCode::CONFLICT,
                };
                return Err(AdminError::new(code, unplaced.render()));
            }
        };
        let installation = context.installation_now();
        let previous = scope.adopt.as_ref();
        let applicant = Applicant { tenant_id, object: &scope.object, previous, all_namespaces };
        let (answer, permission) = judge_request(applicant, from, &facts, &installation).map_err(|refusal| {
            let code = match refusal {
                TakeoverRefusal::Unmet(_) => StatusCode::CONFLICT,
                TakeoverRefusal::OtherNamespace => StatusCode::FORBIDDEN,
            };
            AdminError::new(code, refusal.to_string())
        })?;
        if let Some(permission) = &permission {
            let done = context.world.perform_allow_takeover(&scope, permission, caller.name()).await;
            done.inspect_err(|error| context.note_fencing(error))?;
            tracing::info!(caller = caller.name(), tenant = %key, from, "a takeover was granted");
            let target = Target::Tenant(key.clone());
            context.scheduler.reset_attempts(&target);
            context.scheduler.push(target, Priority::Change);
        }
        serde_json::to_string(&answer).map_err(|error| {
            AdminError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer can't be serialized: {error}"))
        })
    }
}
