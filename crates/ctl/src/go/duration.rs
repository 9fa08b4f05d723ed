//! Go's durations: `1m30s` in, `2.679164ms` out.

use std::fmt;

use super::quote;

/// A length of time in nanoseconds, which may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duration(i64);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Duration {
    /// Reads a duration as `time.ParseDuration` does; the error is Go's text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let quoted = quote(text.as_bytes());
        let invalid = || format!("time: invalid duration {quoted}");
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut nanos: i64 = 0;
        while !rest.is_empty() {
            let (number, after) =
                rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
            if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
                return Err(invalid());
            }
            let (unit, after) =
                after.split_at(after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len()));
            if unit.is_empty() {
                return Err(format!("time: missing unit in duration {quoted}"));
            }
            let Some(&(_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(format!("time: unknown unit {} in duration {quoted}", quote(unit.as_bytes())));
            };
            nanos = scaled(number, size).and_then(|part| nanos.checked_add(part)).ok_or_else(invalid)?;
            rest = after;
        }
        Ok(Self(if negative { -nanos } else { nanos }))
    }

    /// As the standard library has it; negative ones are zero, which is as soon as can be.
    pub(crate) fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// `number` times `size`, the fraction cut off to whole nanoseconds.
fn scaled(number: &str, size: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (mut part, mut divisor) = (0_i128, 1_i128);
    for digit in fraction.bytes().take(18) {
        part = part * 10 + i128::from(digit - b'0');
        divisor *= 10;
    }
    let part = i64::try_from(part * i128::from(size) / divisor).ok()?;
    whole.checked_mul(size)?.checked_add(part)
}

/// As `time.Duration.String` writes it.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        if nanos == 0 {
            return f.write_str("0s");
        }
        match nanos {
            0..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}\u{b5}s", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}ms", decimal(nanos, 1_000_000)),
            _ => {
                let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
                let seconds = decimal(rest, 1_000_000_000);
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{sign}{seconds}s"),
                    (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
                    (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}

/// `nanos / unit` with as many decimals as it needs.
fn decimal(nanos: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("1h2m3s", 3_723_000_000_000),
            ("-3us", -3_000),
            ("+7ns", 7),
            ("1\u{b5}s", 1_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(Duration::parse(text), Ok(Duration(nanos)), "{text}");
        }
        let wrong = [
            ("bad", "time: invalid duration \"bad\""),
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            (".s", "time: invalid duration \".s\""),
            ("9223372037s", "time: invalid duration \"9223372037s\""),
        ];
        for (text, error) in wrong {
            assert_eq!(Duration::parse(text), Err(error.into()));
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (853_100, "853.1\u{b5}s"),
            (2_679_164, "2.679164ms"),
            (1_000_647_946, "1.000647946s"),
            (2_000_000_000, "2s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (-1_500_000, "-1.5ms"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Duration(nanos).to_string(), text);
        }
    }
}
