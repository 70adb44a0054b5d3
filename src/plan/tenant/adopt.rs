//! Taking over the data of an earlier Tenant, as `spec.database.adopt.previousUid` asks: kept in the ledger's row of the
//! tenant id, or in an archive of it. Only a Tenant that has no data can; nothing that is in use is ever taken. Kept data
//! belongs to its namespace: a Tenant of another one needs a takeover grant, and without one is answered as if there were
//! nothing.

use super::{
    inputs::Inputs,
    schema::{find_changed, is_known, resolve_target},
};
use crate::plan::{
    observed::{
        Archive, LedgerFacts, LedgerRow, RowState, data_owner::DataOwner, render_mark, takeover_grant::TakeoverGrant,
    },
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
    },
};

/// The field, as messages name it.
const FIELD: &str = "spec.database.adopt.previousUid";

/// What a Tenant that asks for earlier data takes over of the kept row of its tenant id; `None` if it asks for none of it.
pub(crate) fn judge_retained(inputs: Inputs<'_>) -> Option<Result<Adoption, PartReport>> {
    let previous = resolve_previous(inputs)?;
    let facts = inputs.observed.database.facts()?;
    let row = facts.row.as_ref().filter(|row| row.uid == *previous && row.state == RowState::Retained)?;
    let claim = resolve_claim(inputs, row.owner(), &facts.permitted)?;
    let source = AdoptionSource::Retained { since: row.state_since, granted_from: claim.granted_from() };
    Some(check_fit(of_row(inputs, row, source), Evidence::of_row(facts, row)).map_err(refuse))
}

/// What a Tenant that asks for earlier data takes over from an archive; `None` if it asks for none. `replaces`: the
/// tombstone that the row replaces.
pub(crate) fn judge_archived(
    inputs: Inputs<'_>,
    replaces: Option<Incarnation>,
) -> Option<Result<Adoption, PartReport>> {
    let previous = resolve_previous(inputs)?;
    let facts = inputs.observed.database.facts()?;
    let claimed = facts
        .archive_of(previous)
        .and_then(|archive| Some((archive, resolve_claim(inputs, archive.owner(), &archive.permitted)?)));
    let fit = match claimed {
        Some((archive, claim)) => {
            check_fit(of_archive(inputs, archive, replaces, claim), Evidence::of_archive(facts, archive))
        }
        None => Err(nothing_note(previous, inputs, facts)),
    };
    Some(fit.map_err(refuse))
}

/// Why a Tenant may have kept data.
#[derive(Clone, Copy)]
enum KeptClaim<'a> {
    /// It is its namespace's.
    SameNamespace,
    /// A takeover grant allows it, from this cluster.
    Granted(&'a str),
}

impl KeptClaim<'_> {
    fn granted_from(self) -> Option<String> {
        match self {
            Self::SameNamespace => None,
            Self::Granted(cluster_id) => Some(cluster_id.to_owned()),
        }
    }
}

/// Why the Tenant may have kept data of this owner; `None` if it may not.
fn resolve_claim<'a>(inputs: Inputs<'_>, owner: DataOwner<'a>, permitted: &[TakeoverGrant]) -> Option<KeptClaim<'a>> {
    let Inputs { desired, installation, .. } = inputs;
    if owner.is_namespace_of(&desired.object, installation) {
        return Some(KeptClaim::SameNamespace);
    }
    let granted = permitted.iter().any(|grant| grant.is(&desired.object.uid, installation));
    granted.then_some(KeptClaim::Granted(owner.cluster_id))
}

/// The earlier Tenant with the requested data. A Tenant that had data once requests none: it does not start again with an
/// older state of the database.
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
pub(crate) fn of_row(inputs: Inputs<'_>, row: &LedgerRow, source: AdoptionSource) -> Adoption {
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
        source,
    }
}

fn of_archive(inputs: Inputs<'_>, archive: &Archive, replaces: Option<Incarnation>, claim: KeptClaim<'_>) -> Adoption {
    let (schema, role) = (archive.schema.clone(), archive.role.clone());
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
        source: AdoptionSource::Archived { schema, role, replaces, granted_from: claim.granted_from() },
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

/// What there would be of this namespace.
fn nothing_note(previous: &Uid, inputs: Inputs<'_>, facts: &LedgerFacts) -> String {
    let Inputs { desired, installation, .. } = inputs;
    let id = &desired.tenant_id;
    let own = facts.archives.iter().filter(|archive| archive.owner().is_namespace_of(&desired.object, installation));
    let own: Vec<&str> = own.map(|archive| archive.uid.0.as_str()).collect();
    let there = match own.is_empty() {
        true => String::new(),
        false => format!("; of this namespace, archives are kept of UID {}", own.join(", ")),
    };
    format!(
        "the database keeps nothing of tenant id '{id}' for this namespace from a Tenant with UID {previous}{there}; name \
         the UID of a deleted Tenant of this namespace with kept data (data of another namespace needs a takeover \
         grant: kubectl tenant takeover), or remove the field to begin with nothing"
    )
}
