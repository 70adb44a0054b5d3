//! Status of a DatabaseInstance.

use super::conditions::{Wanted, condition, notices};
use crate::{
    api::{
        Condition, ConditionStatus as Status, ConditionType as Part, DatabaseInstanceStatus, MigrationsStatus, Notice,
        Reason,
    },
    domain::ident::DatabaseId,
    plan::{
        instance::{capacity::Pressure, rollout::RolloutStage},
        observed::ReadError,
    },
};
use jiff::Timestamp;

/// The conditions of an instance, as they are listed.
const ORDER: [Part; 3] = [Part::Available, Part::TablesCurrent, Part::Headroom];

/// Whether the database can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Usable, with warnings.
    Available(DatabaseId, Vec<String>),
    /// Not usable at the moment, and why.
    Unavailable(ReadError),
    /// Another database than the recorded one answered.
    Changed(String),
}

/// State of the rollout of migrations to the tenants of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetView {
    /// Stage of the rollout.
    pub stage: RolloutStage,
    /// Tenants that have not had every file.
    pub behind: usize,
    /// Those of them with a failed migration.
    pub blocked: usize,
    /// Version of the program's tables that tenants get.
    pub target: i32,
    /// Number of custom migrations.
    pub own: i32,
}

/// What was read about an instance. The status keeps what was not read.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// Whether it can be used.
    pub state: InstanceState,
    /// `server_version_num`.
    pub server_version: Option<i32>,
    /// State of the rollout.
    pub fleet: Option<FleetView>,
    /// Limits that are near.
    pub pressure: Option<Vec<Pressure>>,
    /// Generation of the object.
    pub generation: i64,
}

/// Computes the status of an instance, and the events.
pub fn project_instance(
    view: &InstanceView,
    previous: &DatabaseInstanceStatus,
    now: Timestamp,
) -> (DatabaseInstanceStatus, Vec<Notice>) {
    let wanted: Vec<Wanted> = [
        Some(project_available(&view.state)),
        view.fleet.as_ref().map(project_tables),
        view.pressure.as_deref().map(project_headroom),
    ]
    .into_iter()
    .flatten()
    .collect();
    let notices = notices(&wanted, &previous.conditions);
    let kept = previous.conditions.iter().filter(|old| !wanted.iter().any(|w| w.is(old))).cloned().collect::<Vec<_>>();
    let mut conditions: Vec<_> =
        wanted.into_iter().map(|w| condition(w, &previous.conditions, view.generation, now)).collect();
    conditions.extend(kept);
    // Always in the same order, whichever of them were computed this time.
    let place = |condition: &Condition| ORDER.iter().position(|part| part.as_str() == condition.type_);
    conditions.sort_by_key(place);
    let database_id = match &view.state {
        InstanceState::Available(id, _) => Some(id.to_string()),
        InstanceState::Unavailable(_) | InstanceState::Changed(_) => previous.database_id.clone(),
    };
    let status = DatabaseInstanceStatus {
        observed_generation: Some(view.generation),
        database_id,
        server_version: view.server_version.map(render_version).or_else(|| previous.server_version.clone()),
        migrations: view.fleet.as_ref().map(project_migrations).or_else(|| previous.migrations.clone()),
        conditions,
    };
    (status, notices)
}

fn project_migrations(fleet: &FleetView) -> MigrationsStatus {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    MigrationsStatus {
        version: fleet.target,
        own_version: fleet.own,
        stage: fleet.stage.as_str().to_owned(),
        behind: number(fleet.behind),
        blocked: number(fleet.blocked),
    }
}

fn project_available(state: &InstanceState) -> Wanted {
    let (status, reason, message) = match state {
        InstanceState::Available(_, warnings) if warnings.is_empty() => {
            (Status::True, Reason::Available, "the database is in use".to_owned())
        }
        InstanceState::Available(_, warnings) => (Status::True, Reason::Available, warnings.join("; ")),
        InstanceState::Unavailable(read_error) => (Status::False, read_error.reason(), read_error.note.clone()),
        InstanceState::Changed(note) => (Status::False, Reason::DatabaseChanged, note.clone()),
    };
    Wanted { type_: Part::Available, status, reason, message, terminal: false }
}

fn project_tables(fleet: &FleetView) -> Wanted {
    let FleetView { behind, blocked, .. } = fleet;
    let left = format!("{behind} tenants have not had every migration");
    let (status, reason, message) = match fleet.stage {
        RolloutStage::Done => (Status::True, Reason::UpToDate, "every tenant's tables are up to date".to_owned()),
        RolloutStage::Canaries => {
            (Status::False, Reason::Upgrading, format!("{left}; the canaries are being migrated"))
        }
        RolloutStage::Holding => {
            (Status::False, Reason::Upgrading, format!("{left}; the canaries are done and being observed"))
        }
        RolloutStage::Rolling => (Status::False, Reason::Upgrading, left),
        RolloutStage::Halted => {
            let message = format!(
                "{left}, and {blocked} of these can't be migrated: no other tenant starts until that is fixed; `kubectl tenant \
                 migrations` names them"
            );
            (Status::False, Reason::UpgradeHalted, message)
        }
    };
    Wanted { type_: Part::TablesCurrent, status, reason, message, terminal: false }
}

fn project_headroom(pressure: &[Pressure]) -> Wanted {
    let message = pressure.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let (status, reason, message) = match pressure.is_empty() {
        true => (Status::True, Reason::WithinLimits, "the server is well within its limits".to_owned()),
        false => (Status::False, Reason::NearLimit, message),
    };
    Wanted { type_: Part::Headroom, status, reason, message, terminal: false }
}

/// `180006` is 18.6 (PostgreSQL manual, `server_version_num`).
fn render_version(number: i32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::class::ErrorClass;
    use crate::plan::instance::capacity::ConnectionBudget;
    use uuid::Uuid;

    fn view() -> InstanceView {
        InstanceView {
            state: InstanceState::Available(DatabaseId(Uuid::from_u128(1)), Vec::new()),
            server_version: Some(180_006),
            fleet: Some(FleetView { stage: RolloutStage::Done, behind: 0, blocked: 0, target: 2, own: 0 }),
            pressure: Some(Vec::new()),
            generation: 1,
        }
    }

    fn words(status: &DatabaseInstanceStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={}/{}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn the_state_of_an_instance_is_reported_once() {
        let now = Timestamp::UNIX_EPOCH;
        let (status, _) = project_instance(&view(), &DatabaseInstanceStatus::default(), now);
        assert_eq!(
            words(&status),
            ["Available=True/Available", "TablesCurrent=True/UpToDate", "Headroom=True/WithinLimits"]
        );
        assert_eq!(status.server_version.as_deref(), Some("18.6"));
        let later = now + jiff::SignedDuration::from_secs(60);
        assert_eq!(project_instance(&view(), &status, later), (status.clone(), Vec::new()), "nothing new");

        // A process that has just started has not read everything yet.
        let begun = InstanceView { fleet: None, ..view() };
        assert_eq!(project_instance(&begun, &status, later), (status.clone(), Vec::new()), "nothing new");

        // In an outage the status keeps what was read before.
        let read_error = ReadError::new(ErrorClass::Transient, "it does not answer");
        let out = InstanceView {
            state: InstanceState::Unavailable(read_error),
            server_version: None,
            fleet: None,
            pressure: None,
            generation: 1,
        };
        let (out, notices) = project_instance(&out, &status, later);
        assert_eq!(
            words(&out),
            ["Available=False/DatabaseUnavailable", "TablesCurrent=True/UpToDate", "Headroom=True/WithinLimits"]
        );
        assert_eq!((&out.migrations, &out.database_id, notices.len()), (&status.migrations, &status.database_id, 1));
    }

    #[test]
    fn a_rollout_and_limits_are_reported() {
        let mut view = view();
        let fleet = view.fleet.as_mut().unwrap();
        (fleet.stage, fleet.behind, fleet.blocked) = (RolloutStage::Halted, 4, 1);
        view.pressure =
            Some(vec![Pressure::Budget { budget: ConnectionBudget { operator: 8, replicas: 90 }, limit: 97 }]);
        let (status, notices) = project_instance(&view, &DatabaseInstanceStatus::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(words(&status)[1..], ["TablesCurrent=False/UpgradeHalted", "Headroom=False/NearLimit"]);
        let migrations = status.migrations.unwrap();
        assert_eq!((migrations.stage.as_str(), migrations.behind, migrations.blocked), ("Halted", 4, 1));
        assert_eq!(notices.len(), 2);
    }
}
