//! Taking over the data of an earlier Tenant, as `spec.database.adopt.previousUid` asks: kept in the ledger's row of the
//! tenant id, or in an archive of it. Only a Tenant that has no data can; nothing that is in use is ever taken.

use super::{
    inputs::Inputs,
    schema::{find_changed, is_known, resolve_target},
};
use crate::plan::{
    observed::{Archive, LedgerFacts, LedgerRow, RowState, render_mark},
    report::{PartReport, PartState},
    step::{Adoption, AdoptionSource},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{
        class::ErrorClass,
        ident::{Incarnation, Uid},
        keyring::KeyringMark,
        migrations::{TENANT, TENANT_VERSION, Track, transactional_version},
        resolve::DesiredTenant,
    },
};

/// The field, as messages name it.
const FIELD: &str = "spec.database.adopt.previousUid";

/// What a Tenant that asks for earlier data takes over of the kept row of its tenant id; `None` if it asks for none of it.
pub(crate) fn judge_retained(inputs: Inputs<'_>) -> Option<Result<Adoption, PartReport>> {
    let previous = resolve_previous(inputs)?;
    let facts = inputs.observed.database.facts()?;
    let row = facts.row.as_ref().filter(|row| row.uid == *previous && row.state == RowState::Retained)?;
    Some(check_fit(of_row(inputs, row), Evidence::of_row(facts, row)).map_err(refuse))
}

/// What a Tenant that asks for earlier data takes over from an archive; `None` if it asks for none. `replaces`: the
/// tombstone in whose place the row goes.
pub(crate) fn judge_archived(
    inputs: Inputs<'_>,
    replaces: Option<Incarnation>,
) -> Option<Result<Adoption, PartReport>> {
    let previous = resolve_previous(inputs)?;
    let facts = inputs.observed.database.facts()?;
    let fit = match facts.archive_of(previous) {
        Some(archive) => check_fit(of_archive(inputs, archive, replaces), Evidence::of_archive(facts, archive)),
        None => Err(nothing_note(previous, inputs.desired, facts)),
    };
    Some(fit.map_err(refuse))
}

/// The Tenant whose data is asked for. One that had data once asks for none: an older state of the database is not begun
/// with again.
fn resolve_previous(inputs: Inputs<'_>) -> Option<&Uid> {
    inputs.desired.adopt.as_ref().filter(|_| inputs.observed.recorded.incarnation.is_none())
}

fn refuse(note: String) -> PartReport {
    let state = PartState::Refused(ErrorClass::Conflict);
    PartReport::new(Part::Accepted, state, Reason::AdoptionRefused, format!("{FIELD}: {note}"))
}

/// The keyring that is made for it follows the last one that there was.
fn next_keyring(version: i32) -> KeyringMark {
    KeyringMark { version: version.saturating_add(1), digest: String::new() }
}

/// All of a row's data, from where it is kept, with tables of the version that tenants get.
pub(crate) fn of_row(inputs: Inputs<'_>, row: &LedgerRow) -> Adoption {
    let target = resolve_target(inputs.installation, &inputs.observed.replicas);
    Adoption {
        tenant_id: inputs.desired.tenant_id.clone(),
        incarnation: row.incarnation,
        previous: row.uid.clone(),
        cell: row.cell,
        schema: row.schema.clone(),
        role: row.role.clone(),
        schema_version: row.schema_version,
        target_version: transactional_version(row.schema_version, target),
        keyring: next_keyring(row.keyring.version),
        source: AdoptionSource::Retained { since: row.state_since },
    }
}

fn of_archive(inputs: Inputs<'_>, archive: &Archive, replaces: Option<Incarnation>) -> Adoption {
    let name = inputs.desired.tenant_id.database_name(&inputs.installation.instance.prefix);
    let target = resolve_target(inputs.installation, &inputs.observed.replicas);
    Adoption {
        tenant_id: inputs.desired.tenant_id.clone(),
        incarnation: archive.incarnation,
        previous: archive.uid.clone(),
        cell: archive.cell,
        schema: name.clone(),
        role: name,
        schema_version: archive.schema_version,
        target_version: transactional_version(archive.schema_version, target),
        keyring: next_keyring(archive.ring_version),
        source: AdoptionSource::Archived { schema: archive.schema.clone(), role: archive.role.clone(), replaces },
    }
}

/// What the database says of data that is to be taken over.
pub(crate) struct Evidence<'a> {
    /// The mark that it has to carry.
    mark: String,
    role_mark: Option<&'a str>,
    schema_mark: Option<&'a str>,
    /// Checksums of the files that made its tables.
    checksums: &'a [String],
}

impl<'a> Evidence<'a> {
    pub(crate) fn of_row(facts: &'a LedgerFacts, row: &'a LedgerRow) -> Self {
        Self {
            mark: render_mark(facts.database_id, row.incarnation),
            role_mark: facts.role_mark.as_deref(),
            schema_mark: facts.schema_mark.as_deref(),
            checksums: &row.schema_checksums,
        }
    }

    fn of_archive(facts: &LedgerFacts, archive: &'a Archive) -> Self {
        Self {
            mark: render_mark(facts.database_id, archive.incarnation),
            role_mark: archive.role_mark.as_deref(),
            schema_mark: archive.schema_mark.as_deref(),
            checksums: &archive.schema_checksums,
        }
    }
}

/// Whole, ours, and of a version that this operator knows; else what is wrong.
pub(crate) fn check_fit(adoption: Adoption, evidence: Evidence<'_>) -> Result<Adoption, String> {
    let uid = &adoption.previous;
    match (evidence.role_mark, evidence.schema_mark) {
        (Some(role), Some(schema)) if role == evidence.mark && schema == evidence.mark => {}
        (Some(_), Some(_)) => {
            return Err(format!("role or schema of UID {uid} carries another mark than the ledger"));
        }
        (None, _) | (_, None) => return Err(format!("role or schema of UID {uid} is gone")),
    }
    if !is_known(adoption.schema_version) {
        let found = adoption.schema_version;
        return Err(format!(
            "the data of UID {uid} has schema version {found}, and this operator knows versions up to {TENANT_VERSION}: it \
             needs a newer operator"
        ));
    }
    match find_changed(Track::Base, TENANT, evidence.checksums) {
        Some(changed) => Err(changed),
        None => Ok(adoption),
    }
}

/// What there would be, for those who may know: the namespace's own people.
fn nothing_note(previous: &Uid, desired: &DesiredTenant, facts: &LedgerFacts) -> String {
    let id = &desired.tenant_id;
    let own = facts.archives.iter().filter(|archive| archive.namespace == desired.object.namespace);
    let own: Vec<&str> = own.map(|archive| archive.uid.0.as_str()).collect();
    let there = match own.is_empty() {
        true => String::new(),
        false => format!("; of this namespace, archives are kept of UID {}", own.join(", ")),
    };
    format!(
        "the database keeps nothing of tenant id '{id}' from a Tenant with UID {previous}{there}; name the UID of \
         a deleted Tenant whose data is kept, or remove the field to begin with nothing"
    )
}
