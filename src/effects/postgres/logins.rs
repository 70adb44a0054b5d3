//! The agent API's logins: how they stand in every cell, and each change of a rotation as one transaction.

use super::{
    Database, EpochFence, PgError, Script, done_before,
    instance::parse_one,
    script::{literals, optional},
};
use crate::{
    domain::{
        cells::{CellRoles, base_role},
        ident::{CellNumber, LoginId},
        keys::KeyBytes,
        logins::{LoginSlot, NextLogin},
        scram::render_verifier,
        sql::{quote_ident, quote_literal},
    },
    plan::instance::logins::LoginFacts,
};
use aws_lc_rs::rand;

impl Database {
    /// How the logins of every cell stand. One round trip.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_logins(&self) -> Result<Vec<LoginFacts>, PgError> {
        const STEP: &str = "looking at the logins";
        let rows = self
            .read(STEP, |script| {
                script.as_base()?;
                script.add(
                    "WITH used AS (SELECT s.usename AS name, count(*) AS sessions FROM pg_stat_activity s \
                     WHERE s.usename IS NOT NULL GROUP BY 1), \
                     logins AS (SELECT r.rolname AS name, json_build_object('can_login', r.rolcanlogin, \
                     'sessions', coalesce(u.sessions, 0)) AS state FROM pg_roles r LEFT JOIN used u ON u.name = r.rolname) \
                     SELECT coalesce(json_agg(json_build_object('cell', c.number, 'active', c.active_login, \
                     'login_id', c.login_id, \
                     'age_seconds', greatest(0, floor(extract(epoch FROM now() - c.login_since)))::bigint, \
                     'handled', json_build_object('rotation', c.handled_rotation, 'revocation', c.handled_revocation), \
                     'a', (SELECT l.state FROM logins l WHERE l.name = c.login_a), \
                     'b', (SELECT l.state FROM logins l WHERE l.name = c.login_b)) ORDER BY c.number), '[]'::json)::text \
                     FROM agent_tenancy.cells c;",
                );
                Ok(())
            })
            .await?;
        parse_one(STEP, &rows)
    }

    /// Gives the login that is not in use its password, and lets it log in; `expected` is the password that is in use as
    /// it was seen. Once is enough, twice does no harm.
    ///
    /// # Errors
    /// `Transient` if another password is in use by now; `Conflict` if the role is gone or somebody else's.
    pub async fn perform_set_login(
        &self,
        cell: CellNumber,
        next: &NextLogin,
        expected: Option<LoginId>,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        const STEP: &str = "setting a login";
        let verifier = verifier(STEP, &next.password).await?;
        let (slot, id, requests, fence) = (next.slot, next.id, next.requests.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            script.lock_cells();
            let given = literals([slot.as_str(), &id.to_string()])?;
            let expected = optional(expected.map(|id| id.to_string()).as_deref())?;
            let verifier = quote_literal(&verifier)?;
            let asked = [requests.rotation.as_deref(), requests.revocation.as_deref()].map(optional);
            let [rotation, revocation] = asked;
            let (rotation, revocation) = (rotation?, revocation?);
            script.add(&format!(
                "SELECT agent_tenancy.set_login({cell}, {given}, {expected}, {verifier}, {rotation}, {revocation});"
            ));
            Ok(())
        };
        done_before(self.change(STEP, write).await.map(drop))
    }

    /// Takes the right to log in from the login that is not in use, while `id` is the one that is. Unless `force`, only if
    /// no session uses it.
    ///
    /// # Errors
    /// `Transient` if a session uses it, or another password is in use by now.
    pub async fn perform_lock_login(
        &self,
        cell: CellNumber,
        slot: LoginSlot,
        id: Option<LoginId>,
        force: bool,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let fence = fence.clone();
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            script.lock_cells();
            let (slot, id) = (quote_literal(slot.as_str())?, optional(id.map(|id| id.to_string()).as_deref())?);
            script.add(&format!("SELECT agent_tenancy.lock_login({cell}, {slot}, {id}, {force});"));
            Ok(())
        };
        self.change("locking a login", write).await.map(drop)
    }

    /// Ends the sessions of a login that can't log in any more. Who may end a session is the role itself, so base becomes
    /// it for that moment.
    ///
    /// # Errors
    /// As any change.
    pub async fn perform_end_sessions(
        &self,
        cell: CellNumber,
        slot: LoginSlot,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let fence = fence.clone();
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            script.lock_cells();
            let roles = CellRoles::of(script.prefix(), cell);
            let (login, name) = (quote_ident(roles.login(slot))?, quote_literal(roles.login(slot))?);
            let base = quote_ident(&base_role(script.prefix()))?;
            let only_set = script.server().only_set();
            script.add(&format!("SELECT agent_tenancy.check_login({cell}, {name});"));
            script.add(&format!("GRANT {login} TO {base}{only_set};\nSET LOCAL ROLE {login};"));
            script.add(&format!(
                "SELECT pg_terminate_backend(s.pid) FROM pg_stat_activity s JOIN pg_roles r ON r.rolname = s.usename \
                 WHERE r.rolname = {name} AND NOT r.rolcanlogin;"
            ));
            script.as_base()?;
            script.add(&format!("REVOKE {login} FROM {base};"));
            Ok(())
        };
        self.change("ending a login's sessions", write).await.map(drop)
    }
}

/// The verifier of a password, which is all that leaves this process.
pub(super) async fn verifier(step: &'static str, password: &KeyBytes) -> Result<String, PgError> {
    let mut salt = [0_u8; 16];
    rand::fill(&mut salt).map_err(|_| PgError::bug(step, "the machine gives no randomness"))?;
    let password = password.clone();
    // A few milliseconds of computing: not on a thread that serves everybody.
    let computed = tokio::task::spawn_blocking(move || render_verifier(password.expose(), &salt)).await;
    Ok(computed.map_err(|_| PgError::bug(step, "computing the verifier ended early"))??)
}
