//! Durations on the command line, in kubectl's format.

use std::time::Duration;

/// Parses seconds, or a duration in Go's format.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration such as 90s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let mut letters = tail.chars();
        let unit = match letters.next() {
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        total = total.saturating_add(u64::from(number) * unit);
        rest = letters.as_str();
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_format_of_kubectl() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs()).ok();
        assert_eq!([seconds("90"), seconds("90s"), seconds("5m"), seconds("1h30m")], [90, 90, 300, 5400].map(Some));
        assert_eq!([seconds(""), seconds("m"), seconds("5x"), seconds("-1s")], [None; 4]);
    }
}
