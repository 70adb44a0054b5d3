//! Asking the operator's door for a plan: whoever has the right to do what is to be rehearsed.

use super::{
    context::Context,
    door::{Door, Refused, answer, count, read_body},
    posted::{resolve_key, resolve_posted},
    rehearse::{Asked, Unplayable, rehearse},
    telemetry::OperatorMetrics,
};
use crate::effects::kubernetes::review::Caller;
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
pub(super) fn routes(metrics: &OperatorMetrics) -> Router<Door> {
    Router::new()
        .route("/v1/plan", post(plan_posted))
        .route("/v1/plan/{namespace}/{name}", get(plan_present))
        .route_layer(from_fn_with_state((metrics.clone(), "plan"), count))
}

impl Door {
    /// A plan for somebody who was let in. Whoever may not see the Tenant is not told whether it is there.
    async fn plan(&self, caller: &Caller, context: &Context, asked: Asked) -> Result<String, Refused> {
        let key = asked.key().clone();
        self.check_right(caller, "get", &key).await?;
        let exists = context.world.tenants.cache.get(&key).is_some();
        match (&asked, exists) {
            (Asked::Apply(_), false) => self.check_right(caller, "create", &key).await?,
            (Asked::Apply(_), true) => self.check_right(caller, "update", &key).await?,
            (Asked::Delete(_), _) => self.check_right(caller, "delete", &key).await?,
            (Asked::Present(_), _) => {}
        }
        let Ok(_permit) = self.limits.at_once.try_acquire() else {
            return Err(Refused::new(
                StatusCode::TOO_MANY_REQUESTS,
                "other plans are being made; try again in a second",
            ));
        };
        let planned = rehearse(context, asked).await.map_err(|why| match why {
            Unplayable::Missing => Refused::new(StatusCode::NOT_FOUND, format!("there is no Tenant {key}")),
            Unplayable::Invalid(rule) => Refused::new(StatusCode::UNPROCESSABLE_ENTITY, rule),
            Unplayable::Unread(error) => error.into(),
        });
        tracing::info!(caller = caller.name(), tenant = %key, made = planned.is_ok(), "a plan was asked for");
        planned
    }
}

async fn plan_posted(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    answer(async {
        let caller = door.admit(&headers).await?;
        let context = door.leading().await?;
        let body = read_body(body).await?;
        let posted = resolve_posted(&body).map_err(|why| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        door.plan(&caller, &context, Asked::Apply(Box::new(posted))).await
    })
    .await
}

async fn plan_present(
    State(door): State<Door>,
    Path((namespace, name)): Path<(String, String)>,
    Query(of): Query<OfDeletion>,
    headers: HeaderMap,
) -> Response {
    answer(async {
        let caller = door.admit(&headers).await?;
        let context = door.leading().await?;
        let key = resolve_key(&namespace, &name).map_err(|why| Refused::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
        let asked = if of.delete { Asked::Delete(key) } else { Asked::Present(key) };
        door.plan(&caller, &context, asked).await
    })
    .await
}
