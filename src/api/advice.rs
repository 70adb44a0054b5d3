//! What follows from each reason: what the operator does by itself, and what a person can do.

use super::Reason;

/// What follows from a reason. Markdown, one line each; empty: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What the operator does by itself.
    pub operator: &'static str,
    /// What a person can do.
    pub person: &'static str,
}

const fn advice(operator: &'static str, person: &'static str) -> Advice {
    Advice { operator, person }
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
            | Self::Enough
            | Self::ArchiveDropped
            | Self::DataDeleted => advice("", ""),
            Self::InvalidSpec => advice(
                "keeps serving what was accepted before; looks again when the object changes",
                "correct the field that the message names",
            ),
            Self::UnreadableSpec => advice(
                "keeps serving what was accepted before; still deletes the object if asked to",
                "correct the field that the message names; install the CRDs of this version if they are older",
            ),
            Self::AgentConfigMissing => advice(
                "goes on as soon as the AgentConfig is there",
                "create the AgentConfig in the Tenant's namespace, or refer to another one",
            ),
            Self::AgentConfigNotPublished => {
                advice("goes on as soon as the AgentConfig is published", "look at the conditions of the AgentConfig")
            }
            Self::Conflict => advice(
                "changes nothing of the other owner's; looks again every 5 minutes and when the owner goes",
                "choose another `spec.tenantId` (for a new Tenant), or take away what the message names; in a cluster that was built anew, name the lost one in `previousClusterIds`, or run `kubectl tenant takeover`",
            ),
            Self::CredentialMissing => advice(
                "looks again by itself",
                "create the Secret, or the key in it, that `spec.provider.apiKeySecretRef` names",
            ),
            Self::Pending => {
                advice("goes on when the earlier part is ready", "look at the first condition that isn't True")
            }
            Self::Provisioning | Self::Progressing => advice("works on it", "wait"),
            Self::DatabaseUnavailable => advice(
                "tries once for all Tenants, and lets them go on when it answers; what is served stays served",
                "look at the database, the network between, and `database.*` in the operator's settings",
            ),
            Self::PermissionDenied => advice(
                "tries again, at first every second, later every 5 minutes",
                "as the database's administrator run `config/sql/bootstrap.sql` again; or upgrade the chart, for its roles",
            ),
            Self::Lost => advice(
                "makes nothing and deletes nothing",
                "restore the database from a backup, and everything goes on by itself; or give up what is lost with the annotation of the message: the tenant then begins with nothing",
            ),
            Self::DatabaseChanged => advice(
                "makes nothing in this database, for new Tenants neither",
                "point `database.*` in the operator's settings at the right database, or restore it; if it is lost for good, name it in `database.lostDatabaseId`, then annotate each Tenant as its message says",
            ),
            Self::InstanceUnknown => advice(
                "makes nothing and deletes nothing; goes on by itself once it is started with settings that name the instance",
                "name the instance again in `database` or `databases` of the operator's settings; for a new Tenant, name one of those that the message lists",
            ),
            Self::InstanceClosed => advice(
                "makes nothing",
                "let an instance take new tenants (`acceptsNewTenants` in the operator's settings), or add one; or name another one in a new Tenant",
            ),
            Self::Retained => advice(
                "makes nothing over the kept data",
                "take the data over with `spec.database.adopt.previousUid` (the message names the UID), or choose another \
                 `spec.tenantId`",
            ),
            Self::AdoptionRefused => advice(
                "makes nothing",
                "name the UID of a deleted Tenant of this id whose data is kept, or remove `spec.database.adopt`",
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
            Self::RotationHeld => advice(
                "keeps the old key signing until the replica knows the new one, however long that takes",
                "look at the replica that the message names; delete its Pod if it hangs",
            ),
            Self::KeysRevoked => {
                advice("publishes a new key that signs next", "have whoever signs read the Secret again")
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
                "take the annotation `agent-tenancy.dev/paused` away",
            ),
            Self::Retrying => {
                advice("tries again after 1 s, 2 s, 4 s … up to 5 minutes", "if it lasts, act on what the message says")
            }
            Self::Deleting => {
                advice("takes everything away, step by step", "wait; `DeletionBlocked` says what holds it up")
            }
            Self::InUse => advice(
                "deletes it as soon as nothing refers to it",
                "let the Tenants that the message names refer to something else",
            ),
            Self::DrainingTransactions => advice(
                "waits at most `ackTimeoutSeconds` for them",
                "if it lasts, look for who holds them in `pg_stat_activity`",
            ),
            Self::ReplicaTimedOut => advice(
                "went on without it",
                "look at the replica that the message names: it may act on an old state until it ends",
            ),
            Self::DriftRepaired => advice("made it right", "find out who changes it by hand"),
            Self::Upgrading => advice("works on it, a few tenants at a time", "wait"),
            Self::UpgradeHalted => advice(
                "begins with nobody further; whoever has the new tables keeps them",
                "`kubectl tenant migrations` names the tenants and why; mend that, and ask for each again",
            ),
            Self::NearLimit => advice(
                "goes on; looks again every five minutes",
                "raise the limit that the message names, before it is met",
            ),
            Self::MigrationFailed => advice(
                "goes on serving the tenant with the tables that it has; halts the upgrade of the fleet when more than \
                 `migrations.maxFailures` fail",
                "mend the cause, then `kubectl annotate tenant NAME agent-tenancy.dev/retry-migration=…` with any new value; \
                 or ship a corrected file, which is tried in its turn",
            ),
            Self::MigrationChanged => advice(
                "goes on serving the tenant, and applies nothing further to it",
                "put the file back as it was applied, and make the change in a new file",
            ),
            Self::SchemaNewer => advice(
                "goes on serving the tenant, and neither migrates nor repairs its tables",
                "run an operator at least as new as the one that made them; put back your own migrations that are missing",
            ),
            Self::DriftNotRepairable => advice(
                "repaired what its rights are enough for, looks again every 5 minutes",
                "run the statements of the message as a superuser of the database",
            ),
            Self::LossAccepted => advice(
                "makes the tenant anew, and keeps a schema that was left under the name that the event tells",
                "drop the kept schema when nobody needs it; the annotation may stay",
            ),
            Self::EntryChanged => advice(
                "nothing: without a valid spec it does not know what the entry has to say",
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
    fn whatever_needs_somebody_says_what_to_do() {
        for reason in Reason::ALL {
            let Advice { operator, person } = reason.advice();
            assert_eq!(operator.is_empty(), person.is_empty(), "{reason}");
            for text in [operator, person] {
                assert!(!text.contains(['\n', '|']) && !text.ends_with('.'), "{reason}: a phrase for a table");
            }
        }
    }
}
