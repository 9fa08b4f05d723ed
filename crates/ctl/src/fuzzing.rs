//! Doors for fuzzers to the readers of what users type: bytes in, and a panic if they break a promise.

pub use crate::command::fuzzing::{flags, line};
use crate::go;

/// Go's strings, numbers and durations.
pub fn go(bytes: &[u8]) {
    assert_eq!(go::unquote(go::quote(bytes).as_bytes()).as_deref(), Some(bytes));
    if let Some(meant) = go::unquote(bytes) {
        assert_eq!(go::unquote(go::quote(&meant).as_bytes()), Some(meant));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = go::Duration::parse(text) {
        assert_eq!(go::Duration::parse(&duration.to_string()), Ok(duration));
    }
    for radix in [10, 16] {
        if let Ok(number) = go::parse_int(text, radix) {
            assert_eq!(go::parse_int(&number.to_string(), 10), Ok(number));
        }
    }
    if let Ok(number) = go::parse_flag_int(text) {
        assert_eq!(go::parse_flag_int(&number.to_string()), Ok(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("ctl_go", go);
        smoke::run("ctl_line", line);
        smoke::run("ctl_flags", flags);
    }
}
