//! Broken rules of a spec: one as a value, and the list that `resolve` collects.

use crate::api::bounds::Bounds;

/// One broken rule of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, from `spec` or `metadata`.
    pub field: String,
    /// What must hold, as a phrase that follows the path.
    pub rule: String,
}

impl Violation {
    /// A rule that the value of a field breaks.
    pub(super) fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.field, self.rule)
    }
}

/// Every broken rule of one spec, in the order of the checks.
#[derive(Debug, Default)]
pub(super) struct Violations(pub(super) Vec<Violation>);

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.0.push(Violation::new(field, rule));
    }

    /// Requires a number to be within its bounds.
    pub(super) fn check_number(&mut self, field: impl Into<String>, value: i32, bounds: Bounds<i32>) {
        if !bounds.allow(&value) {
            self.add(field, bounds.number_rule());
        }
    }

    /// Requires a text to have as many characters as its bounds say.
    pub(super) fn check_text(&mut self, field: impl Into<String>, text: &str, bounds: Bounds<usize>) {
        if !bounds.allow_text(text) {
            self.add(field, bounds.text_rule());
        }
    }
}
