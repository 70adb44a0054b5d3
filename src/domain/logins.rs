//! The two alternating logins of a cell: which is which, and what a rotation keeps in the registry until it is through.

use super::{ident::LoginId, keys::KeyBytes};
use crate::api::bounds::REQUEST;
use serde::{Deserialize, Serialize};

/// One of the two logins of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginSlot {
    /// The one that a new cell begins with.
    A,
    /// The other.
    B,
}

impl LoginSlot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The letter in the control schema, and at the end of the role's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What a cell's entry says about the login in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginMark {
    /// Which password it is.
    pub id: LoginId,
    /// When the entry was written with it; bounded waits count from here.
    pub since: jiff::Timestamp,
    /// The login before it is to end at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revokes: bool,
}

/// The login that a cell's entry is about to change to, kept beside the entry under a key that replicas don't read, until
/// the database knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextLogin {
    /// Which password it is.
    pub id: LoginId,
    /// Which of the two logins.
    pub slot: LoginSlot,
    /// Its password.
    pub password: KeyBytes,
    /// What is asked for, and will be fulfilled by it.
    #[serde(default)]
    pub requests: LoginRequests,
}

/// What people ask for by annotations on a cell's Secret: each new value asks once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginRequests {
    /// A rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    /// A rotation after which the login before it ends at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<String>,
}

/// Reads the value of an annotation: none if it is empty, or too long to be remembered.
pub fn resolve_request(value: &str) -> Option<String> {
    REQUEST.allow_text(value).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        cells::CellRoles,
        ident::{CellNumber, NamePrefix},
    };

    #[test]
    fn names_and_slots_belong_together() {
        let roles = CellRoles::of(&NamePrefix::standard(), CellNumber(3));
        assert_eq!(roles.logins, ["at_acc_3_a", "at_acc_3_b"]);
        for slot in LoginSlot::ALL {
            assert_eq!(roles.slot_of(roles.login(slot)), Some(slot));
            assert_eq!(slot.other().other(), slot);
            assert_eq!(serde_json::to_value(slot).unwrap(), slot.as_str());
        }
        assert_eq!(roles.slot_of("at_acc_3_c"), None);
    }

    #[test]
    fn a_request_has_a_value_that_can_be_remembered() {
        assert_eq!(resolve_request("2026-12-01").as_deref(), Some("2026-12-01"));
        assert_eq!(resolve_request(&"ü".repeat(64)).map(|v| v.chars().count()), Some(64));
        assert_eq!((resolve_request(""), resolve_request(&"x".repeat(65))), (None, None));
    }
}
