//! The roles of an instance and of its cells, by name. What they are for: docs of `config/sql/bootstrap.sql`.

use super::{
    ident::{CellNumber, NamePrefix},
    logins::LoginSlot,
};

/// The role that owns the control schema and makes the cells' roles.
pub fn base_role(prefix: &NamePrefix) -> String {
    format!("{prefix}_base")
}

/// Names of one cell's roles. Tenant ids hold no underscore, so no tenant's role can have one of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRoles {
    /// Makes and owns the tenants' roles, schemas and tables.
    pub owner: String,
    /// Group that may become every tenant of the cell.
    pub access: String,
    /// Logins of the agent API, members of `access`, in the order of [`LoginSlot::ALL`]: one is in use, the other is for
    /// rotation.
    pub logins: [String; 2],
}

impl CellRoles {
    /// The names of a cell.
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

    /// Which of its logins has this name.
    pub fn slot_of(&self, name: &str) -> Option<LoginSlot> {
        LoginSlot::ALL.into_iter().find(|slot| self.login(*slot) == name)
    }
}
