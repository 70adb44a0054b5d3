//! Why a Tenant may not use what the database holds for its id, and what its conditions say about that.

use crate::{
    api::{ConditionType as Part, Reason},
    domain::class::ErrorClass,
    plan::{
        observed::{ReadError, data_owner::TAKEN, unplaced::Unplaced},
        report::{PartReport, PartState},
    },
};

/// Why a Tenant may not use what the database holds for its id.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// It belongs to another Tenant, or nobody knows to which one.
    Foreign(String),
    /// It is the data of a deleted Tenant of this namespace, which was kept.
    Retained(String),
    /// It is the data of a deleted Tenant of another namespace, which was kept.
    RetainedElsewhere,
    /// The Tenant had data, and some of it is gone.
    Lost(String),
    /// Another database answered.
    Changed(String),
    /// There is no database to read.
    Unplaced(Unplaced),
    /// The database could not be read.
    Unknown(ReadError),
}

impl Refusal {
    /// The same about the data of another Tenant: a Tenant of another namespace learns nothing of it.
    #[must_use]
    pub(super) fn shown_to(self, same_namespace: bool) -> Self {
        match self {
            Self::Foreign(_) if !same_namespace => Self::Foreign(TAKEN.to_owned()),
            Self::Retained(_) if !same_namespace => Self::RetainedElsewhere,
            shown @ (Self::Foreign(_)
            | Self::Retained(_)
            | Self::RetainedElsewhere
            | Self::Lost(_)
            | Self::Changed(_)
            | Self::Unplaced(_)
            | Self::Unknown(_)) => shown,
        }
    }

    /// The condition that reports it.
    pub const fn part(&self) -> Part {
        match self {
            Self::Foreign(_) | Self::Retained(_) | Self::RetainedElsewhere | Self::Unplaced(Unplaced::Taken { .. }) => {
                Part::Accepted
            }
            Self::Lost(_)
            | Self::Changed(_)
            | Self::Unplaced(Unplaced::Unknown { .. } | Unplaced::Closed(_) | Unplaced::Unasked { .. })
            | Self::Unknown(_) => Part::DatabaseReady,
        }
    }

    /// The state of that part.
    pub const fn state(&self) -> PartState {
        match self {
            Self::Foreign(_)
            | Self::Retained(_)
            | Self::RetainedElsewhere
            | Self::Lost(_)
            | Self::Changed(_)
            | Self::Unplaced(_) => PartState::Refused(ErrorClass::Conflict),
            Self::Unknown(read_error) => PartState::Unread(read_error.class),
        }
    }

    /// The reason, from the closed list.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Foreign(_) | Self::RetainedElsewhere => Reason::Conflict,
            Self::Retained(_) => Reason::RetainedDataExists,
            Self::Lost(_) => Reason::DataLost,
            Self::Changed(_) => Reason::DatabaseChanged,
            Self::Unplaced(unplaced) => unplaced.reason(),
            Self::Unknown(read_error) => read_error.reason(),
        }
    }

    /// A sentence for people.
    pub fn note(&self) -> String {
        match self {
            Self::RetainedElsewhere => TAKEN.to_owned(),
            Self::Foreign(note) | Self::Retained(note) | Self::Lost(note) | Self::Changed(note) => note.clone(),
            Self::Unplaced(unplaced) => unplaced.render(),
            Self::Unknown(read_error) => read_error.note.clone(),
        }
    }

    /// The report on the part that it concerns.
    pub fn report(&self) -> PartReport {
        self.report_on(self.part())
    }

    /// The same report on another part.
    pub fn report_on(&self, part: Part) -> PartReport {
        PartReport::new(part, self.state(), self.reason(), self.note())
    }
}
