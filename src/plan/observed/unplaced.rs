//! Why a Tenant has no database instance.

use super::data_owner::TAKEN;
use crate::api::Reason;

/// Why a Tenant has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// The settings have no instance of this name.
    Unknown {
        /// The name.
        name: String,
        /// It had data there.
        recorded: bool,
        /// The names that they have.
        known: Vec<String>,
    },
    /// This instance takes no new tenants; `None`: none does.
    Closed(Option<String>),
    /// Another instance than the one that it names holds data of its tenant id.
    Taken {
        /// Which, if the data is this namespace's.
        holder: Option<String>,
    },
    /// This instance can't be asked, and may hold data of the tenant id.
    Unasked {
        /// Which.
        name: String,
        /// Its ledger was read before, and had something of the id.
        held: bool,
    },
}

impl Unplaced {
    /// Why, from the closed list.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unknown { .. } => Reason::InstanceNotFound,
            Self::Closed(_) => Reason::InstanceNotAccepting,
            Self::Taken { .. } => Reason::Conflict,
            Self::Unasked { .. } => Reason::DatabaseUnavailable,
        }
    }

    /// A sentence for people.
    pub fn render(&self) -> String {
        match self {
            Self::Unknown { name, recorded, known } => {
                let known = known.join(", ");
                match recorded {
                    true => format!(
                        "the data is in instance '{name}', which the operator's settings don't name any more (they name: \
                         {known}); nothing is made or deleted until they do"
                    ),
                    false => format!(
                        "spec.database.instance '{name}' is not in the operator's settings, which name: {known}"
                    ),
                }
            }
            Self::Closed(Some(name)) => format!("instance '{name}' takes no new tenants (acceptsNewTenants)"),
            Self::Closed(None) => "no instance takes new tenants (acceptsNewTenants)".to_owned(),
            Self::Taken { holder: None } => TAKEN.to_owned(),
            Self::Taken { holder: Some(holder) } => format!(
                "instance '{holder}' holds data of this tenant id; name that instance in a new Tenant, or choose another \
                 tenant id"
            ),
            Self::Unasked { name, held: true } => {
                format!("instance '{name}' does not answer, and had something of this tenant id")
            }
            Self::Unasked { name, held: false } => format!(
                "instance '{name}' has not answered since this operator began to lead, and may hold data of this tenant \
                 id; a Tenant that names another one in spec.database.instance does not wait for it"
            ),
        }
    }
}
