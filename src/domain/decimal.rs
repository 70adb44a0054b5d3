//! Exact decimals of up to four places. The API has no floats.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A decimal from 0 to 9.9999 in steps of 0.0001. Its text has no trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal {
    ten_thousandths: u32,
}

impl Decimal {
    /// Parses `D` or `D.dddd` (one to four places) and checks that it is at most `max` whole units.
    pub fn parse(text: &str, max: u32) -> Option<Self> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |t: &str, longest: usize| (1..=longest).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 1) || !digits(places, 4) {
            return None;
        }
        let padded = format!("{places:0<4}");
        let value = Self { ten_thousandths: whole.parse::<u32>().ok()? * 10_000 + padded.parse::<u32>().ok()? };
        (value.ten_thousandths <= max * 10_000).then_some(value)
    }

    /// The nearest float, for the JSON bodies of requests to providers.
    pub(crate) fn as_f64(self) -> f64 {
        f64::from(self.ten_thousandths) / 10_000.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, places) = (self.ten_thousandths / 10_000, self.ten_thousandths % 10_000);
        if places == 0 {
            return write!(f, "{whole}");
        }
        let places = format!("{places:04}");
        write!(f, "{whole}.{}", places.trim_end_matches('0'))
    }
}

impl TryFrom<String> for Decimal {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text, 9).ok_or("must be a decimal with at most four places")
    }
}

impl From<Decimal> for String {
    fn from(value: Decimal) -> Self {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn texts_are_canonical_and_bounded() {
        let shown = |text, max| Decimal::parse(text, max).map(|d| d.to_string());
        assert_eq!(shown("0.70", 2).as_deref(), Some("0.7"));
        assert_eq!(shown("2.0000", 2).as_deref(), Some("2"));
        assert_eq!(shown("0.0001", 2).as_deref(), Some("0.0001"));
        for bad in ["", ".5", "1.", "2.0001", "1.00000", "-1", "1e0", "12", " 1"] {
            assert_eq!(shown(bad, 2), None, "{bad}");
        }
    }
}
