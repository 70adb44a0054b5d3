//! Amounts of bytes as Kubernetes writes quantities (`512Mi`, `2G`), whole numbers only.

/// Units: decimal ones, and binary ones with an `i`.
const UNITS: [(&str, i64); 11] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
];

/// Parses a whole number with a unit, as the CRD's pattern allows it, into bytes; `None` if it is invalid or overflows.
pub(crate) fn parse_bytes(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if !(1..=16).contains(&digits) || number.starts_with('0') {
        return None;
    }
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<i64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_with_a_known_unit_are_quantities() {
        for (text, bytes) in [
            ("1", 1),
            ("1500k", 1_500_000),
            ("1Mi", 1 << 20),
            ("2G", 2_000_000_000),
            ("3Gi", 3 << 30),
            ("1Pi", 1 << 50),
            ("1125899906842624", 1 << 50),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "Gi", "0", "01", "-1", "+1", "1.5Gi", "1e3", "1m", "1K", "1gi", "1 Gi", "9999999999999999Pi"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
