//! Creating the roles of a cell and its first login.

use super::{
    SqlContext,
    objects::write_keeper,
    statements::{RenderError, Statements, literals, optional},
};
use crate::domain::{
    cells::CellRoles,
    ident::{CellNumber, LoginId},
    keys::KeyBytes,
    logins::LoginSlot,
    sql::quote_literal,
};

/// A login of a cell, as in the cell's registry entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellLogin {
    /// Which of the cell's two logins.
    pub slot: LoginSlot,
    /// Id of the password; entries of earlier versions have none.
    pub id: Option<LoginId>,
    /// Printable ASCII. Only its verifier leaves this process.
    pub password: KeyBytes,
}

/// One transaction under the lock of the cells: creates the missing roles of a cell, and sets its login unless it is set
/// already.
pub(crate) fn render_cell(
    cell: CellNumber,
    login: &CellLogin,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    sql.lock_cells();
    let roles = CellRoles::of(sql.prefix(), cell);
    let [login_a, login_b] = &roles.logins;
    let names = literals([&roles.owner, &roles.access, login_a, login_b, login.slot.as_str()])?;
    let id = optional(login.id.map(|id| id.to_string()).as_deref())?;
    let verifier = quote_literal(context.verifier)?;
    sql.add(&format!("SELECT agent_tenancy.make_cell({cell}, {names}, {id}, {verifier});"));
    for role in [&roles.owner, &roles.access, login_a, login_b] {
        write_keeper(&mut sql, role)?;
    }
    Ok(sql.into_text())
}
