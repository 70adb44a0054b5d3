//! Finding out what would be sent: reads are made, changes are rendered as ever and kept instead of sent.

use super::{Database, allocator::Allocator};
use std::sync::{Arc, Mutex, PoisonError};

/// What stands in place of a password's verifier.
const VERIFIER: &str = "<SCRAM verifier of the new password>";

/// Changes that were not sent.
#[derive(Clone, Default)]
pub(super) struct Unsent(Arc<Mutex<Vec<String>>>);

impl Unsent {
    pub(super) fn keep(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(hide_verifiers(text));
    }
}

impl Database {
    /// The same database over the same connections, for rehearsals: no change ever reaches it. It counts cells for
    /// itself, so that no place is held for a tenant that nobody makes.
    #[must_use]
    pub fn for_dry_run(&self) -> Self {
        let cells = Arc::new(Allocator::new(self.settings.tenants_per_cell));
        Self { cells, unsent: Some(Unsent::default()), ..self.clone() }
    }

    /// The changes since the last call, each the text of one transaction. Without the verifiers of passwords.
    pub fn take_unsent(&self) -> Vec<String> {
        let Some(unsent) = &self.unsent else { return Vec::new() };
        std::mem::take(&mut *unsent.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Replaces every literal that holds a SCRAM verifier (RFC 5803).
fn hide_verifiers(text: &str) -> String {
    const START: &str = "'SCRAM-SHA-256$";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(START) {
        // Verifiers have no quotes; without an end nothing of it is shown.
        let (_, tail) = after.split_once('\'').unwrap_or_default();
        shown.extend([before, "'", VERIFIER, "'"]);
        rest = tail;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::DeletionPolicy,
        domain::{
            ident::{CellNumber, DatabaseId, Epoch, Incarnation, ObjectId, TenantId, Uid},
            keyring::KeyringMark,
            keys::KeyBytes,
            logins::LoginSlot,
        },
        effects::postgres::{CellLogin, EpochFence},
        plan::step::{CloseDatabase, Provision},
        settings::{Settings, operator::OperatorSettings},
    };
    use uuid::Uuid;

    #[test]
    fn no_verifier_is_shown_and_all_else_is() {
        let text = "SELECT f('a', 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy');\nSELECT 'SCRAM-SHA-256$cut";
        assert_eq!(hide_verifiers(text), format!("SELECT f('a', '{VERIFIER}');\nSELECT '{VERIFIER}'"),);
        assert_eq!(hide_verifiers("SELECT 'SCRAM'"), "SELECT 'SCRAM'");
    }

    /// Nothing listens there: whatever is sent fails.
    fn nowhere() -> Database {
        let mut settings = OperatorSettings::default();
        settings.database.port = 1;
        assert_eq!(settings.check(), Ok(()));
        Database::new(settings.database)
    }

    #[tokio::test]
    async fn a_change_is_kept_instead_of_sent_and_reads_are_not() {
        let database = nowhere().for_dry_run();
        let fence = EpochFence { cluster_id: "cluster".into(), epoch: Epoch(7) };
        let password = KeyBytes::new(b"canary-password-canary-password".to_vec());
        let login = CellLogin { slot: LoginSlot::A, id: None, password };
        database.perform_create_cell(CellNumber(3), &login, &fence).await.unwrap();
        let [cell] = database.take_unsent().try_into().unwrap();
        assert!(cell.contains("agent_tenancy.fence('cluster', 7)"), "{cell}");
        assert!(cell.contains(VERIFIER) && !cell.contains("SCRAM-SHA-256$") && !cell.contains("canary"), "{cell}");

        let owner = ObjectId { namespace: "shop".into(), name: "acme".into(), uid: Uid("<uid>".into()) };
        let provision = Provision {
            tenant_id: TenantId::parse("acme").unwrap(),
            incarnation: Incarnation(Uuid::from_u128(1)),
            cell: CellNumber(3),
            schema: "at_acme".into(),
            role: "at_acme".into(),
            schema_version: 1,
            keyring: KeyringMark { version: 1, digest: "digest".into() },
            replaces: None,
        };
        let id = DatabaseId(Uuid::from_u128(2));
        database.perform_provision(&provision, &owner, id, &fence).await.unwrap();
        let close = CloseDatabase {
            tenant_id: provision.tenant_id.clone(),
            policy: DeletionPolicy::Delete,
            row: None,
            incarnation: provision.incarnation,
            replaces: None,
            archive_seconds: 60,
        };
        database.perform_close(&close, &owner, id, &fence).await.unwrap();
        let [made, closed] = database.take_unsent().try_into().unwrap();
        for part in ["CREATE ROLE \"at_acme\"", "CREATE SCHEMA \"at_acme\"", "'<uid>'", "COMMENT ON SCHEMA"] {
            assert!(made.contains(part), "{part} in {made}");
        }
        assert!(closed.contains("agent_tenancy.bury('acme'"), "{closed}");
        assert!(database.observe_cells().await.is_err(), "a read was not sent");
        assert_eq!((database.round_trips(), database.take_unsent()), (0, Vec::new()));
    }
}
