//! The only way to register a tenant's route: a handler takes the admitted caller, and with it the scope that it requires.
//!
//! axum alone would accept a handler that checks nothing.

use crate::agent_api::{
    Context,
    auth::{Caller, TENANT_PARAMETER, scope::RequiredScope},
    problem::Problem,
};
use axum::{
    Router,
    extract::FromRequest,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use std::sync::Arc;

/// The routes of tenants.
///
/// A handler's first parameter is a [`Caller`] of some scope; any other extractors follow:
///
/// ```
/// use agent_tenancy::agent_api::{
///     auth::{Caller, scope::ChatRead},
///     http::routes::TenantRoutes,
///     problem::{Code, Problem},
/// };
/// use axum::response::Response;
///
/// async fn handler(caller: Caller<ChatRead>) -> Result<Response, Problem> {
///     Err(Problem::new(Code::NotFound))
/// }
///
/// TenantRoutes::new().get("/example", handler);
/// ```
///
/// A handler that forgets the caller doesn't compile:
///
/// ```compile_fail,E0277
/// use agent_tenancy::agent_api::{http::routes::TenantRoutes, problem::{Code, Problem}};
/// use axum::response::Response;
///
/// async fn handler() -> Result<Response, Problem> {
///     Err(Problem::new(Code::NotFound))
/// }
///
/// TenantRoutes::new().get("/example", handler);
/// ```
///
/// Neither does one with another extractor as its first parameter:
///
/// ```compile_fail,E0277
/// use agent_tenancy::agent_api::{http::routes::TenantRoutes, problem::{Code, Problem}};
/// use axum::{http::HeaderMap, response::Response};
///
/// async fn handler(headers: HeaderMap) -> Result<Response, Problem> {
///     Err(Problem::new(Code::NotFound))
/// }
///
/// TenantRoutes::new().get("/example", handler);
/// ```
///
/// Nor one that names no scope:
///
/// ```compile_fail,E0277
/// use agent_tenancy::agent_api::{auth::Caller, http::routes::TenantRoutes, problem::{Code, Problem}};
/// use axum::response::Response;
///
/// async fn handler(caller: Caller<()>) -> Result<Response, Problem> {
///     Err(Problem::new(Code::NotFound))
/// }
///
/// TenantRoutes::new().get("/example", handler);
/// ```
#[derive(Default)]
pub struct TenantRoutes {
    router: Router<Arc<Context>>,
}

/// A handler of a tenant's route: a function of the caller and up to two extractors `A`.
pub trait TenantHandler<S, A>: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn handle(self, caller: Caller<S>, arguments: A) -> impl Future<Output = Result<Response, Problem>> + Send;
}

impl<F, R, S> TenantHandler<S, ()> for F
where
    F: Fn(Caller<S>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Problem>> + Send,
{
    fn handle(self, caller: Caller<S>, (): ()) -> impl Future<Output = Result<Response, Problem>> + Send {
        self(caller)
    }
}

impl<F, R, S, A> TenantHandler<S, (A,)> for F
where
    F: Fn(Caller<S>, A) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Problem>> + Send,
{
    fn handle(self, caller: Caller<S>, (a,): (A,)) -> impl Future<Output = Result<Response, Problem>> + Send {
        self(caller, a)
    }
}

impl<F, R, S, A, B> TenantHandler<S, (A, B)> for F
where
    F: Fn(Caller<S>, A, B) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Problem>> + Send,
{
    fn handle(self, caller: Caller<S>, (a, b): (A, B)) -> impl Future<Output = Result<Response, Problem>> + Send {
        self(caller, a, b)
    }
}

macro_rules! methods {
    ($($name:ident: $filter:ident,)+) => {
        $(
            #[doc = concat!("Answers `", stringify!($filter), "` on a path below the tenant's.")]
            #[must_use]
            pub fn $name<H, S, A, M>(self, path: &str, handler: H) -> Self
            where
                H: TenantHandler<S, A>,
                S: RequiredScope,
                A: FromRequest<Arc<Context>, M> + Send + 'static,
                M: 'static,
            {
                self.register(MethodFilter::$filter, path, handler)
            }
        )+
    };
}

impl TenantRoutes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    methods! {
        get: GET,
        post: POST,
        put: PUT,
        delete: DELETE,
    }

    fn register<H, S, A, M>(self, method: MethodFilter, path: &str, handler: H) -> Self
    where
        H: TenantHandler<S, A>,
        S: RequiredScope,
        A: FromRequest<Arc<Context>, M> + Send + 'static,
        M: 'static,
    {
        let answer = move |caller: Caller<S>, arguments: A| async move {
            handler.handle(caller, arguments).await.into_response()
        };
        let path = format!("/api/v1/tenants/{{{TENANT_PARAMETER}}}{path}");
        Self { router: self.router.route(&path, on(method, answer)) }
    }

    /// The router, when every route is registered.
    pub(super) fn into_router(self) -> Router<Arc<Context>> {
        self.router
    }
}
