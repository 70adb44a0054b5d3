//! Who calls, and whether the call may go on. The order of answers is fixed: a bad token, another tenant's path, a
//! missing scope, the tenant's state, and only then what the request asks for.

pub mod token;

use super::{
    Context,
    database::{Access, DatabaseError, Work},
    problem::{Code, Problem},
    registry::{Snapshot, tenant::Service},
};
use crate::domain::entry::TenantState;
use axum::http::{HeaderMap, header};
use std::{sync::Arc, time::Duration};
use token::{Claims, Scope, TokenError, verify};

/// A caller whose call may go on, and the registry as it was when that was decided.
pub struct Caller {
    /// The verified token.
    pub claims: Claims,
    /// The tenant and the way to its data.
    pub access: Access,
    /// The snapshot of this request.
    pub snapshot: Arc<Snapshot>,
}

/// Lets a call for the tenant of the path in, or says which answer it gets.
///
/// # Errors
/// The first reason in the fixed order.
pub fn admit(context: &Context, headers: &HeaderMap, path_tenant: &str, scope: Scope) -> Result<Caller, Problem> {
    let token = bearer(headers).ok_or_else(|| Problem::new(Code::MissingToken))?;
    let snapshot = Arc::clone(&context.registry.snapshot());
    let claims = verify(token, &snapshot, context.clock.now().as_second()).map_err(|error| {
        context.metrics.note_refused_token(error);
        if error == TokenError::ForeignKey {
            tracing::warn!("a token claims another tenant than the owner of its key");
        }
        Problem::new(Code::InvalidToken)
    })?;
    // Decided before anything is looked up, so the answer says nothing about the other tenant.
    if claims.tenant.as_str() != path_tenant {
        return Err(Problem::new(Code::TenantMismatch));
    }
    if !claims.allows(scope) {
        return Err(Problem::new(Code::InsufficientScope).detail(format!("needs the scope '{}'", scope.as_str())));
    }
    let Some(tenant) = snapshot.tenants.get(&claims.tenant).map(Arc::clone) else {
        return Err(Problem::new(Code::InvalidToken));
    };
    check_state(tenant.state)?;
    let limit = Duration::from_secs(context.settings.registry.max_staleness_seconds);
    if !limit.is_zero() && context.registry.staleness() > limit {
        return Err(Problem::new(Code::RegistryStale));
    }
    let reachable = snapshot.cells.get(&tenant.place.cell).is_some();
    match (&tenant.service, reachable) {
        (Service::Served, true) => {
            let access = Access { tenant, registry: context.registry.clone() };
            Ok(Caller { claims, access, snapshot })
        }
        (Service::Served | Service::Unserved(_), _) => Err(Problem::new(Code::TenantNotServed)),
    }
}

/// Refuses what is out of service.
///
/// # Errors
/// The reason.
fn check_state(state: TenantState) -> Result<(), Problem> {
    match state {
        TenantState::Suspended => Err(Problem::new(Code::TenantSuspended)),
        TenantState::Deleting => Err(Problem::new(Code::TenantDeleting)),
        TenantState::Active => Ok(()),
    }
}

impl Caller {
    /// Runs one transaction of the tenant; see [`Database::transact`](crate::agent_api::database::Database::transact).
    ///
    /// # Errors
    /// As there, in the client's terms.
    pub async fn transact<T: Send + 'static>(&self, context: &Context, work: impl Work<T>) -> Result<T, Problem> {
        let done = context.database.transact(&self.access, work).await;
        done.map_err(|error| self.explain(context, error))
    }

    /// What a failed transaction means for the client. A tenant that was admitted may be out of service by now, and its
    /// access taken away: that is then the reason.
    fn explain(&self, context: &Context, error: DatabaseError) -> Problem {
        let now = context.registry.snapshot().tenants.get(&self.claims.tenant).map(|tenant| tenant.state);
        match (&error, now.map(check_state)) {
            (DatabaseError::Refused(_), Some(Err(problem))) => problem,
            _ => error.into(),
        }
    }
}

/// The token of `Authorization: Bearer …`; the scheme's case doesn't matter (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
