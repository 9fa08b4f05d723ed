//! `txn`: three sections of lines from stdin, each ended by an empty line.
//!
//! ```text
//! mod("key1") > "0"        compares
//!
//! put key1 "new value"     done if all of them hold
//!
//! get key1                 done if not
//!
//! ```

use std::io::BufRead;

use client::{Compare, LeaseId, Op, Txn};

use super::{Action, Command, HELP, Invocation, ROOT, del, first_word, get, help, put, tokens};
use crate::failure::{Failure, Outcome};
use crate::flags::{self, Flag, Parsed};
use crate::go;
use crate::output::{err_line, out_line};
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "txn",
    alias: None,
    usage: "[options]",
    short: "Does all of several requests at once, or none",
    long: "Reads three sections of lines from stdin, each ended by an empty line: compares, the requests to do if all of\n\
           them hold, and the requests to do if not.\n\
           \n\
           A compare is <target>(\"<key>\") <operator> \"<value>\", where the target is one of ver, create, mod, val and\n\
           lease, and the operator one of =, !=, > and <. A request is a line of put, get or del.",
    flags: &[Flag::bool("interactive", "ask for each section").short('i')],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    if !invocation.args().is_empty() {
        return Err(Failure::bad_args("txn command does not accept argument"));
    }
    let (session, parsed) = invocation.session()?;
    let client = session.connect().await?;
    let txn = read(parsed.on("interactive")).await?;
    // No timeout: etcdctl has none here.
    let response = client.txn(txn).await?;
    session.print(&Answer::Txn(&response))
}

async fn read(interactive: bool) -> Outcome<Txn> {
    let ask = |question: &str| if interactive { out_line(question) } else { Ok(()) };
    let mut txn = Txn::new();
    ask("compares:")?;
    while let Some(line) = next_line()? {
        txn = txn.when([compare(&line)?]);
    }
    ask("success requests (get, put, del):")?;
    while let Some(line) = next_line()? {
        txn = txn.then([request(&line).await?]);
    }
    ask("failure requests (get, put, del):")?;
    while let Some(line) = next_line()? {
        txn = txn.otherwise([request(&line).await?]);
    }
    Ok(txn)
}

/// The next line of a section; `None` at its end. Input that ends before the section does is an error, so that half a
/// transaction is never sent.
fn next_line() -> Outcome<Option<Vec<u8>>> {
    let mut line = Vec::new();
    std::io::stdin().lock().read_until(b'\n', &mut line).map_err(Failure::invalid_input)?;
    if line.pop() != Some(b'\n') {
        return Err(Failure::invalid_input("EOF"));
    }
    let line = line.trim_ascii().to_vec();
    Ok(Some(line).filter(|line| !line.is_empty()))
}

/// What stands in a compare, before it is known whether it means anything.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: String,
    value: Vec<u8>,
    complete: bool,
}

pub(super) fn compare(line: &[u8]) -> Outcome<Compare> {
    let shown = String::from_utf8_lossy(line);
    let malformed = |why: &str| Failure::invalid_input(format!("malformed comparison: {shown}{why}"));
    let at = line.iter().position(|&byte| byte == b'(').ok_or_else(|| malformed(""))?;
    let target = String::from_utf8_lossy(&line[..at]).into_owned();
    let Parts { key, operator, value, complete } = parts(&line[at + 1..]);
    if !complete {
        return Err(malformed(&format!(
            "; got {target}({}) {operator} {}",
            go::quote(&key),
            go::quote(&value)
        )));
    }
    let number = |radix| {
        go::parse_int(&String::from_utf8_lossy(&value), radix)
            .map_err(|_| Failure::invalid_input(format!("invalid txn compare request: {shown}")))
    };
    macro_rules! with_operator {
        ($comparand:expr, $value:expr) => {
            match operator.as_str() {
                "=" => $comparand.equal($value),
                "!=" => $comparand.not_equal($value),
                ">" => $comparand.greater($value),
                "<" => $comparand.less($value),
                // etcdctl panics with these words, and a panic of Go's exits with 2.
                _ => return Err(Failure::bad_connection("Unknown result op")),
            }
        };
    }
    Ok(match target.as_str() {
        "ver" | "version" => with_operator!(Compare::version(key), number(10)?),
        "c" | "create" => with_operator!(Compare::create_revision(key), number(10)?),
        "m" | "mod" => with_operator!(Compare::mod_revision(key), number(10)?),
        "val" | "value" => with_operator!(Compare::value(key), value),
        // etcdctl up to 3.7 panics here; the next one reads a lease id, and so does this.
        "lease" => with_operator!(Compare::lease(key), LeaseId::new(number(16)?)),
        _ => return Err(malformed(&format!(" (unknown target {target})"))),
    })
}

/// Reads `"key") operator "value"` as far as it goes.
fn parts(text: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let Some((key, rest)) = quoted(text) else { return parts };
    parts.key = key;
    let Some(rest) = rest.strip_prefix(b")").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))
    else {
        return parts;
    };
    let rest = rest.trim_ascii_start();
    let (operator, rest) = rest.split_at(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len()));
    parts.operator = String::from_utf8_lossy(operator).into_owned();
    if let Some((value, _)) = quoted(rest) {
        parts.value = value;
        parts.complete = true;
    }
    parts
}

/// Reads a string in double quotes with Go's escapes, or in backquotes as it is.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let text = text.trim_ascii_start();
    match text.first()? {
        b'"' => {
            let (literal, rest) = text.split_at(tokens::double_quoted(text)?);
            Some((go::unquote(literal)?, rest))
        }
        b'`' => {
            let end = text[1..].iter().position(|&byte| byte == b'`')? + 1;
            Some((text[1..end].to_vec(), &text[end + 1..]))
        }
        _ => None,
    }
}

async fn request(line: &[u8]) -> Outcome<Op> {
    let (command, parsed) = operation(line)?;
    match command.name {
        "put" => Ok(put::request(&parsed, Vec::new)?.into()),
        "get" => Ok(get::request(&parsed)?.into()),
        _ => {
            let delete = del::request(&parsed)?;
            del::give_grace(&parsed).await;
            Ok(delete.into())
        }
    }
}

/// Finds the command of an operation and reads its flags; global flags have no place here.
fn operation(line: &[u8]) -> Outcome<(&'static Command, Parsed)> {
    let shown = String::from_utf8_lossy(line);
    let mut words = tokens::split(line)?;
    if words.len() < 2 {
        return Err(Failure::invalid_input(format!("invalid txn compare request: {shown}")));
    }
    let invalid = || Failure::invalid_input(format!("invalid txn request: {shown}"));
    let at = first_word(&[&HELP], &words).ok_or_else(invalid)?;
    let command = named(&String::from_utf8_lossy(&words.remove(at))).ok_or_else(invalid)?;
    let known: Vec<&'static Flag> = command.flags.iter().chain([&HELP]).collect();
    match flags::parse(&known, &words) {
        Ok(parsed) if !parsed.on("help") => Ok((command, parsed)),
        _ => {
            err_line(help::text(&[&ROOT, command]));
            Err(invalid())
        }
    }
}

fn named(typed: &str) -> Option<&'static Command> {
    let operations = [&put::COMMAND, &get::COMMAND, &del::COMMAND];
    operations.into_iter().find(|command| !typed.is_empty() && command.name.starts_with(typed))
}

#[cfg(test)]
mod tests {
    use client::{Delete, Get, Put};

    use super::*;

    fn read_compare(line: &str) -> Result<Compare, String> {
        compare(line.as_bytes()).map_err(|failure| failure.message.unwrap())
    }

    fn read_request(line: &str) -> Result<Op, Failure> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(request(line.as_bytes()))
    }

    #[test]
    fn compares_name_target_key_operator_and_value() {
        let cases = [
            (r#"ver("k") = "1""#, Compare::version("k").equal(1)),
            (r#"version( "k") > "-1""#, Compare::version("k").greater(-1)),
            (r#"c("k") != "2""#, Compare::create_revision("k").not_equal(2)),
            (r#"create("k") < "2""#, Compare::create_revision("k").less(2)),
            (r#"m("k") = "3""#, Compare::mod_revision("k").equal(3)),
            (r#"mod("k")   =   "3" and more"#, Compare::mod_revision("k").equal(3)),
            (r#"val("a b\n") = "x \"y\"""#, Compare::value("a b\n").equal("x \"y\"")),
            ("value(`k\\`) = `v`", Compare::value("k\\").equal("v")),
            (r#"lease("k") = "694d81""#, Compare::lease("k").equal(LeaseId::new(0x69_4d81))),
        ];
        for (line, compare) in cases {
            assert_eq!(read_compare(line), Ok(compare), "{line}");
        }
    }

    #[test]
    fn malformed_compares_are_told_in_etcdctls_words() {
        let cases = [
            ("ver", "malformed comparison: ver"),
            (r#"ver("foo" ) > "0""#, r#"malformed comparison: ver("foo" ) > "0"; got ver("foo")  """#),
            (r#"ver("foo")> "0""#, r#"malformed comparison: ver("foo")> "0"; got ver("foo")  """#),
            (r#"ver("foo") >"0""#, r#"malformed comparison: ver("foo") >"0"; got ver("foo") >"0" """#),
            (r#"ver(foo) = "0""#, r#"malformed comparison: ver(foo) = "0"; got ver("")  """#),
            (r#"ver("foo") = 0"#, r#"malformed comparison: ver("foo") = 0; got ver("foo") = """#),
            (r#"ver ("foo") = "0""#, r#"malformed comparison: ver ("foo") = "0" (unknown target ver )"#),
            (r#"bad("foo") = "0""#, r#"malformed comparison: bad("foo") = "0" (unknown target bad)"#),
            (r#"ver("foo") = "0x""#, r#"invalid txn compare request: ver("foo") = "0x""#),
        ];
        for (line, error) in cases {
            assert_eq!(read_compare(line), Err(error.to_owned()));
        }
        assert_eq!(compare(br#"ver("k") == "1""#).unwrap_err().code, 2);
    }

    #[test]
    fn operations_are_lines_of_put_get_and_del() {
        let cases: [(&str, Op); 5] = [
            (r#"put a "b c""#, Put::new("a", "b c").into()),
            (
                "put a 'x y' --prev-kv --lease=1f",
                Put::new("a", "x y").prev_kv().lease(LeaseId::new(31)).into(),
            ),
            ("get a b --limit 2", Get::new("a").range_end("b").limit(2).into()),
            ("g --prefix a", Get::new("a").prefix().into()),
            ("del a --from-key", Delete::new("a").from_key().into()),
        ];
        for (line, op) in cases {
            assert_eq!(read_request(line), Ok(op), "{line}");
        }
    }

    #[test]
    fn wrong_operations_are_told_in_etcdctls_words() {
        let cases = [
            ("get", 3, "invalid txn compare request: get"),
            ("foo a", 3, "invalid txn request: foo a"),
            ("get a --bad", 3, "invalid txn request: get a --bad"),
            ("get a --hex", 3, "invalid txn request: get a --hex"),
            (r#"get "\q""#, 3, "invalid syntax"),
            ("put a", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
            (
                "put a b --lease zz",
                128,
                "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex",
            ),
            ("get a --order up", 4, "bad sort order up"),
        ];
        for (line, code, message) in cases {
            let failure = read_request(line).unwrap_err();
            assert_eq!((failure.code, failure.message.as_deref()), (code, Some(message)), "{line}");
        }
    }
}
