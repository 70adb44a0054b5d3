//! The two alternating logins of a cell, and what a rotation keeps in the registry until it is complete.

use super::{ident::LoginId, keys::KeyBytes};
use crate::api::bounds::REQUEST;
use serde::{Deserialize, Serialize};

/// One of the two logins of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginSlot {
    /// The first login of a new cell.
    A,
    /// The other.
    B,
}

impl LoginSlot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// Its letter in the control schema and at the end of the role's name.
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

/// What a cell's entry records about its login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginMark {
    /// Which password it is.
    pub id: LoginId,
    /// When the entry was written with it. Timeouts start here.
    pub since: jiff::Timestamp,
    /// Whether the previous login is to be revoked at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revokes: bool,
}

/// The next login of a cell. It is stored in the entry's Secret under a key that replicas don't read, until the
/// database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextLogin {
    /// Which password it is.
    pub id: LoginId,
    /// Which of the two logins.
    pub slot: LoginSlot,
    /// Its password.
    pub password: KeyBytes,
    /// The requests that it will fulfil.
    #[serde(default)]
    pub requests: LoginRequests,
}

/// Requests by annotations on a cell's Secret. Each new value is one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginRequests {
    /// A rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
    /// A rotation that revokes the previous login at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<String>,
}

/// Parses the value of an annotation: `None` if it is empty or too long to be stored.
pub(crate) fn resolve_request(value: &str) -> Option<String> {
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
    fn a_slot_and_the_name_of_its_login_are_equivalent() {
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
    fn a_request_has_a_value_that_can_be_stored() {
        assert_eq!(resolve_request("2026-12-01").as_deref(), Some("2026-12-01"));
        assert_eq!(resolve_request(&"ü".repeat(64)).map(|v| v.chars().count()), Some(64));
        assert_eq!((resolve_request(""), resolve_request(&"x".repeat(65))), (None, None));
    }
}
