//! The closed lists of steps. Each step is idempotent, checks the ownership mark again, and can be repeated after a lost
//! reply.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | the steps of a Tenant and of an AgentConfig, by what they change; the execution of a plan |
//! | `database` | the steps that change the database of a tenant |

mod database;

pub use database::{Adoption, AdoptionSource, CloseDatabase, DatabaseStep, Migrate, Provision, Remains};

use crate::{
    api::{AgentConfigStatus, Notice, Reason, TenantStatus},
    domain::{
        class::ErrorClass,
        entry::{AgentEntry, Behaviour, TenantEntry, UpstreamEntry},
        ident::{CellNumber, Uid, Version},
        keyring::Keyring,
        keys::KeyBytes,
    },
};

/// One effect of reconciling a Tenant.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a plan has few steps, and most of them change the database")]
pub enum TenantStep {
    /// Changes the Tenant.
    Object(ObjectStep<TenantStatus>),
    /// Changes the cell that the tenant joins.
    Cell(CellStep),
    /// Changes the tenant's data and its ledger row.
    Database(DatabaseStep),
    /// Changes the Secret with the signing keys.
    Keys(KeysStep),
    /// Changes the registry entry. `Put` takes the reference lock, and fails if an active entry refers to an AgentConfig
    /// without an entry.
    Entry(EntryStep<TenantEntry>),
}

/// One effect of reconciling an AgentConfig.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentStep {
    /// Changes the AgentConfig.
    Object(ObjectStep<AgentConfigStatus>),
    /// Changes its revisions.
    Revision(RevisionStep),
    /// Changes the entry of a credential.
    Upstream(UpstreamStep),
    /// Changes the registry entry, under the reference lock. `Put` fails if the entry of its credential does not exist;
    /// `Delete` fails while a tenant's entry refers to this one.
    Entry(EntryStep<AgentEntry>),
}

/// A change of a Tenant or an AgentConfig; `S` is the type of its status.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectStep<S> {
    /// Adds the finalizer. Fails if the object (by UID) no longer exists or is being deleted.
    AddFinalizer,
    /// Removes the finalizer. For a Tenant it reads the registry again, not from a cache, and fails while an entry with this
    /// Tenant's mark exists: the cache of a new leader may lag, and no later reconcile would delete the entry.
    RemoveFinalizer,
    /// Writes the status.
    WriteStatus(Box<S>),
    /// Writes an event.
    RecordEvent(Notice),
}

/// A change of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum CellStep {
    /// Publishes the login of a cell (`cell-` entry), then creates the roles of the cell with it. A login that is already
    /// published is used instead of `password`.
    Create {
        /// Which cell.
        cell: CellNumber,
        /// Password of the new login.
        password: KeyBytes,
    },
}

/// A change of the Secret with a tenant's signing keys.
#[derive(Clone, Debug, PartialEq)]
pub enum KeysStep {
    /// Creates the Secret. Fails if it exists; the next reconcile reads it.
    Create {
        /// Its content.
        keyring: Keyring,
    },
    /// Replaces the content of the Secret, if it still has the observed version. If `acknowledged` is set, a key starts to
    /// sign that every replica has to know: the step reads the replicas again, not from a cache, and fails while one of them
    /// has not acknowledged that version.
    Replace {
        /// The new content.
        keyring: Keyring,
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
        /// What changes.
        change: KeyChange,
        /// The entry version that every replica must have acknowledged.
        acknowledged: Option<Version>,
    },
    /// Deletes the Secret.
    Delete {
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
    },
}

/// What changes in a keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// A new key is added. It signs once every replica knows it.
    Standby,
    /// The new key starts to sign.
    Promotion,
    /// Keys are revoked.
    Revocation,
    /// Expired keys are removed, or the longest token lifetime is recorded.
    Tidying,
    /// The Secret was lost, edited or restored to an earlier version, and is repaired.
    Repair,
}

/// A change of a registry entry; `E` is the type of its content.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryStep<E> {
    /// Writes the entry, if it still has the observed version.
    Put {
        /// Its content.
        entry: Box<E>,
        /// The version to replace; `None` creates.
        replace: Option<Version>,
    },
    /// Deletes the entry. Succeeds if it does not exist; fails if it has changed.
    Delete {
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
    },
}

/// A change of an AgentConfig's revisions.
#[derive(Clone, Debug, PartialEq)]
pub enum RevisionStep {
    /// Stores a revision as a ControllerRevision that the AgentConfig owns. Succeeds if it exists with this number and hash;
    /// fails if it exists with another hash.
    Create {
        /// Its number.
        number: i64,
        /// Hash of its behaviour.
        hash: String,
        /// The agent's behaviour.
        behaviour: Box<Behaviour>,
    },
    /// Deletes an old revision.
    Delete {
        /// Name of the ControllerRevision.
        name: String,
    },
}

/// A change of the entry of a credential.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamStep {
    /// Writes the entry, unless it exists: its content never changes.
    Put(UpstreamEntry),
    /// Deletes the entry, under the reference lock. Fails while an AgentConfig's entry refers to it.
    Delete {
        /// Hash of the credential; part of the entry's name.
        hash: String,
        /// Version of the Secret.
        version: Version,
    },
}

/// Converts each kind of step into a step of the object.
macro_rules! impl_from_steps {
    ($step:ident: $($kind:ident($inner:ty)),+ $(,)?) => {
        $(impl From<$inner> for $step {
            fn from(step: $inner) -> Self {
                Self::$kind(step)
            }
        })+
    };
}
impl_from_steps!(TenantStep:
    Object(ObjectStep<TenantStatus>), Cell(CellStep), Database(DatabaseStep), Keys(KeysStep), Entry(EntryStep<TenantEntry>));
impl_from_steps!(AgentStep:
    Object(ObjectStep<AgentConfigStatus>), Revision(RevisionStep), Upstream(UpstreamStep), Entry(EntryStep<AgentEntry>));

/// The result of a successful step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// No result.
    Plain,
    /// A registry entry was written, and has this version. Acknowledgements are compared with it.
    At(Version),
}

/// The execution of a plan: the steps that succeeded, and the one that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution<S> {
    /// Steps that succeeded, in order.
    pub done: Vec<(S, Done)>,
    /// The step that failed. Later steps were not tried.
    pub failed: Option<(S, Failure)>,
}

impl<S> Default for Execution<S> {
    fn default() -> Self {
        Self { done: Vec::new(), failed: None }
    }
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Class of the error.
    pub class: ErrorClass,
    /// The error message, without secrets.
    pub note: String,
    /// The reason for the condition, if the class does not determine it.
    pub reason: Option<Reason>,
}
