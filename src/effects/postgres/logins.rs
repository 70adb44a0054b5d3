//! The agent API's logins in every cell: reading them, and the transactions of a rotation.

use super::{
    Database, EpochFence, PgError, PgErrorKind,
    instance::parse_one,
    render::{Statements, literals, optional},
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
    /// Reads the logins of every cell. One round trip.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_logins(&self) -> Result<Vec<LoginFacts>, PgError> {
        const STEP: &str = "reading the logins";
        let rows = self
            .read(STEP, |sql| {
                sql.as_base()?;
                sql.add(
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

    /// Sets the password of the login that is not in use, and enables it. `expected`: id of the password that was in use when
    /// the step was planned. Idempotent.
    ///
    /// # Errors
    /// `Transient` if another password is in use now; `Conflict` if the role does not exist or has another owner.
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
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            sql.lock_cells();
            let given = literals([slot.as_str(), &id.to_string()])?;
            let expected = optional(expected.map(|id| id.to_string()).as_deref())?;
            let verifier = quote_literal(&verifier)?;
            let asked = [requests.rotation.as_deref(), requests.revocation.as_deref()].map(optional);
            let [rotation, revocation] = asked;
            let (rotation, revocation) = (rotation?, revocation?);
            sql.add(&format!(
                "SELECT agent_tenancy.set_login({cell}, {given}, {expected}, {verifier}, {rotation}, {revocation});"
            ));
            Ok(())
        };
        match self.change(STEP, write).await {
            Err(error) if error.kind != PgErrorKind::AlreadyDone => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Disables the login that is not in use, if `id` is the password in use. Fails if a session uses the login, unless
    /// `force` is set.
    ///
    /// # Errors
    /// `Transient` if a session uses the login, or another password is in use now.
    pub async fn perform_lock_login(
        &self,
        cell: CellNumber,
        slot: LoginSlot,
        id: Option<LoginId>,
        force: bool,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let fence = fence.clone();
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            sql.lock_cells();
            let (slot, id) = (quote_literal(slot.as_str())?, optional(id.map(|id| id.to_string()).as_deref())?);
            sql.add(&format!("SELECT agent_tenancy.lock_login({cell}, {slot}, {id}, {force});"));
            Ok(())
        };
        self.change("locking a login", write).await.map(drop)
    }

    /// Terminates the sessions of a disabled login. Only the role itself may do that, so the base role switches to it.
    ///
    /// # Errors
    /// When the database can't be changed.
    pub async fn perform_end_sessions(
        &self,
        cell: CellNumber,
        slot: LoginSlot,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let fence = fence.clone();
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            sql.lock_cells();
            let roles = CellRoles::of(sql.prefix(), cell);
            let (login, name) = (quote_ident(roles.login(slot))?, quote_literal(roles.login(slot))?);
            let base = quote_ident(&base_role(sql.prefix()))?;
            let only_set = sql.server().only_set();
            sql.add(&format!("SELECT agent_tenancy.check_login({cell}, {name});"));
            sql.add(&format!("GRANT {login} TO {base}{only_set};\nSET LOCAL ROLE {login};"));
            sql.add(&format!(
                "SELECT pg_terminate_backend(s.pid) FROM pg_stat_activity s JOIN pg_roles r ON r.rolname = s.usename \
                 WHERE r.rolname = {name} AND NOT r.rolcanlogin;"
            ));
            sql.as_base()?;
            sql.add(&format!("REVOKE {login} FROM {base};"));
            Ok(())
        };
        self.change("ending a login's sessions", write).await.map(drop)
    }
}

/// The SCRAM verifier of a password. The password itself does not leave this process.
pub(super) async fn verifier(step: &'static str, password: &KeyBytes) -> Result<String, PgError> {
    let mut salt = [0_u8; 16];
    rand::fill(&mut salt).map_err(|_| PgError::bug(step, "the system provides no random bytes"))?;
    let password = password.clone();
    // It takes a few milliseconds of CPU time, which would block other tasks.
    let computed = tokio::task::spawn_blocking(move || render_verifier(password.expose(), &salt)).await;
    Ok(computed.map_err(|_| PgError::bug(step, "the computation of the verifier was canceled"))??)
}
