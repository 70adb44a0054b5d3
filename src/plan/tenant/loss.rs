//! Loss, and giving up what was lost: a tenant starts with nothing only where an administrator's annotation names exactly what is lost.
//! Nothing that is left is destroyed for it; a schema that is still there is put out of the way under another name.

use crate::plan::{
    observed::{LedgerFacts, LedgerRow, ObservedTenant, render_mark},
    step::Remains,
};
use crate::{api::names::ACCEPT_LOSS_ANNOTATION, domain::ident::Incarnation};
use std::fmt::Display;

/// Whether a person gave up exactly this.
pub(crate) fn accepts(observed: &ObservedTenant, lost: &impl Display) -> bool {
    observed.recorded.accepted_loss.as_ref().is_some_and(|accepted| *accepted == lost.to_string())
}

/// How a person gives it up, for the end of a message.
pub(crate) fn hint(lost: &impl Display) -> String {
    format!(
        "; if it is lost for good, annotate the Tenant with {ACCEPT_LOSS_ANNOTATION}={lost}: it then begins with nothing"
    )
}

/// Identity of the data that this Tenant had, by its status or entry.
pub(crate) fn lost_incarnation(observed: &ObservedTenant) -> Option<Incarnation> {
    let entry = || observed.readable_entry().map(|entry| entry.incarnation);
    observed.recorded.incarnation.or_else(entry)
}

/// What is left, if all of it carries the mark of the lost data: anything else is not ours to touch.
pub(crate) fn judge_remains(incarnation: Incarnation, row: Option<&LedgerRow>, facts: &LedgerFacts) -> Option<Remains> {
    let mark = render_mark(facts.database_id, incarnation);
    let marks = [&facts.role_mark, &facts.schema_mark];
    marks.iter().all(|found| found.as_ref().is_none_or(|found| *found == mark)).then(|| Remains {
        incarnation,
        row: row.cloned(),
        schema: facts.schema_mark.is_some(),
        role: facts.role_mark.is_some(),
    })
}

/// The same for the schema of the tenant's own tables.
pub fn kept_own_name(schema: &str, incarnation: Incarnation) -> String {
    let digits = incarnation.0.simple().to_string();
    format!("{schema}_xlost_{}", digits.get(27..).unwrap_or_default())
}

/// Name under which a schema is kept that was given up: at most 63 bytes, and no tenant's or cell's name.
pub fn kept_name(schema: &str, incarnation: Incarnation) -> String {
    let digits = incarnation.0.simple().to_string();
    format!("{schema}_lost_{}", digits.get(26..).unwrap_or_default())
}
