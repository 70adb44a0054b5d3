//! What follows from each reason: what the operator does by itself, and what a user can do.

use super::Reason;

/// What follows from a reason. Markdown, one line each; empty: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What the operator does by itself.
    pub operator: &'static str,
    /// What a user can do.
    pub user: &'static str,
}

const fn advice(operator: &'static str, user: &'static str) -> Advice {
    Advice { operator, user }
}

impl Reason {
    /// What follows from it.
    pub const fn advice(self) -> Advice {
        match self {
            Self::Accepted
            | Self::Provisioned
            | Self::Issued
            | Self::Published
            | Self::Served
            | Self::Ready
            | Self::KeysRotated
            | Self::Adopted
            | Self::Available
            | Self::UpToDate
            | Self::WithinLimits
            | Self::ArchiveDropped
            | Self::DataDeleted => advice("", ""),
            Self::InvalidSpec => advice(
                "keeps serving what was accepted before; retries when the object changes",
                "correct the field that the message names",
            ),
            Self::UndecodableSpec => advice(
                "keeps serving what was accepted before; still deletes the object if asked to",
                "correct the field that the message names; install the CRDs of this version if they are older",
            ),
            Self::AgentConfigNotFound => advice(
                "goes on as soon as the AgentConfig is there",
                "create the AgentConfig in the Tenant's namespace, or refer to another one",
            ),
            Self::AgentConfigNotPublished => {
                advice("goes on as soon as the AgentConfig is published", "look at the conditions of the AgentConfig")
            }
            Self::Conflict => advice(
                "does not change the other owner's objects; retries every 5 minutes and when the owner is deleted",
                "choose another `spec.tenantId` (for a new Tenant), or delete what the message names; in a rebuilt cluster, name the lost one in `previousClusterIds`, or run `kubectl tenant takeover`",
            ),
            Self::CredentialNotFound => advice(
                "retries automatically",
                "create the Secret, or the key in it, that `spec.provider.apiKeySecretRef` names",
            ),
            Self::Pending => {
                advice("goes on when the earlier part is ready", "see the first condition that isn't True")
            }
            Self::Provisioning | Self::Progressing => advice("works on it", "wait"),
            Self::DatabaseUnavailable => advice(
                "probes the database once for all Tenants, and continues with them when it answers; what is served stays served",
                "look at the database, the network between, and `database.*` in the operator's settings",
            ),
            Self::PermissionDenied => advice(
                "tries again, at first every second, later every 5 minutes",
                "as the database's administrator run `config/sql/bootstrap.sql` again; or upgrade the chart, for its roles",
            ),
            Self::TlsFailed => advice(
                "sends nothing to the database; tries again, at first every second, later every 5 minutes",
                "correct what the message names: the server's certificate, or `database.sslRootCertFile`, `database.sslMode` and `database.host` in the operator's settings",
            ),
            Self::DataLost => advice(
                "creates nothing and deletes nothing",
                "restore the database from a backup, and the operator continues; or accept the loss with the annotation of the message: the tenant then starts with no data",
            ),
            Self::DatabaseChanged => advice(
                "creates nothing in this database, also not for new Tenants",
                "point `database.*` in the operator's settings at the right database, or restore it; if it is lost for good, name it in `database.lostDatabaseId`, then annotate each Tenant as its message says",
            ),
            Self::InstanceNotFound => advice(
                "creates nothing and deletes nothing; continues once it is started with settings that name the instance",
                "name the instance again in `database` or `databases` of the operator's settings; for a new Tenant, name one of those that the message lists",
            ),
            Self::InstanceNotAccepting => advice(
                "creates nothing",
                "let an instance take new tenants (`acceptsNewTenants` in the operator's settings), or add one; or name another one in a new Tenant",
            ),
            Self::RetainedDataExists => advice(
                "does not touch the kept data",
                "take the data over with `spec.database.adopt.previousUid` (the message names the UID), or choose another \
                 `spec.tenantId`",
            ),
            Self::AdoptionRefused => advice(
                "creates nothing",
                "name the UID of a deleted Tenant of this id with kept data, or remove `spec.database.adopt`",
            ),
            Self::DataRetained => advice(
                "keeps the data",
                "a new Tenant of this id takes the data over with `spec.database.adopt.previousUid`",
            ),
            Self::DataArchived => advice(
                "drops the archive when its time is over",
                "a new Tenant of this id takes the data over with `spec.database.adopt.previousUid`",
            ),
            Self::Rotating => advice("lets the new key sign as soon as every replica knows it", "wait"),
            Self::RotationWaiting => advice(
                "keeps the old key signing until the replica knows the new one, however long that takes",
                "look at the replica that the message names; delete its Pod if it hangs",
            ),
            Self::KeysRevoked => {
                advice("publishes a new key that signs next", "have every signer read the Secret again")
            }
            Self::RevocationPending => advice(
                "waits for that replica; all others refuse the key already",
                "look at the replica that the message names; delete its Pod if it hangs",
            ),
            Self::WaitingForReplicas => {
                advice("waits for their acknowledgement", "if it lasts, look at the replicas that the message names")
            }
            Self::NoReplicas => advice(
                "goes on when one is ready",
                "start the agent API; in a cluster `agentApi.podSelector` must match its Pods",
            ),
            Self::Quarantined => advice(
                "writes the entry again if it differs from the spec",
                "see why the replica refuses the entry; it serves the last good one meanwhile",
            ),
            Self::Suspended => {
                advice("keeps data, keys and entry in order", "`kubectl tenant resume NAME` brings it back")
            }
            Self::Paused => advice(
                "doesn't touch the object, also where it should be repaired or deleted",
                "remove the annotation `agent-tenancy.dev/paused`",
            ),
            Self::Retrying => {
                advice("tries again after 1 s, 2 s, 4 s … up to 5 minutes", "if it lasts, act on what the message says")
            }
            Self::Deleting => {
                advice("deletes everything, step by step", "wait; `DeletionBlocked` says what holds it up")
            }
            Self::InUse => advice(
                "deletes it as soon as nothing refers to it",
                "let the Tenants that the message names refer to something else",
            ),
            Self::DrainingTransactions => advice(
                "waits at most `ackTimeoutSeconds` for them",
                "if it lasts, find the sessions that hold them in `pg_stat_activity`",
            ),
            Self::ReplicaTimedOut => advice(
                "went on without it",
                "look at the replica that the message names: it may act on an old state until it ends",
            ),
            Self::DriftRepaired => advice("repaired it", "find out who changes it by hand"),
            Self::Upgrading => advice("works on it, a few tenants at a time", "wait"),
            Self::UpgradeHalted => advice(
                "starts no other tenant; tenants that have the new tables keep them",
                "`kubectl tenant migrations` names the tenants and the causes; fix these, and request a retry for each",
            ),
            Self::NearLimit => advice(
                "continues; checks again every 5 minutes",
                "raise the limit that the message names before it is reached",
            ),
            Self::MigrationFailed => advice(
                "goes on serving the tenant with the tables that it has; halts the rollout when more than \
                 `migrations.maxFailures` fail",
                "fix the cause, then `kubectl annotate tenant NAME agent-tenancy.dev/retry-migration=…` with any new value; \
                 or ship a corrected file, which is tried in order",
            ),
            Self::MigrationChanged => advice(
                "goes on serving the tenant, and applies no other migration to it",
                "put the file back as it was applied, and make the change in a new file",
            ),
            Self::SchemaNewer => advice(
                "goes on serving the tenant, and neither migrates nor repairs its tables",
                "run an operator at least as new as the one that made them; put back the custom migrations that are missing",
            ),
            Self::DriftNotRepairable => advice(
                "repaired what its privileges suffice for; retries every 5 minutes",
                "run the statements of the message as a superuser of the database",
            ),
            Self::LossAccepted => advice(
                "creates the tenant again, and keeps the old schema under the name in the event",
                "drop the kept schema when it is no longer needed; the annotation may stay",
            ),
            Self::EntryChanged => advice(
                "nothing: the entry is derived from a valid spec",
                "make the spec valid, or put its last valid state back: the entry is written again at once",
            ),
            Self::InternalError => advice("tries again every 5 minutes", "report it, with the operator's log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_with_an_action_of_the_operator_has_one_for_a_user() {
        for reason in Reason::ALL {
            let Advice { operator, user } = reason.advice();
            assert_eq!(operator.is_empty(), user.is_empty(), "{reason}");
            for text in [operator, user] {
                assert!(!text.contains(['\n', '|']) && !text.ends_with('.'), "{reason}: a phrase for a table");
            }
        }
    }
}
