//! Condition types and reasons: closed lists, because they are API.

/// `metav1.Condition` as the API server stores it.
pub type Condition = k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The status of a condition, as in `metav1.ConditionStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It could not be established.
    Unknown,
}

impl ConditionStatus {
    /// The word that is written in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! closed_words {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every member, in the order they are documented.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that is written in the object.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// What it means, in one sentence (source of the reference table in the documentation).
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_words! {
    /// Types of the conditions on a Tenant, an AgentConfig or a DatabaseInstance.
    ConditionType {
        /// The spec was read, is valid, and what it refers to exists.
        Accepted,
        /// Role, schema and tables exist, are this Tenant's, and the agent API may use them.
        DatabaseReady,
        /// The Secret with the signing keys exists and is this Tenant's.
        SigningKeysReady,
        /// The registry entry equals the spec.
        Published,
        /// Every ready replica of the agent API proved once that it serves this entry.
        Served,
        /// All of the above; what `kubectl wait` should wait for.
        Ready,
        /// Present while the operator works towards the spec (kstatus).
        Reconciling,
        /// Present when manual intervention is required (kstatus).
        Stalled,
        /// Present while the spec asks to suspend the tenant; True once requests are refused and access is revoked.
        Suspended,
        /// Present while an annotation keeps the operator from touching the object.
        Paused,
        /// Present while a deletion waits for something outside the object.
        DeletionBlocked,
        /// On a DatabaseInstance: the database answers, is the right one, and is fit for use.
        Available,
        /// On a DatabaseInstance: every tenant has had every migration.
        TablesCurrent,
        /// On a DatabaseInstance: the server is well within its limits.
        Headroom,
    }
}

closed_words! {
    /// Reasons of conditions and events.
    Reason {
        /// The spec is valid.
        Accepted,
        /// A field of the spec breaks a rule; the message names the field.
        InvalidSpec,
        /// The object does not decode as its own type; the message names the field.
        UndecodableSpec,
        /// An AgentConfig that the Tenant refers to does not exist in its namespace or is being deleted.
        AgentConfigNotFound,
        /// An AgentConfig that the Tenant refers to is not published yet.
        AgentConfigNotPublished,
        /// Another object owns this tenant id, schema, role, Secret or entry; nothing was changed.
        Conflict,
        /// A Secret that the AgentConfig refers to, or the key in it, does not exist.
        CredentialNotFound,
        /// The step was not reached in this reconcile.
        Pending,
        /// Role, schema and tables are in place.
        Provisioned,
        /// Role, schema and tables are being created.
        Provisioning,
        /// The database cannot be reached or asked the operator to come back later.
        DatabaseUnavailable,
        /// The database or the API server refuses what the operator needs: run the bootstrap file as its administrator, install the chart's roles.
        PermissionDenied,
        /// A schema, role or ledger row of the tenant is gone; nothing is created until the loss is accepted by annotation.
        DataLost,
        /// The database's server can't be trusted, or offers no TLS; the message says why.
        TlsFailed,
        /// The database is not the one this Tenant was provisioned in; nothing is made in it.
        DatabaseChanged,
        /// The operator's settings don't name the instance that the Tenant's data is in, or that its spec names; nothing is made or deleted.
        InstanceNotFound,
        /// No instance takes new tenants, or the one that the spec names does not; nothing was made.
        InstanceNotAccepting,
        /// The database still holds an earlier tenant of this id, kept when it was deleted.
        RetainedDataExists,
        /// The Tenant that spec.database.adopt.previousUid names left no data that can be taken over; nothing was created.
        AdoptionRefused,
        /// The data of an earlier Tenant was taken over, as spec.database.adopt, the operator's previousClusterIds or `kubectl tenant takeover` ask.
        Adopted,
        /// The signing keys exist.
        Issued,
        /// A new key is published; it signs as soon as every replica knows it.
        Rotating,
        /// A rotation waits; the message says for which replica, or until the keyring has room.
        RotationWaiting,
        /// The key that signs was replaced.
        KeysRotated,
        /// Keys were revoked: they verify nothing any more.
        KeysRevoked,
        /// Keys were revoked, and a replica has not confirmed it yet; the message names it.
        RevocationPending,
        /// The registry entry is written.
        Published,
        /// Every ready replica serves the entry.
        Served,
        /// Some ready replicas have not acknowledged the entry yet; the message names them.
        WaitingForReplicas,
        /// No ready replica of the agent API exists.
        NoReplicas,
        /// A replica refuses this entry; the message says which and why.
        Quarantined,
        /// All conditions are met.
        Ready,
        /// The tenant is out of service, as its spec asks: requests are refused, data and keys are kept.
        Suspended,
        /// The annotation `agent-tenancy.dev/paused` keeps the operator from touching the object; the agent API goes on.
        Paused,
        /// Work goes on.
        Progressing,
        /// The last attempt failed and is retried; the message says what failed.
        Retrying,
        /// The object is being deleted.
        Deleting,
        /// Something still refers to the object; the message names it.
        InUse,
        /// Transactions of the tenant are still open.
        DrainingTransactions,
        /// A replica did not acknowledge in time; the operator went on without it.
        ReplicaTimedOut,
        /// The tenant's database objects were kept, as the deletion policy asks.
        DataRetained,
        /// The tenant's database objects were put aside under another name, as the deletion policy asks; the message says until when.
        DataArchived,
        /// An archive expired and was dropped.
        ArchiveDropped,
        /// The tenant's database objects were dropped, as the deletion policy asks.
        DataDeleted,
        /// Something outside the operator changed an object of the operator's, and the operator repaired it.
        DriftRepaired,
        /// Something outside the operator changed an object of the operator's, and the operator lacks the privileges to repair it: the message has the statements for a superuser of the database. The tenant is served meanwhile.
        DriftNotRepairable,
        /// A migration of the tenant's tables failed; the message says which and why. It is not retried automatically, and the tenant is served with the tables that it has.
        MigrationFailed,
        /// A migration that was applied to this tenant has changed since; no other migration is applied to it.
        MigrationChanged,
        /// The tenant's tables are newer than this operator, or than the custom migrations; they are not changed.
        SchemaNewer,
        /// The database can be used; the message has warnings.
        Available,
        /// Every tenant has had every migration.
        UpToDate,
        /// The tenants' tables are being migrated.
        Upgrading,
        /// The upgrade of the tenants' tables is halted, because migrations failed.
        UpgradeHalted,
        /// The server is well within its limits.
        WithinLimits,
        /// The database server is close to a limit; the message says which, and what to do.
        NearLimit,
        /// The loss of the data was accepted by annotation: the tenant starts with no data.
        LossAccepted,
        /// The registry entry was deleted or edited by hand, and can't be written again before the spec is valid; replicas keep serving what they loaded.
        EntryChanged,
        /// A programming error of the operator; its log says more.
        InternalError,
    }
}
