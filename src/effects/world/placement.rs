//! Finding the database of a Tenant, and looking there.

use super::{
    TenantScope,
    live::{LiveWorld, Open, note_database_error},
};
use crate::effects::{
    database::breaker::{BreakerState, CircuitBreaker},
    error::EffectError,
    postgres::{Look, PgError},
};
use crate::{
    domain::{
        class::ErrorClass,
        ident::{TenantId, Uid},
    },
    plan::{
        observed::{DatabaseView, LedgerFacts, ReadError, Seen, unplaced::Unplaced},
        placement::{PlacementCandidate, PlacementRequest, Search, resolve_holder},
        step::Done,
        takeover_request::Permission,
    },
};
use futures::future::join_all;

/// The instance that was looked at, if there is one, and what it says.
type SearchResult<'a> = (Option<&'a CircuitBreaker>, DatabaseView);

impl Open<'_> {
    /// What came of a change.
    pub(crate) fn changed(&self, result: Result<(), PgError>) -> Result<Done, EffectError> {
        self.done(result).map(|()| Done::Plain)
    }
}

impl LiveWorld {
    /// What the database of a Tenant holds for it, outside of a pass; and the scope of changes there.
    pub async fn observe_database(&self, scope: TenantScope) -> (TenantScope, DatabaseView) {
        let (home, view) = self.observe_home(&scope).await;
        let home = home.map(|breaker| breaker.name().to_owned());
        (TenantScope { home, ..scope }, view)
    }

    /// Records that a Tenant may take over what another cluster's has, and who said so.
    ///
    /// # Errors
    /// As any change of the database; `Transient` where the row is not any more as it was seen.
    pub async fn perform_allow_takeover(
        &self,
        scope: &TenantScope,
        permission: &Permission,
        allowed_by: &str,
    ) -> Result<(), EffectError> {
        let open = self.open_home(scope)?;
        open.done(open.database.perform_allow_takeover(permission, &scope.object, allowed_by, &open.fence).await)
    }

    /// The instance to which the changes of this pass go.
    pub(crate) fn home(&self, scope: &TenantScope) -> Result<&CircuitBreaker, EffectError> {
        let breaker = scope.home.as_deref().and_then(|name| self.instances.breaker(name));
        breaker.ok_or_else(|| EffectError::new(ErrorClass::Bug, "a change of no database"))
    }

    /// The same, open.
    pub(crate) fn open_home(&self, scope: &TenantScope) -> Result<Open<'_>, EffectError> {
        self.open(self.home(scope)?)
    }

    /// The same, for a change that makes something of a tenant id that may be nowhere yet.
    pub(crate) fn open_to_make(&self, scope: &TenantScope, tenant: &TenantId) -> Result<Open<'_>, EffectError> {
        let open = self.open_home(scope)?;
        if !self.instances.begin(&scope.object.uid, tenant, open.name()) {
            let note = "meanwhile the tenant is to be made in another instance";
            return Err(EffectError::new(ErrorClass::Transient, note));
        }
        Ok(open)
    }

    /// Looks for the Tenant's data where it is, or where it would go.
    pub(crate) async fn observe_home(&self, scope: &TenantScope) -> SearchResult<'_> {
        let Some(tenant) = &scope.tenant_id else {
            // Nothing is made for it; with one instance it is told what is known of that one.
            let breaker = self.instances.breakers().first().filter(|_| !self.instances.are_several());
            return (
                breaker,
                breaker.and_then(shut).unwrap_or_else(|| read_error(ErrorClass::Invalid, "the tenant has no valid id")),
            );
        };
        let recorded = scope.recorded.instance.clone().or_else(|| self.registered_instance(scope, tenant));
        let request = PlacementRequest {
            recorded: recorded.as_deref(),
            named: scope.named.as_deref(),
            deleting: scope.claim.deleting,
            ..PlacementRequest::default()
        };
        let (search, candidates) = self.instances.search(&scope.object.uid, tenant, request);
        match search {
            Search::At(at) => self.look(at, scope, tenant).await,
            Search::Out(at) => {
                let breaker = self.instances.breakers().get(at);
                let again = || read_error(ErrorClass::Transient, "the database has just come back");
                (breaker, breaker.and_then(shut).unwrap_or_else(again))
            }
            Search::Ask { others, chosen } => {
                self.look_around(scope, tenant, (request, &candidates), &others, chosen).await
            }
            Search::Nowhere(unplaced) => (None, DatabaseView::Unplaced(unplaced)),
        }
    }

    /// The instance that the Tenant's registry entry names.
    fn registered_instance(&self, scope: &TenantScope, tenant: &TenantId) -> Option<String> {
        match self.registry.observe_tenant(tenant, &scope.object.uid) {
            Seen::Ours(view) => view.entry.map(|entry| entry.database.instance),
            Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => None,
        }
    }

    /// Asks several instances at once, and then looks where the tenant is, or at the chosen one.
    async fn look_around(
        &self,
        scope: &TenantScope,
        tenant: &TenantId,
        (request, candidates): (PlacementRequest<'_>, &[PlacementCandidate]),
        others: &[usize],
        chosen: Result<usize, Unplaced>,
    ) -> SearchResult<'_> {
        let look_at_chosen = async {
            match &chosen {
                Ok(at) => Some((*at, self.look(*at, scope, tenant).await)),
                Err(_) => None,
            }
        };
        let ask = |at: usize| async move { (at, self.ask(at, scope, tenant).await) };
        let (first, asked) = tokio::join!(look_at_chosen, join_all(others.iter().copied().map(ask)));
        let mut answers: Vec<(usize, &LedgerFacts)> = Vec::new();
        if let Some((at, (_, DatabaseView::Facts(facts)))) = &first {
            answers.push((*at, facts));
        }
        for (at, answer) in &asked {
            match answer {
                Ok(facts) => answers.push((*at, facts)),
                // It has just gone out; the next look knows.
                Err(view) => return (None, view.clone()),
            }
        }
        answers.sort_by_key(|(at, _)| *at);
        match resolve_holder(request, (&scope.object.uid, scope.adopt.as_ref()), candidates, &answers) {
            Err(unplaced) => {
                self.instances.note_found(&scope.object.uid, None);
                (None, DatabaseView::Unplaced(unplaced))
            }
            Ok(Some(holder)) => {
                self.instances.note_found(&scope.object.uid, Some(holder));
                match first {
                    Some((at, sight)) if at == holder => sight,
                    Some(_) | None => self.look(holder, scope, tenant).await,
                }
            }
            Ok(None) => match (first, chosen) {
                (Some((_, sight)), _) => sight,
                (None, Err(unplaced)) => (None, DatabaseView::Unplaced(unplaced)),
                (None, Ok(_)) => (None, read_error(ErrorClass::Bug, "the chosen instance was not looked at")),
            },
        }
    }

    /// What an instance holds of a tenant id: no place is offered there.
    async fn ask(&self, at: usize, scope: &TenantScope, tenant: &TenantId) -> Result<LedgerFacts, DatabaseView> {
        match self.look_in(at, tenant, Look::Deleting, scope.adopt.as_ref()).await {
            (_, DatabaseView::Facts(facts)) => Ok(facts),
            (_, view @ (DatabaseView::Unknown(_) | DatabaseView::Unplaced(_))) => Err(view),
            // Which is news for the tenants in it, and here a reason to look again.
            (_, DatabaseView::Changed { .. }) => Err(read_error(ErrorClass::Transient, "an instance has just changed")),
        }
    }

    async fn look(&self, at: usize, scope: &TenantScope, tenant: &TenantId) -> SearchResult<'_> {
        let look = match (scope.claim.deleting, scope.suspend) {
            (true, _) => Look::Deleting,
            (false, true) => Look::Suspending,
            (false, false) => Look::Serving,
        };
        self.look_in(at, tenant, look, scope.adopt.as_ref().filter(|_| look != Look::Deleting)).await
    }

    async fn look_in(&self, at: usize, tenant: &TenantId, look: Look, adopt: Option<&Uid>) -> SearchResult<'_> {
        let Some(breaker) = self.instances.breakers().get(at) else {
            return (None, read_error(ErrorClass::Bug, "there is no such instance"));
        };
        let expected = match breaker.state() {
            BreakerState::Open(id) => id,
            closed @ (BreakerState::Closed(_) | BreakerState::Changed { .. }) => {
                return (Some(breaker), closed.view().unwrap_or_else(|| read_error(ErrorClass::Bug, "")));
            }
        };
        let view = match breaker.database.observe_adopting(tenant, look, adopt).await {
            Ok(facts) if facts.database_id == expected => DatabaseView::Facts(facts),
            Ok(facts) => {
                // Replaced while we were connected: the gate closes and is looked at anew.
                let note = format!("the database changed from {expected} to {}", facts.database_id);
                breaker.trip(ReadError { class: ErrorClass::Transient, note });
                DatabaseView::Changed { expected, found: Some(facts.database_id) }
            }
            Err(error) => {
                note_database_error(breaker, &error);
                read_error(error.class, error.to_string())
            }
        };
        (Some(breaker), view)
    }
}

/// What is seen of an instance that can't be asked.
fn shut(breaker: &CircuitBreaker) -> Option<DatabaseView> {
    breaker.state().view()
}

fn read_error(class: ErrorClass, note: impl Into<String>) -> DatabaseView {
    DatabaseView::Unknown(ReadError { class, note: note.into() })
}
