//! Values as Go's flags read them.

use std::time::Duration;

use crate::url::Url;

/// URLs separated by commas, sorted and each once.
pub(super) fn urls(value: &str) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> = Url::parse_list(value.split(','))?.iter().map(Url::to_string).collect();
    urls.dedup();
    Ok(urls)
}

pub(super) fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "parse error".to_owned())
}

/// A duration in Go's notation, such as `1h30m` or `250ms`.
pub(crate) fn duration(value: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {value:?}");
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = value;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let count: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        total += count * seconds;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

/// A truth in one of Go's spellings.
pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("parse error".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("2h0m0s", 7_200_000), ("250ms", 250), ("1.5s", 1500), ("0", 0), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "5x", "s", "-1s"] {
            assert_eq!(duration(text), Err(format!("time: invalid duration {text:?}")), "{text}");
        }
    }
}
