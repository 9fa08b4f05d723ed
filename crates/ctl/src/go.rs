//! Go's ways of writing and reading values, which show in etcdctl's output, errors and input.

mod duration;
mod quote;

pub(crate) use duration::Duration;
pub(crate) use quote::{quote, quote_char, unquote};

/// Reads an integer as `strconv.ParseInt(text, radix, 64)` does; the error is Go's text.
pub(crate) fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    let fail = |why| format!("strconv.ParseInt: parsing {}: {why}", quote(text.as_bytes()));
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(fail("invalid syntax"));
    }
    i64::from_str_radix(text, radix).map_err(|_| fail("value out of range"))
}

/// Reads a number as `strconv.ParseUint(text, radix, 64)` does; the error is Go's text.
pub(crate) fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    let fail = |why| format!("strconv.ParseUint: parsing {}: {why}", quote(text.as_bytes()));
    if text.is_empty() || !text.chars().all(|digit| digit.is_digit(radix)) {
        return Err(fail("invalid syntax"));
    }
    u64::from_str_radix(text, radix).map_err(|_| fail("value out of range"))
}

/// Reads the integer of a flag: as Go source writes it, with an optional `0x`, `0o`, `0b` or `0` in front and `_` between
/// digits.
pub(crate) fn parse_flag_int(text: &str) -> Result<i64, String> {
    let fail = |why| format!("strconv.ParseInt: parsing {}: {why}", quote(text.as_bytes()));
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let misplaced =
        digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && radix == 10);
    let plain = digits.replace('_', "");
    if misplaced || plain.is_empty() || !plain.chars().all(|digit| digit.is_digit(radix)) {
        return Err(fail("invalid syntax"));
    }
    i64::from_str_radix(&format!("{sign}{plain}"), radix).map_err(|_| fail("value out of range"))
}

/// Reads a truth value as `strconv.ParseBool` does.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_arguments_are_plain_digits_with_a_sign() {
        assert_eq!(parse_int("-5", 10), Ok(-5));
        assert_eq!(parse_int("32695410dcc0ca06", 16), Ok(0x3269_5410_dcc0_ca06));
        assert_eq!(parse_int("zz", 16), Err("strconv.ParseInt: parsing \"zz\": invalid syntax".into()));
        assert_eq!(parse_int("0x1", 16), Err("strconv.ParseInt: parsing \"0x1\": invalid syntax".into()));
        assert_eq!(parse_int("", 10), Err("strconv.ParseInt: parsing \"\": invalid syntax".into()));
        let long = "9223372036854775808";
        assert_eq!(
            parse_int(long, 10),
            Err(format!("strconv.ParseInt: parsing \"{long}\": value out of range"))
        );
    }

    #[test]
    fn integers_of_flags_may_name_their_base() {
        let cases = [
            ("12", 12),
            ("-12", -12),
            ("0x1F", 31),
            ("017", 15),
            ("0o17", 15),
            ("0b11", 3),
            ("0", 0),
            ("1_000", 1000),
        ];
        for (text, value) in cases {
            assert_eq!(parse_flag_int(text), Ok(value), "{text}");
        }
        for text in ["", "abc", "08", "0x", "1__0", "_1", "1_", "1.5"] {
            assert_eq!(
                parse_flag_int(text),
                Err(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax")),
                "{text}"
            );
        }
    }

    #[test]
    fn truth_values_are_gos() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        assert_eq!(parse_bool("yes"), Err("strconv.ParseBool: parsing \"yes\": invalid syntax".into()));
    }
}
