//! Finding the database instance of a Tenant, and reading the Tenant's data there.

use super::{
    TenantScope,
    live::{LiveWorld, Open, note_database_error},
};
use crate::effects::{
    database::breaker::{BreakerState, CircuitBreaker},
    error::EffectError,
    postgres::{PgError, ReadPurpose},
};
use crate::{
    domain::{
        class::ErrorClass,
        ident::{TenantId, Uid},
    },
    plan::{
        observed::{DatabaseView, LedgerFacts, ReadError, Seen, unplaced::Unplaced},
        placement::{InstanceAnswer, PlacementCandidate, PlacementRequest, Requester, Search, resolve_holder},
        step::Done,
        takeover_request::Permission,
    },
};
use futures::future::join_all;

/// The instance that was read, if there is one, and what was read.
type SearchResult<'a> = (Option<&'a CircuitBreaker>, DatabaseView);

/// Which instances are asked for a tenant's data.
struct InstanceSearch<'a> {
    request: PlacementRequest<'a>,
    candidates: &'a [PlacementCandidate],
    /// Instances that are only asked, by their positions.
    others: &'a [usize],
    /// The instance that the tenant would be created in.
    chosen: Result<usize, Unplaced>,
}

impl Open<'_> {
    /// Converts the result of a change.
    pub(crate) fn changed(&self, result: Result<(), PgError>) -> Result<Done, EffectError> {
        self.done(result).map(|()| Done::Plain)
    }
}

impl LiveWorld {
    /// Reads the data of a Tenant outside of a reconcile. Returns also the scope for changing it.
    pub async fn observe_database(&self, scope: TenantScope) -> (TenantScope, DatabaseView) {
        let (breaker, view) = self.observe_placement(&scope).await;
        let instance = breaker.map(|breaker| breaker.name().to_owned());
        (TenantScope { instance, ..scope }, view)
    }

    /// Records a takeover grant: a Tenant may take over the data of another cluster's Tenant, and who allowed it.
    ///
    /// # Errors
    /// When the database can't be changed; `Transient` if the row has changed since it was read.
    pub async fn perform_allow_takeover(
        &self,
        scope: &TenantScope,
        permission: &Permission,
        allowed_by: &str,
    ) -> Result<(), EffectError> {
        let open = self.open_instance(scope)?;
        open.done(open.database.perform_allow_takeover(permission, &scope.object, allowed_by, &open.writer.fence).await)
    }

    /// The instance that the steps of this reconcile change.
    pub(crate) fn instance(&self, scope: &TenantScope) -> Result<&CircuitBreaker, EffectError> {
        let breaker = scope.instance.as_deref().and_then(|name| self.instances.breaker(name));
        breaker.ok_or_else(|| EffectError::new(ErrorClass::Bug, "the step has no database instance"))
    }

    /// The same, if it can be used now.
    pub(crate) fn open_instance(&self, scope: &TenantScope) -> Result<Open<'_>, EffectError> {
        self.open(self.instance(scope)?)
    }

    /// The same, for a step that uses a tenant id in an instance that may not know it yet.
    pub(crate) fn open_to_create(&self, scope: &TenantScope, tenant: &TenantId) -> Result<Open<'_>, EffectError> {
        let open = self.open_instance(scope)?;
        if !self.instances.begin(&scope.object.uid, tenant, open.name()) {
            let note = "the tenant was meanwhile placed in another instance";
            return Err(EffectError::new(ErrorClass::Transient, note));
        }
        Ok(open)
    }

    /// Reads the Tenant's data from the instance that has it, or from the instance that it would be created in.
    pub(crate) async fn observe_placement(&self, scope: &TenantScope) -> SearchResult<'_> {
        let Some(tenant) = &scope.tenant_id else {
            // Nothing is created for it. With a single instance, its state is reported.
            let breaker = self.instances.breakers().first().filter(|_| !self.instances.are_several());
            return (
                breaker,
                breaker
                    .and_then(unavailable)
                    .unwrap_or_else(|| read_error(ErrorClass::Invalid, "the tenant has no valid id")),
            );
        };
        let recorded = scope.recorded.instance.clone().or_else(|| self.registered_instance(scope, tenant));
        let request = PlacementRequest {
            recorded: recorded.as_deref(),
            named: scope.named.as_deref(),
            deleting: scope.claim.deleting,
            ..PlacementRequest::default()
        };
        let (search, candidates) = self.instances.search(&scope.object.uid, tenant, request, scope.reserve);
        match search {
            Search::At(at) => self.read(at, scope, tenant).await,
            Search::Out(at) => {
                let breaker = self.instances.breakers().get(at);
                let again = || read_error(ErrorClass::Transient, "the database has just become available again");
                (breaker, breaker.and_then(unavailable).unwrap_or_else(again))
            }
            Search::Ask { others, chosen } => {
                let question = InstanceSearch { request, candidates: &candidates, others: &others, chosen };
                self.search_instances(scope, tenant, question).await
            }
            Search::Nowhere(unplaced) => (None, DatabaseView::Unplaced(unplaced)),
        }
    }

    /// The instance that the Tenant's registry entry names.
    fn registered_instance(&self, scope: &TenantScope, tenant: &TenantId) -> Option<String> {
        match self.registry.observe_tenant(tenant, &scope.object) {
            Seen::Ours(view) => view.entry.map(|entry| entry.database.location.instance),
            Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => None,
        }
    }

    /// Reads from several instances at once, and returns what the tenant's or the chosen instance has.
    async fn search_instances(
        &self,
        scope: &TenantScope,
        tenant: &TenantId,
        question: InstanceSearch<'_>,
    ) -> SearchResult<'_> {
        let InstanceSearch { request, candidates, others, chosen } = question;
        let read_chosen = async {
            match &chosen {
                Ok(at) => Some((*at, self.read(*at, scope, tenant).await)),
                Err(_) => None,
            }
        };
        let ask = |at: usize| async move { (at, self.ask(at, scope, tenant).await) };
        let (first, asked) = tokio::join!(read_chosen, join_all(others.iter().copied().map(ask)));
        let mut answers: Vec<InstanceAnswer<'_>> = Vec::new();
        if let Some((at, (_, DatabaseView::Facts(facts)))) = &first {
            answers.push(InstanceAnswer { at: *at, facts });
        }
        for (at, answer) in &asked {
            match answer {
                Ok(facts) => answers.push(InstanceAnswer { at: *at, facts }),
                // The instance has just become unavailable. The next reconcile knows.
                Err(view) => return (None, view.clone()),
            }
        }
        answers.sort_by_key(|answer| answer.at);
        let requester =
            Requester { object: &scope.object, cluster_id: &self.cluster_id, previous: scope.adopt.as_ref() };
        match resolve_holder(request, requester, candidates, &answers) {
            Err(unplaced) => {
                self.note_found(scope, None);
                (None, DatabaseView::Unplaced(unplaced))
            }
            Ok(Some(holder)) => {
                self.note_found(scope, Some(holder));
                match first {
                    Some((at, result)) if at == holder => result,
                    Some(_) | None => self.read(holder, scope, tenant).await,
                }
            }
            Ok(None) => match (first, chosen) {
                (Some((_, result)), _) => result,
                (None, Err(unplaced)) => (None, DatabaseView::Unplaced(unplaced)),
                (None, Ok(_)) => (None, read_error(ErrorClass::Bug, "the chosen instance was not read")),
            },
        }
    }

    fn note_found(&self, scope: &TenantScope, at: Option<usize>) {
        if scope.reserve {
            self.instances.note_found(&scope.object.uid, at);
        }
    }

    /// Reads from an instance what it has of a tenant id, without offering a cell.
    async fn ask(&self, at: usize, scope: &TenantScope, tenant: &TenantId) -> Result<LedgerFacts, DatabaseView> {
        match self.read_at(at, scope, tenant, ReadPurpose::Deleting, scope.adopt.as_ref()).await {
            (_, DatabaseView::Facts(facts)) => Ok(facts),
            (_, view @ (DatabaseView::Unknown(_) | DatabaseView::Unplaced(_))) => Err(view),
            // This affects the tenants in that instance. This Tenant is requeued.
            (_, DatabaseView::Changed { .. }) => {
                Err(read_error(ErrorClass::Transient, "an instance has just been replaced"))
            }
        }
    }

    async fn read(&self, at: usize, scope: &TenantScope, tenant: &TenantId) -> SearchResult<'_> {
        let purpose = match (scope.claim.deleting, scope.suspend) {
            (true, _) => ReadPurpose::Deleting,
            (false, true) => ReadPurpose::Suspending,
            (false, false) => ReadPurpose::Serving,
        };
        self.read_at(at, scope, tenant, purpose, scope.adopt.as_ref().filter(|_| purpose != ReadPurpose::Deleting))
            .await
    }

    async fn read_at(
        &self,
        at: usize,
        scope: &TenantScope,
        tenant: &TenantId,
        purpose: ReadPurpose,
        adopt: Option<&Uid>,
    ) -> SearchResult<'_> {
        let Some(breaker) = self.instances.breakers().get(at) else {
            return (None, read_error(ErrorClass::Bug, "there is no such instance"));
        };
        let expected = match breaker.state() {
            BreakerState::Closed(id) => id,
            refusing @ (BreakerState::Open(_) | BreakerState::Changed { .. }) => {
                return (Some(breaker), refusing.view().unwrap_or_else(|| read_error(ErrorClass::Bug, "")));
            }
        };
        let observed = match scope.reserve {
            true => breaker.database.observe_adopting(tenant, purpose, adopt).await,
            false => breaker.database.observe_unreserved(tenant, purpose, adopt).await,
        };
        let view = match observed {
            Ok(facts) if facts.database_id == expected => DatabaseView::Facts(facts),
            Ok(facts) => {
                // The database was replaced during the connection. The breaker opens, and the instance is checked again.
                let note = format!("the database changed from {expected} to {}", facts.database_id);
                breaker.trip(ReadError::new(ErrorClass::Transient, note));
                DatabaseView::Changed { expected, found: Some(facts.database_id) }
            }
            Err(error) => {
                note_database_error(breaker, &error);
                DatabaseView::Unknown(ReadError {
                    reason: error.reason(),
                    ..ReadError::new(error.class, error.to_string())
                })
            }
        };
        (Some(breaker), view)
    }
}

/// The view of an instance that can't be used.
fn unavailable(breaker: &CircuitBreaker) -> Option<DatabaseView> {
    breaker.state().view()
}

fn read_error(class: ErrorClass, note: impl Into<String>) -> DatabaseView {
    DatabaseView::Unknown(ReadError::new(class, note))
}
