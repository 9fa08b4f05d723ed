//! Go's quoted strings: `%q` on the way out, string literals on the way in.

use std::fmt::Write as _;

/// The bytes as Go's `%q` writes them.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut quoted, c, '"');
        }
        for byte in chunk.invalid() {
            push_hex(&mut quoted, *byte);
        }
    }
    quoted.push('"');
    quoted
}

/// The character as Go's `%q` writes a rune.
pub(crate) fn quote_char(c: char) -> String {
    let mut quoted = String::from("'");
    push_escaped(&mut quoted, c, '\'');
    quoted.push('\'');
    quoted
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if c == quote => out.extend(['\\', c]),
        c if is_printable(c) => out.push(c),
        c => push_code(out, u32::from(c)),
    }
}

fn push_code(out: &mut String, code: u32) {
    let width = match code {
        0..0x80 => return push_hex(out, u8::try_from(code).expect("the code is below 0x80")),
        0x80..0x1_0000 => ('u', 4),
        _ => ('U', 8),
    };
    // Writing to a string cannot fail.
    write!(out, "\\{}{code:0len$x}", width.0, len = width.1).unwrap_or(());
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "\\x{byte:02x}").unwrap_or(());
}

/// Letters, marks, numbers, punctuation, symbols and the space: what the standard library leaves unescaped too, except
/// that it escapes a mark that begins a string.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"') || !format!("a{c}").escape_debug().any(|escaped| escaped == '\\')
}

/// Reads a Go string literal in double quotes, quotes included; `None` where Go says `invalid syntax`.
pub(crate) fn unquote(literal: &[u8]) -> Option<Vec<u8>> {
    let mut rest = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if literal.len() < 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        rest = match first {
            b'\\' => unescape(tail, &mut bytes)?,
            b'"' | b'\n' => return None,
            _ => {
                bytes.push(first);
                tail
            }
        };
    }
    Some(bytes)
}

/// Reads what follows a backslash, and returns what follows that.
fn unescape<'a>(escape: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&letter, rest) = escape.split_first()?;
    let byte = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => letter,
        b'x' => {
            let (code, rest) = digits(rest, 2, 16)?;
            out.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        b'0'..=b'7' => {
            let (code, rest) = digits(escape, 3, 8)?;
            out.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (code, rest) = digits(rest, if letter == b'u' { 4 } else { 8 }, 16)?;
            let mut buffer = [0; 4];
            out.extend(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    out.push(byte);
    Some(rest)
}

fn digits(text: &[u8], count: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let mut code: u32 = 0;
    for &digit in digits {
        code = code.checked_mul(radix)?.checked_add(char::from(digit).to_digit(radix)?)?;
    }
    Some((code, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_escapes_what_go_escapes() {
        let cases: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"foo bar", r#""foo bar""#),
            (b"a\"b\\c'd", r#""a\"b\\c'd""#),
            (b"\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
            ("h\u{e9}\u{4e16}\u{1f600}".as_bytes(), "\"h\u{e9}\u{4e16}\u{1f600}\""),
            ("\u{301}".as_bytes(), "\"\u{301}\""),
            ("\u{85}\u{a0}\u{2028}\u{200b}\u{feff}".as_bytes(), r#""\u0085\u00a0\u2028\u200b\ufeff""#),
            ("\u{e0001}".as_bytes(), r#""\U000e0001""#),
            (b"ok\xc3", r#""ok\xc3""#),
        ];
        for (bytes, quoted) in cases {
            assert_eq!(quote(bytes), *quoted);
        }
        assert_eq!(quote_char('x'), "'x'");
        assert_eq!(quote_char('\''), r"'\''");
    }

    #[test]
    fn literals_are_read_as_go_reads_them() {
        let cases: &[(&str, &[u8])] = &[
            (r#""""#, b""),
            (r#""x y""#, b"x y"),
            (r#""\a\b\f\n\r\t\v\\\"""#, b"\x07\x08\x0c\n\r\t\x0b\\\""),
            (r#""\x41\101\u00e9\U0001F600""#, b"AA\xc3\xa9\xf0\x9f\x98\x80"),
            (r#""\xff\377""#, b"\xff\xff"),
        ];
        for (literal, bytes) in cases {
            assert_eq!(unquote(literal.as_bytes()).as_deref(), Some(*bytes), "{literal}");
        }
        for wrong in [
            r#"""#,
            "x",
            r#""\q""#,
            r#""\'""#,
            r#""\x4""#,
            r#""\400""#,
            r#""\ud800""#,
            r#""a"b""#,
            "\"a\nb\"",
            r#""\""#,
        ] {
            assert_eq!(unquote(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_was_quoted_reads_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unquote(quote(&all).as_bytes()), Some(all));
    }
}
