//! Bounds of what a user writes. Each is stated once, as a constant of the type that has the field: the schema of the
//! CRD and `domain::resolve` use the same one.

use std::fmt::Display;

/// The least and the most that is allowed: of a number, of a text's characters or of a list's items. Characters are
/// Unicode code points, as JSON schema counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds<T> {
    /// The least.
    pub(crate) min: T,
    /// The most.
    pub(crate) max: T,
}

impl<T: PartialOrd + Display> Bounds<T> {
    /// Whether a value is within the bounds.
    pub(crate) fn allow(&self, value: &T) -> bool {
        (&self.min..=&self.max).contains(&value)
    }

    /// The rule for a number, as it follows the field's name.
    pub(crate) fn number_rule(&self) -> String {
        format!("must be from {} to {}", self.min, self.max)
    }
}

impl Bounds<usize> {
    /// Whether a text has as many characters as it must.
    pub(crate) fn allow_text(&self, text: &str) -> bool {
        self.allow(&text.chars().count())
    }

    /// The rule for a text, as it follows the field's name.
    pub(crate) fn text_rule(&self) -> String {
        format!("must have {} to {} characters", self.min, self.max)
    }

    /// The rule for a list, as it follows the field's name.
    pub(crate) fn list_rule(&self) -> String {
        format!("must have {} to {} items", self.min, self.max)
    }
}

/// Length of a tenant id.
pub(crate) const TENANT_ID: Bounds<usize> = Bounds { min: 1, max: 63 };
/// Pattern of a tenant id.
pub(crate) const TENANT_ID_PATTERN: &str = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";

/// Length of an agent's name.
pub(crate) const ID: Bounds<usize> = Bounds { min: 1, max: 40 };
/// Pattern of an agent's name.
pub(crate) const ID_PATTERN: &str = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$";

/// Length of the name of a Kubernetes object or of a key of a Secret.
pub(crate) const OBJECT_NAME: Bounds<usize> = Bounds { min: 1, max: 253 };
/// Pattern of the name of a Kubernetes object.
pub(crate) const OBJECT_NAME_PATTERN: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Pattern of a key of a Secret.
pub(crate) const SECRET_KEY_PATTERN: &str = r"^[-._a-zA-Z0-9]+$";

/// Length of a decimal with one digit before the point and at most four after it.
pub(crate) const DECIMAL: Bounds<usize> = Bounds { min: 1, max: 6 };
/// Most of a sampling temperature.
pub(crate) const MAX_TEMPERATURE: u32 = 2;
/// Pattern of a sampling temperature.
pub(crate) const TEMPERATURE_PATTERN: &str = r"^(0|1)(\.[0-9]{1,4})?$|^2(\.0{1,4})?$";
/// Most of nucleus sampling.
pub(crate) const MAX_TOP_P: u32 = 1;
/// Pattern of nucleus sampling.
pub(crate) const TOP_P_PATTERN: &str = r"^0(\.[0-9]{1,4})?$|^1(\.0{1,4})?$";

/// Tokens of one answer.
pub(crate) const OUTPUT_TOKENS: Bounds<i32> = Bounds { min: 1, max: 1_000_000 };
/// Length of the text that follows an AgentConfig's system prompt, in a Tenant and in `PUT …/settings`.
pub(crate) const INSTRUCTIONS: Bounds<usize> = Bounds { min: 1, max: 4096 };

/// Length of an annotation's value that asks for something once.
pub(crate) const REQUEST: Bounds<usize> = Bounds { min: 1, max: 64 };
