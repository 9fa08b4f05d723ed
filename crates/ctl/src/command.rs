//! The commands: what they are called, what they take, and how one is found in a command line.

mod alarm;
mod auth;
mod check;
mod compaction;
mod completion;
mod defrag;
mod del;
mod downgrade;
mod elect;
mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod get;
mod help;
mod lease;
mod lock;
mod member;
mod move_leader;
pub(crate) mod options;
mod put;
mod role;
mod session;
mod snapshot;
mod tokens;
mod txn;
mod user;
mod version;
mod watch;

use std::future::Future;
use std::pin::Pin;

use crate::failure::{Failure, Outcome};
use crate::flags::{self, Flag};
use crate::global::{self, Environment};
use crate::output::out;

use session::{Invocation, Session, say};

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) alias: Option<&'static str>,
    /// The arguments, as help shows them after the name.
    pub(crate) usage: &'static str,
    pub(crate) short: &'static str,
    /// More than fits on a line; lines are separated by `\n`.
    pub(crate) long: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) action: Action,
}

/// What a command does.
pub(crate) enum Action {
    /// Nothing itself; its commands do. Its flags are theirs too.
    Parent(&'static [&'static Command]),
    Run(fn(Invocation) -> Running),
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Parent(_) => "Parent",
            Self::Run(_) => "Run",
        })
    }
}

/// A command at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// The flag every command has.
static HELP: Flag = Flag::bool("help", "show this help").short('h');
/// A flag of the root alone.
static VERSION: Flag = Flag::bool("version", "show the version");

/// The root: what is typed without any command.
pub(crate) static ROOT: Command = Command {
    name: "",
    alias: None,
    usage: "",
    short: "A command line client for etcd v3.",
    long: "",
    flags: &[],
    action: Action::Parent(&[
        &alarm::COMMAND,
        &auth::COMMAND,
        &check::COMMAND,
        &compaction::COMMAND,
        &completion::COMMAND,
        &defrag::COMMAND,
        &del::COMMAND,
        &downgrade::COMMAND,
        &elect::COMMAND,
        &endpoint::COMMAND,
        &get::COMMAND,
        &help::COMMAND,
        &lease::COMMAND,
        &lock::COMMAND,
        &member::COMMAND,
        &move_leader::COMMAND,
        &options::COMMAND,
        &put::COMMAND,
        &role::COMMAND,
        &snapshot::COMMAND,
        &txn::COMMAND,
        &user::COMMAND,
        &version::COMMAND,
        &watch::COMMAND,
    ]),
};

impl Command {
    pub(crate) fn children(&self) -> &'static [&'static Self] {
        match self.action {
            Action::Parent(children) => children,
            Action::Run(_) => &[],
        }
    }

    /// The child of this name, alias or unique beginning of either.
    fn child(&self, typed: &str) -> Option<&'static Self> {
        let children = self.children();
        let is = |child: &&&Self| child.name == typed || child.alias == Some(typed);
        let begins = |child: &&&Self| {
            child.name.starts_with(typed) || child.alias.is_some_and(|alias| alias.starts_with(typed))
        };
        if let Some(child) = children.iter().find(is) {
            return Some(child);
        }
        let mut candidates = children.iter().filter(begins);
        match (candidates.next(), candidates.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

/// The way from the root to a command.
pub(crate) type Path = Vec<&'static Command>;

/// The flags a command takes, its own first.
pub(crate) fn flags_of(path: &[&'static Command]) -> Vec<&'static Flag> {
    let own = path.last().map_or(&[][..], |command| command.flags);
    let root = (path.len() == 1).then_some(&VERSION);
    own.iter().chain([&HELP]).chain(root).chain(inherited(path)).collect()
}

/// The flags a command has from those above it.
pub(crate) fn inherited(path: &[&'static Command]) -> Vec<&'static Flag> {
    let above = path.len().saturating_sub(1);
    global::FLAGS.iter().chain(path[..above].iter().flat_map(|command| command.flags)).collect()
}

/// The words of a path, after the program's name.
pub(crate) fn words(path: &[&'static Command]) -> String {
    path.iter().skip(1).map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// Finds the command that arguments are for, and takes its words out of them.
///
/// Flags may stand before and between the words. Whether the word after a flag is its value, only the flag knows; one that
/// is not known at this place is taken to have one, as cobra does.
pub(crate) fn find(mut args: Vec<Vec<u8>>) -> Outcome<(Path, Vec<Vec<u8>>)> {
    let mut path: Path = vec![&ROOT];
    while let Some(at) = first_word(&flags_of(&path), &args) {
        let word = String::from_utf8_lossy(&args[at]).into_owned();
        let here = path[path.len() - 1];
        match here.child(&word) {
            Some(child) => {
                path.push(child);
                args.remove(at);
            }
            None if path.len() == 1 => return Err(unknown_command(&word)),
            None => break,
        }
    }
    Ok((path, args))
}

fn first_word(flags: &[&'static Flag], args: &[Vec<u8>]) -> Option<usize> {
    let mut skip = false;
    for (at, arg) in args.iter().enumerate() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match arg.as_slice() {
            b"--" => return None,
            [b'-', b'-', name @ ..] => {
                skip = !name.contains(&b'=') && !is_bool(flags, |flag| flag.name.as_bytes() == name);
            }
            [b'-', letter] => skip = !is_bool(flags, |flag| flag.short == Some(char::from(*letter))),
            [] | [b'-', ..] => {}
            _ => return Some(at),
        }
    }
    None
}

fn is_bool(flags: &[&'static Flag], wanted: impl Fn(&Flag) -> bool) -> bool {
    flags.iter().any(|flag| wanted(flag) && flag.kind == flags::Kind::Bool)
}

/// An argument as the system takes it.
fn os_string(bytes: &[u8]) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

fn unknown_command(word: &str) -> Failure {
    let program = crate::program();
    let mut message = format!("unknown command {} for \"{program}\"", crate::go::quote(word.as_bytes()));
    let close: Vec<&str> = ROOT
        .children()
        .iter()
        .map(|command| command.name)
        .filter(|name| distance(&word.to_lowercase(), name) <= 2 || name.starts_with(&word.to_lowercase()))
        .collect();
    if !close.is_empty() {
        message.push_str(&format!("\n\nDid you mean this?\n\t{}\n", close.join("\n\t")));
    }
    Failure::error(message).with_hint(format!("Run '{program} --help' for usage."))
}

/// How many letters must be put in, taken out or changed to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// Runs a command line.
pub(crate) async fn run(args: Vec<Vec<u8>>, environment: Environment) -> Outcome {
    let (path, args) = find(args)?;
    let command = path[path.len() - 1];
    let parsed = flags::parse(&flags_of(&path), &args)
        .map_err(|message| Failure::error(message).with_hint(help::text(&path)))?;
    if parsed.on("version") && path.len() == 1 {
        return Ok(out(version::text())?);
    }
    match command.action {
        Action::Run(run) if !parsed.on("help") => run(Invocation { path, parsed, environment }).await,
        Action::Run(_) | Action::Parent(_) => Ok(out(help::text(&path))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Result<(String, String), String> {
        let args = line.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
        let (path, rest) = find(args).map_err(|failure| failure.message.unwrap())?;
        Ok((words(&path), String::from_utf8(rest.join(&b' ')).unwrap()))
    }

    fn pair(words: &str, rest: &str) -> Result<(String, String), String> {
        Ok((words.into(), rest.into()))
    }

    #[test]
    fn commands_are_found_by_name_alias_and_unique_beginning() {
        assert_eq!(found("get foo"), pair("get", "foo"));
        assert_eq!(found("ge foo"), pair("get", "foo"));
        assert_eq!(found("compact 5"), pair("compaction", "5"));
        assert_eq!(found("compa 5"), pair("compaction", "5"));
        assert_eq!(found("lease grant 10"), pair("lease grant", "10"));
        assert_eq!(found("lease keep 10"), pair("lease keep-alive", "10"));
        assert_eq!(found("endpoint foo"), pair("endpoint", "foo"));
        assert!(found("de x").is_err(), "del and defrag both begin so");
    }

    #[test]
    fn flags_may_stand_before_and_between_the_words() {
        assert_eq!(
            found("--endpoints a lease --hex grant -w json 10"),
            pair("lease grant", "--endpoints a --hex -w json 10")
        );
        assert_eq!(found("-wjson get k"), pair("get", "-wjson k"));
        // A flag that the root does not know takes the next word along.
        assert_eq!(found("--prefix get foo"), Err("unknown command \"foo\" for \"etcd-rs-ctl\"".into()));
    }

    #[test]
    fn close_names_are_suggested() {
        let message = found("gett").unwrap_err();
        assert!(message.ends_with("\n\nDid you mean this?\n\tget\n"), "{message}");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
