//! What a tenant's tables still need: the files of its version and the next ones, as the ledger says which it has had.
//!
//! A tenant that is served waits for its slot (`observed.admitted`, decided by `plan::rollout`); one that was never served,
//! and one for which a person asked, go at once. A tenant that can't be migrated does not block others: it is
//! served with the tables that it has.

use crate::plan::{
    installation::Installation,
    observed::{
        LedgerRow, ObservedTenant, Replicas,
        applied::{MigrationFailure, render_failure},
    },
    step::{DatabaseStep, Migrate, TenantStep},
};
use crate::{
    api::Reason,
    domain::migrations::{Migration, TENANT, TENANT_VERSION, Track},
};

/// What a schema has had of one track.
struct Had<'a> {
    track: Track,
    version: i32,
    checksums: &'a [String],
}

/// The state of a tenant's tables.
pub(crate) struct Tables {
    /// Files to apply now, in order.
    pub due: Vec<Migrate>,
    /// Why there is no further, if that is so.
    pub blocked: Option<(Reason, String)>,
}

impl Tables {
    /// The version of the program's tables once what is due is done.
    pub(crate) fn version(&self, row: &LedgerRow) -> i32 {
        let base = self.due.iter().filter(|step| step.track == Track::Base);
        base.map(|step| step.file.version).max().unwrap_or(row.schema_version)
    }

    pub(crate) fn into_steps(self) -> impl Iterator<Item = TenantStep> {
        self.due.into_iter().map(|step| TenantStep::Database(DatabaseStep::Migrate(Box::new(step))))
    }
}

/// The version of the program's tables that tenants get: no replica that runs may be older than that. One that doesn't say
/// which tables it knows is from before there was a second version.
pub fn resolve_target(installation: &Installation, replicas: &Replicas) -> i32 {
    let spoken = replicas.all.iter().filter(|r| r.running).filter_map(|r| r.acknowledged.as_ref());
    let known = spoken.map(|ack| ack.schema_version.unwrap_or(1)).min();
    known.map_or(installation.schema_version, |known| known.min(installation.schema_version))
}

/// Whether the operator knows what belongs to the tables of this version.
pub(crate) fn is_known(version: i32) -> bool {
    version <= TENANT_VERSION
}

/// Judges the tables of a tenant in use.
pub(crate) fn judge_tables(row: &LedgerRow, observed: &ObservedTenant, installation: &Installation) -> Tables {
    let failure = observed.database.facts().and_then(|facts| facts.failure.as_ref());
    let request = observed.recorded.retry_migration.as_deref().unwrap_or_default();
    let asked = failure.is_some_and(|failure| !request.is_empty() && failure.request != request);
    let now = observed.admitted || observed.recorded.served.is_none() || asked;
    let base = Had { track: Track::Base, version: row.schema_version, checksums: &row.schema_checksums };
    let own = Had { track: Track::Custom, version: row.own.version, checksums: &row.own.checksums };
    let target = resolve_target(installation, &observed.replicas);
    let of_own = installation.custom_migrations.as_ref().map(|files| (own, files.files(), files.version()));
    let mut tables = Tables { due: Vec::new(), blocked: None };
    for (had, files, target) in [(base, TENANT, target)].into_iter().chain(of_own) {
        let pending = match judge_track(&had, files, target, failure.filter(|_| !asked)) {
            Ok(pending) => pending,
            Err(blocked) => {
                tables.blocked = Some(blocked);
                break;
            }
        };
        if now {
            tables.due.extend(pending.iter().map(|file| Migrate {
                row: row.clone(),
                track: had.track,
                file: (*file).clone(),
                checksums: files.iter().filter(|f| f.version <= file.version).map(Migration::checksum).collect(),
                request: request.to_owned(),
                password: observed.fresh.password.clone(),
            }));
        }
    }
    tables
}

fn judge_track<'a>(
    had: &Had<'_>,
    files: &'a [Migration],
    target: i32,
    failure: Option<&MigrationFailure>,
) -> Result<Vec<&'a Migration>, (Reason, String)> {
    let newest = files.last().map_or(0, |file| file.version);
    if had.version > newest {
        return Err((Reason::SchemaNewer, render_newer(had, newest)));
    }
    if let Some(note) = find_changed(had.track, files, had.checksums) {
        return Err((Reason::MigrationChanged, note));
    }
    let pending: Vec<&Migration> = files.iter().filter(|f| f.version > had.version && f.version <= target).collect();
    let failed = failure.filter(|failure| failure.track == had.track);
    match (pending.first(), failed) {
        (Some(next), Some(failure))
            if (next.version, next.checksum()) == (failure.version, failure.checksum.clone()) =>
        {
            Err((Reason::MigrationFailed, render_failure(had.track, &next.name, &failure.message)))
        }
        _ => Ok(pending),
    }
}

fn render_newer(had: &Had<'_>, newest: i32) -> String {
    let version = had.version;
    match had.track {
        Track::Base => format!(
            "the tenant's tables have version {version}, and this operator knows versions up to {newest}: it needs a newer \
             operator, and nothing of them is changed until then"
        ),
        Track::Custom => format!(
            "{version} custom migrations were applied to this tenant, and there are {newest} now: put back the files \
             that are missing"
        ),
    }
}

/// What is wrong with files that were applied and are not as they were then. `checksums`: as they were, oldest first.
pub(crate) fn find_changed(track: Track, files: &[Migration], checksums: &[String]) -> Option<String> {
    let (file, _) = files.iter().zip(checksums).find(|(file, then)| !file.was_recorded_as(then))?;
    let (name, version) = (&file.name, file.version);
    Some(match track {
        Track::Base => format!(
            "migration {name} of this operator is not the one that was applied to this tenant as version {version}: run the \
             version of the operator that applied it, or a later one"
        ),
        Track::Custom => format!(
            "custom migration {name} was changed after it was applied to this tenant as number {version}: put the file \
             back as it was, and make the change in a new file"
        ),
    })
}
