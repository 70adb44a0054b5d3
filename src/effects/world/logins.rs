//! The logins of the cells in the registry and in the database, and the steps that rotate them.

use super::live::LiveWorld;
use crate::effects::{
    database::breaker::CircuitBreaker,
    entropy::{draw_login_id, draw_password},
    error::EffectError,
    kubernetes::entries::Beside,
    postgres::CellLogin,
};
use crate::{
    domain::{
        cells::CellRoles,
        class::ErrorClass,
        entry::{CellEntry, Entry, TenantState, cell_entry_name},
        ident::{CellNumber, Incarnation, Version},
        logins::NextLogin,
    },
    plan::{
        instance::logins::{CellEntryView, CellView, EntryFacts, LoginStep},
        step::Done,
    },
};
use std::collections::{BTreeMap, BTreeSet};

impl LiveWorld {
    /// Reads the logins of every cell. One round trip; the registry is read from the cache.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_logins(&self, breaker: &CircuitBreaker) -> Result<Vec<CellView>, EffectError> {
        let open = self.open(breaker)?;
        let all = open.done(open.database.observe_logins().await)?;
        let mut tenants = self.tenants_by_cell(breaker);
        let view = |facts: crate::plan::instance::logins::LoginFacts| CellView {
            entry: self.view_cell_entry(breaker, facts.cell),
            tenants: tenants.remove(&facts.cell).unwrap_or_default(),
            facts,
        };
        Ok(all.into_iter().map(view).collect())
    }

    /// The tenants in service, by cell.
    fn tenants_by_cell(&self, breaker: &CircuitBreaker) -> BTreeMap<CellNumber, BTreeSet<Incarnation>> {
        let mut all: BTreeMap<CellNumber, BTreeSet<Incarnation>> = BTreeMap::new();
        for (_, record) in self.registry.cache.all() {
            let Ok(Entry::Tenant(entry)) = &record.entry else { continue };
            if entry.database.location.instance == breaker.name() && entry.state == TenantState::Active {
                all.entry(entry.database.location.cell).or_default().insert(entry.incarnation);
            }
        }
        all
    }

    fn view_cell_entry(&self, breaker: &CircuitBreaker, cell: CellNumber) -> CellEntryView {
        match self.cell_secret(breaker, cell) {
            None => CellEntryView::Missing,
            Some(Err(_)) => CellEntryView::Damaged,
            Some(Ok((entry, beside, version))) => {
                let roles = CellRoles::of(&breaker.database.settings().name_prefix, cell);
                match roles.slot_of(&entry.user) {
                    None => CellEntryView::Damaged,
                    Some(slot) => CellEntryView::Read(EntryFacts {
                        version,
                        slot,
                        asked: beside.login_requests(),
                        mark: entry.login,
                        next: beside.next,
                    }),
                }
            }
        }
    }

    /// The Secret of a cell: the entry, the operator's data beside it, its version.
    fn cell_secret(
        &self,
        breaker: &CircuitBreaker,
        cell: CellNumber,
    ) -> Option<Result<(CellEntry, Beside, Version), EffectError>> {
        let name = cell_entry_name(breaker.name(), cell);
        let record = self.registry.record(&name)?;
        let beside = record.beside.as_deref().cloned().unwrap_or_default();
        Some(match &record.entry {
            Ok(Entry::Cell(entry)) => Ok((entry.clone(), beside, record.version)),
            Ok(_) | Err(_) => Err(EffectError::new(ErrorClass::Conflict, format!("entry '{name}' can't be read"))),
        })
    }

    /// Performs one step. Each step is idempotent. An outdated step fails, because it checks the version of the Secret or the
    /// id of the password in use.
    ///
    /// # Errors
    /// When the database or the Secret can't be changed.
    pub async fn perform_login_step(
        &self,
        breaker: &CircuitBreaker,
        view: &CellView,
        step: &LoginStep,
    ) -> Result<Done, EffectError> {
        let open = self.open(breaker)?;
        let (cell, fence, database) = (view.facts.cell, &open.writer.fence, open.database);
        match step {
            LoginStep::Restore => self.perform_create_cell(breaker, cell, &draw_password()?).await,
            LoginStep::Prepare { slot, requests, keep } => {
                let (entry, beside, version) = self.unchanged(breaker, view)?;
                let (id, password) = match keep {
                    Some(kept) => (kept.id, kept.password.clone()),
                    None => (draw_login_id(), draw_password()?),
                };
                let next = NextLogin { id, slot: *slot, password, requests: requests.clone() };
                self.registry.perform_replace_cell(entry, &Beside { next: Some(next), ..beside }, version).await
            }
            LoginStep::Set(next) => {
                open.changed(database.perform_set_login(cell, next, view.facts.login_id, fence).await)
            }
            LoginStep::Switch(next) => {
                let (_, beside, version) = self.unchanged(breaker, view)?;
                let login = CellLogin { slot: next.slot, id: Some(next.id), password: next.password.clone() };
                let entry =
                    self.cell_entry(breaker, cell, open.writer.database_id, &login, next.requests.revocation.is_some());
                self.registry.perform_replace_cell(entry, &Beside { next: None, ..beside }, version).await
            }
            LoginStep::Lock { slot, force, .. } => {
                open.changed(database.perform_lock_login(cell, *slot, view.facts.login_id, *force, fence).await)
            }
            LoginStep::EndSessions { slot } => open.changed(database.perform_end_sessions(cell, *slot, fence).await),
        }
    }

    /// The Secret that a step was planned from. Fails if it has changed since.
    fn unchanged(
        &self,
        breaker: &CircuitBreaker,
        view: &CellView,
    ) -> Result<(CellEntry, Beside, Version), EffectError> {
        let moved = || EffectError::new(ErrorClass::Transient, "the entry of the cell has changed");
        let CellEntryView::Read(seen) = &view.entry else { return Err(moved()) };
        let (entry, beside, version) = self.cell_secret(breaker, view.facts.cell).ok_or_else(moved)??;
        if version == seen.version { Ok((entry, beside, version)) } else { Err(moved()) }
    }
}
