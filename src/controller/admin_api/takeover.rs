//! Letting one Tenant take over what a lost cluster left, at the operator's door: for those who have a right of its own for
//! that. It is recorded who said so; when and whether the data goes over, the passes decide.

use super::{
    manifest::resolve_key,
    server::{AdminApi, Refused, answer, count, read_body},
};
use crate::controller::{
    context::Context,
    metrics::OperatorMetrics,
    queue::work_queue::{Priority, Target},
    reconcile::tenant::resolve_scope,
};
use crate::{
    domain::class::ErrorClass,
    effects::{
        error::EffectError,
        kubernetes::{cache::Key, review::AuthenticatedUser},
    },
    plan::{
        observed::{DatabaseView, unplaced::Unplaced},
        takeover_request::{Applicant, TakeoverRequest, VERB, judge_request},
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
        .route("/v1/takeover", post(takeover_posted))
        .route_layer(from_fn_with_state((metrics.clone(), "takeover"), count))
}

async fn takeover_posted(State(admin_api): State<AdminApi>, headers: HeaderMap, body: Body) -> Response {
    answer(async {
        let caller = admin_api.admit(&headers).await?;
        let context = admin_api.leading().await?;
        let invalid = |why: String| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why);
        let asked: TakeoverRequest = serde_json::from_slice(&read_body(body).await?)
            .map_err(|error| invalid(format!("the body is not what a takeover is asked for with: {error}")))?;
        let key = resolve_key(&asked.namespace, &asked.name).map_err(invalid)?;
        admin_api.allow_takeover(&caller, &context, &key, &asked.from).await
    })
    .await
}

impl AdminApi {
    /// Whoever has not the right is not told whether there is such a Tenant, nor what the ledger says.
    async fn allow_takeover(
        &self,
        caller: &AuthenticatedUser,
        context: &Context,
        key: &Key,
        from: &str,
    ) -> Result<String, Refused> {
        self.check_right(caller, VERB, key).await?;
        let invalid = |why: String| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why);
        let missing = || Refused::new(StatusCode::NOT_FOUND, format!("there is no Tenant {key} that is looked after"));
        let watched = context.world.tenants.cache.get(key).ok_or_else(missing)?;
        let tenant = watched.object.as_ref().map_err(|_| invalid(format!("Tenant {key} can't be read")))?;
        if tenant.metadata.deletion_timestamp.is_some() {
            return Err(invalid(format!("Tenant {key} is being deleted")));
        }
        let (scope, view) = context.world.observe_database(resolve_scope(tenant)).await;
        let tenant_id = scope.tenant_id.as_ref().ok_or_else(|| invalid(format!("Tenant {key} has no valid id")))?;
        let facts = match view {
            DatabaseView::Facts(facts) => facts,
            DatabaseView::Unknown(read_error) => return Err(EffectError::new(read_error.class, read_error.note).into()),
            DatabaseView::Changed { .. } => {
                return Err(EffectError::new(ErrorClass::Conflict, "the database is another one").into());
            }
            DatabaseView::Unplaced(unplaced) => {
                let code = match unplaced {
                    Unplaced::Unasked { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    Unplaced::Unknown { .. } | Unplaced::Closed(_) | Unplaced::Taken { .. } => StatusCode::CONFLICT,
                };
                return Err(Refused::new(code, unplaced.render()));
            }
        };
        let installation = context.installation_now();
        let applicant = Applicant { tenant_id, object: &scope.object };
        let (told, permission) = judge_request(applicant, from, &facts, &installation)
            .map_err(|why| Refused::new(StatusCode::CONFLICT, why))?;
        if let Some(permission) = &permission {
            let done = context.world.perform_allow_takeover(&scope, permission, caller.name()).await;
            done.inspect_err(|error| context.note_fencing(error))?;
            tracing::info!(caller = caller.name(), tenant = %key, from, "a takeover was allowed");
            let target = Target::Tenant(key.clone());
            context.scheduler.forgive(&target);
            context.scheduler.push(target, Priority::Change);
        }
        serde_json::to_string(&told)
            .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no answer can be told: {error}")))
    }
}
