//! The closed lists of steps. Each is idempotent, checks the ownership mark again, and is safe when its reply is lost.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | the steps of a Tenant and of an AgentConfig, by what they change; how far a plan got |
//! | `database` | the steps that change the database of a tenant |

mod database;

pub use database::{Adoption, AdoptionSource, CloseDatabase, DatabaseStep, Migrate, Provision};

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

/// One effect of a Tenant's pass.
#[derive(Clone, Debug, PartialEq)]
pub enum TenantStep {
    /// On the Tenant itself.
    Object(ObjectStep<TenantStatus>),
    /// On the cell that the tenant joins.
    Cell(CellStep),
    /// On the tenant's data and on its row in the ledger.
    Database(DatabaseStep),
    /// On the Secret with its signing keys.
    Keys(KeysStep),
    /// On its registry entry. `Put` takes the lock of references, and fails while the entry of an AgentConfig to which an
    /// active one refers is not there.
    Entry(EntryStep<TenantEntry>),
}

/// One effect of an AgentConfig's pass.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentStep {
    /// On the AgentConfig itself.
    Object(ObjectStep<AgentConfigStatus>),
    /// On its revisions.
    Revision(RevisionStep),
    /// On the entry of a credential.
    Upstream(UpstreamStep),
    /// On its registry entry. `Put` takes the lock of references, and fails while the entry of the credential to which it
    /// refers is not there; `Delete` takes it too, and fails while a tenant's entry refers to this one.
    Entry(EntryStep<AgentEntry>),
}

/// A change of an object of ours; `S`: its status.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectStep<S> {
    /// Puts the finalizer on the object. Fails where the object (by UID) is gone or being deleted.
    AddFinalizer,
    /// Takes the finalizer off the object. For a Tenant it looks once more, not in a cache, and fails while an entry with
    /// this Tenant's mark is there: a new leader's cache may lag, and after this step nobody would look for it.
    RemoveFinalizer,
    /// Writes the status.
    WriteStatus(Box<S>),
    /// Writes an event.
    RecordEvent(Notice),
}

/// A change of a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum CellStep {
    /// Publishes the login of a cell (`cell-` entry), then makes the cell's roles with it. A login that is published
    /// already is used instead of `password`.
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
    /// Creates the Secret. One that exists is left alone: the step fails, and the next pass reads it.
    Create {
        /// Its content.
        keyring: Keyring,
    },
    /// Replaces the content of the Secret that was seen, at its version only. Where a key starts to sign that every replica
    /// must know (`acknowledged`), looks at the replicas once more, not in a cache, and fails while one does not.
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
    /// A new key, to be known everywhere before it signs.
    Standby,
    /// The new key signs.
    Promotion,
    /// Keys verify nothing any more.
    Revocation,
    /// Keys that are over are left out, or the longest token is noted.
    Tidying,
    /// The Secret was lost, edited or an older one, and is made right.
    Repair,
}

/// A change of a registry entry; `E`: its content.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryStep<E> {
    /// Writes the entry, at the seen version only.
    Put {
        /// Its content.
        entry: Box<E>,
        /// The version to replace; `None` creates.
        replace: Option<Version>,
    },
    /// Deletes the entry. One that is gone already is a success; one that changed is not.
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
    /// Keeps a revision as a ControllerRevision owned by the AgentConfig. One with this number and hash is a success;
    /// one with another hash is not.
    Create {
        /// Its number.
        number: i64,
        /// Hash of its behaviour.
        hash: String,
        /// What it does.
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
    /// Writes the entry; its content never changes, so an existing one is left alone.
    Put(UpstreamEntry),
    /// Deletes the entry. Under the lock of references: fails while an AgentConfig's entry refers to it.
    Delete {
        /// Hash that names it.
        hash: String,
        /// Version of the Secret.
        version: Version,
    },
}

/// For each kind of step: it is a step of this object.
macro_rules! is_step_of {
    ($step:ident: $($kind:ident($inner:ty)),+ $(,)?) => {
        $(impl From<$inner> for $step {
            fn from(step: $inner) -> Self {
                Self::$kind(step)
            }
        })+
    };
}
is_step_of!(TenantStep:
    Object(ObjectStep<TenantStatus>), Cell(CellStep), Database(DatabaseStep), Keys(KeysStep), Entry(EntryStep<TenantEntry>));
is_step_of!(AgentStep:
    Object(ObjectStep<AgentConfigStatus>), Revision(RevisionStep), Upstream(UpstreamStep), Entry(EntryStep<AgentEntry>));

/// What a step that went well says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing more.
    Plain,
    /// A registry entry was written at this version (no other object's version is comparable with acknowledgements).
    At(Version),
}

/// The steps that were done, and the one that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution<S> {
    /// Done, in order.
    pub done: Vec<(S, Done)>,
    /// The step that failed; later ones were not tried.
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
    /// The error for people; holds no secret.
    pub note: String,
    /// The reason that a condition gives, where the class alone doesn't say it.
    pub reason: Option<Reason>,
}
