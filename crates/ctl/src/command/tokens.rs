//! Words of a line, as the operations of a transaction and the lines of an interactive watch are made of them.

use crate::failure::{Failure, Outcome};
use crate::go;

/// Cuts a line into words: `"…"` with Go's escapes, `'…'` as it is, or anything up to white space. A quote that is never
/// closed is passed over.
pub(super) fn split(line: &[u8]) -> Outcome<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(&first) = rest.first() {
        let length = match first {
            b'"' => double_quoted(rest),
            b'\'' => rest[1..].iter().position(|&byte| byte == b'\'').map(|end| end + 2),
            _ if is_space(first) => None,
            _ => Some(rest.iter().position(|&byte| is_space(byte)).unwrap_or(rest.len())),
        };
        let Some(length) = length else {
            rest = &rest[1..];
            continue;
        };
        let (word, after) = rest.split_at(length);
        words.push(match first {
            b'"' => go::unquote(word).ok_or_else(|| Failure::invalid_input("invalid syntax"))?,
            b'\'' => word[1..word.len() - 1].to_vec(),
            _ => word.to_vec(),
        });
        rest = after;
    }
    Ok(words)
}

/// How long the quoted word at the front is, if it ends.
pub(super) fn double_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn words_are_bare_or_quoted() {
        assert_eq!(words("put a b"), ["put", "a", "b"]);
        assert_eq!(words("  put\t'x y'  \"p \\\"q\\\"\\n\" "), ["put", "x y", "p \"q\"\n"]);
        assert_eq!(words("x\"abc\"y 'a''b'"), ["x\"abc\"y", "a", "b"]);
        assert_eq!(words("'' \"\""), ["", ""]);
        assert_eq!(words("it's a\\b"), ["it's", "a\\b"]);
        assert!(words("  ").is_empty());
    }

    #[test]
    fn a_quote_never_closed_is_passed_over() {
        assert_eq!(words("get \"a"), ["get", "a"]);
        assert_eq!(words("get 'a b"), ["get", "a", "b"]);
    }

    #[test]
    fn a_bad_escape_is_invalid_syntax() {
        assert_eq!(split(br#"get "a\q""#), Err(Failure::invalid_input("invalid syntax")));
    }
}
