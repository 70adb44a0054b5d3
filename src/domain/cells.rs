//! Names of the roles of an instance and of its cells. `config/sql/bootstrap.sql` documents their purpose.

use super::{
    ident::{CellNumber, NamePrefix},
    logins::LoginSlot,
};

/// The role that owns the control schema and creates the cells' roles.
pub fn base_role(prefix: &NamePrefix) -> String {
    format!("{prefix}_base")
}

/// The role that keeps ADMIN options over an upgrade from 15, where the bootstrap file made it.
pub fn keeper_role(prefix: &str) -> String {
    format!("{prefix}_upgrade")
}

/// Names of one cell's roles. Tenant ids contain no underscore, so no tenant's role can have one of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRoles {
    /// Role that creates and owns the tenants' roles, schemas and tables.
    pub owner: String,
    /// Group role that may `SET ROLE` to every tenant of the cell.
    pub access: String,
    /// Logins of the agent API, in the order of [`LoginSlot::ALL`]. They are members of `access`; one is in use, the
    /// other is for rotation.
    pub logins: [String; 2],
}

impl CellRoles {
    /// The names for one cell.
    pub fn of(prefix: &NamePrefix, cell: CellNumber) -> Self {
        let access = format!("{prefix}_acc_{cell}");
        let logins = LoginSlot::ALL.map(|slot| format!("{access}_{}", slot.as_str()));
        Self { owner: format!("{prefix}_own_{cell}"), logins, access }
    }

    /// Name of one of its logins.
    pub fn login(&self, slot: LoginSlot) -> &str {
        let [a, b] = &self.logins;
        match slot {
            LoginSlot::A => a,
            LoginSlot::B => b,
        }
    }

    /// The slot of the login with this name.
    pub(crate) fn slot_of(&self, name: &str) -> Option<LoginSlot> {
        LoginSlot::ALL.into_iter().find(|slot| self.login(*slot) == name)
    }
}
