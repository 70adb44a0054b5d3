//! Who calls, and whether the call may go on. The order of answers is fixed: a bad token, another tenant's path, a
//! missing scope, the tenant's state, and only then what the request asks for.
//!
//! | file | holds |
//! | --- | --- |
//! | `scope` | what a token may allow, as values and as types |
//! | `token` | verification of a token |

pub mod scope;
pub mod token;

use super::{
    Context,
    database::{Access, DatabaseError, Transaction},
    problem::{Code, Problem},
    registry::{Snapshot, tenant::Service},
    request_id::RequestId,
    shares::Share,
};
use crate::domain::{entry::TenantState, ident::Incarnation};
use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use scope::{RequiredScope, Scope};
use std::{marker::PhantomData, ops::Deref, sync::Arc, time::Duration};
use token::{TokenError, VerifiedClaims, verify};

/// How often content is in memory at once: as it came, as it is kept, as it goes on.
pub(super) const COPIES: usize = 4;
/// Bytes of the smallest page.
const LEAST_PAGE: usize = 16 << 10;

/// The path parameter that names the tenant.
pub(super) const TENANT_PARAMETER: &str = "tenantId";
/// Its place among the parts of the path, `/api/v1/tenants/{tenantId}`.
const TENANT_SEGMENT: usize = 4;

/// An admitted caller: the token is valid, belongs to the tenant of the path and allows the scope `S`, and the tenant is
/// served. As an extractor it comes first in every handler of a tenant's route.
pub struct Caller<S> {
    admission: Admission,
    scope: PhantomData<fn() -> S>,
}

/// What a handler works with: everything as it was when the call was admitted.
pub struct Admission {
    /// The process's state.
    pub context: Arc<Context>,
    /// The request's ids.
    pub request: RequestId,
    /// The verified token.
    pub claims: VerifiedClaims,
    /// The tenant and the way to its data.
    pub access: Access,
    /// The registry.
    pub snapshot: Arc<Snapshot>,
}

/// The tenant of an admitted request, for the extractors after [`Caller`].
#[derive(Clone, Copy)]
pub(super) struct AdmittedTenant(pub(super) Incarnation);

impl<S> Deref for Caller<S> {
    type Target = Admission;

    fn deref(&self) -> &Admission {
        &self.admission
    }
}

impl<S> Caller<S> {
    /// The admission without the scope that it was granted for.
    pub fn into_admission(self) -> Admission {
        self.admission
    }
}

impl<S: RequiredScope> FromRequestParts<Arc<Context>> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        let tenant = match RawPathParams::from_request_parts(parts, context).await {
            Ok(path) => path.iter().find(|(name, _)| *name == TENANT_PARAMETER).map(|(_, value)| value.to_owned()),
            // Some parameter is no UTF-8 after decoding. A tenant's id needs no encoding, so it can be read as it stands.
            Err(_) => parts.uri.path().split('/').nth(TENANT_SEGMENT).map(str::to_owned),
        };
        let tenant = tenant.as_deref().unwrap_or_default();
        let request = parts.extensions.get::<RequestId>().cloned().ok_or_else(|| Problem::new(Code::Internal))?;
        let admission = admit(context, &parts.headers, tenant, S::SCOPE, request)?;
        parts.extensions.insert(AdmittedTenant(admission.access.tenant.incarnation));
        Ok(Self { admission, scope: PhantomData })
    }
}

/// A request with a valid token of any tenant, on a path that belongs to none.
pub struct Authenticated;

impl FromRequestParts<Arc<Context>> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        authenticate(context, &parts.headers).map(|_| Self)
    }
}

/// Verifies the token.
fn authenticate(context: &Context, headers: &HeaderMap) -> Result<(VerifiedClaims, Arc<Snapshot>), Problem> {
    let token = bearer(headers).ok_or_else(|| Problem::new(Code::MissingToken))?;
    let snapshot = Arc::clone(&context.registry.snapshot());
    let claims = verify(token, &snapshot, context.clock.now().as_second()).map_err(|error| {
        context.metrics.note_refused_token(error.as_str());
        if error == TokenError::ForeignKey {
            tracing::warn!("a token claims another tenant than the owner of its key");
        }
        Problem::new(Code::InvalidToken)
    })?;
    Ok((claims, snapshot))
}

/// Admits a call for the tenant of the path, or gives the first reason against it in the fixed order.
fn admit(
    context: &Arc<Context>,
    headers: &HeaderMap,
    path_tenant: &str,
    scope: Scope,
    request: RequestId,
) -> Result<Admission, Problem> {
    let (claims, snapshot) = authenticate(context, headers)?;
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
            Ok(Admission { context: Arc::clone(context), request, claims, access, snapshot })
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

impl Admission {
    /// Reserves memory for a page of at most `most` bytes of content, or for a smaller one where there is less. Returns the
    /// reservation and the page's bytes.
    ///
    /// # Errors
    /// When there is too little for even a small page.
    pub fn reserve_page(&self, most: usize) -> Result<(Share, usize), Problem> {
        let mut bytes = most;
        loop {
            match self.context.bytes.take(self.access.tenant.incarnation, bytes * COPIES) {
                Ok(share) => return Ok((share, bytes)),
                Err(_) if bytes / 2 >= LEAST_PAGE => bytes /= 2,
                Err(exhausted) => return Err(exhausted.into()),
            }
        }
    }

    /// Runs one transaction as the role of the tenant.
    ///
    /// # Errors
    /// When the database refuses or fails, as a problem for the client.
    pub async fn transact<T: Transaction>(&self, transaction: T) -> Result<T::Output, Problem> {
        let done = self.context.database.transact(&self.access, transaction).await;
        done.map_err(|error| self.explain(error))
    }

    /// What a failed transaction means for the client. A tenant that was admitted may be out of service by now, and its
    /// access taken away: that is then the reason.
    pub(super) fn explain(&self, error: DatabaseError) -> Problem {
        let now = self.context.registry.snapshot().tenants.get(&self.claims.tenant).map(|tenant| tenant.state);
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
