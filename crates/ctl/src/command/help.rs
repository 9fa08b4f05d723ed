//! `help`, and the help of every command, laid out as etcdctl's: NAME, USAGE, COMMANDS, DESCRIPTION, OPTIONS.

use super::{Action, Command, Invocation, Path, ROOT, flags_of, inherited, words};
use crate::failure::Outcome;
use crate::flags::{Flag, Kind};
use crate::global;
use crate::go::quote;
use crate::output::{err_line, out};

pub(super) static COMMAND: Command = Command {
    name: "help",
    alias: None,
    usage: "[command]",
    short: "Shows how a command is used",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(async move { run(&invocation) })),
};

fn run(invocation: &Invocation) -> Outcome {
    match super::find(invocation.args().to_vec()) {
        Ok((path, rest)) if rest.is_empty() => Ok(out(text(&path))?),
        _ => {
            let topics: Vec<String> =
                (0..invocation.args().len()).map(|index| format!("`{}`", invocation.text(index))).collect();
            err_line(format!("Unknown help topic [{}]", topics.join(" ")));
            err_line(text(&[&ROOT]));
            Ok(())
        }
    }
}

/// The whole help of a command.
pub(super) fn text(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let name = if path.len() == 1 { crate::program() } else { words(path) };
    let mut text = format!("NAME:\n\t{name} - {}\n\nUSAGE:\n\t{}\n\n", command.short, usage(path));
    if !command.children().is_empty() {
        text.push_str(&format!("API VERSION:\n\t{}\n\n\n", super::version::API));
        text.push_str(&format!("COMMANDS:\n{}\n", columns(&command_rows(path))));
    }
    if !command.long.is_empty() {
        text.push_str("DESCRIPTION:\n");
        command.long.lines().for_each(|line| text.push_str(&format!("\t{line}\n")));
        text.push('\n');
    }
    let above = inherited(path);
    let own: Vec<&Flag> = flags_of(path)
        .into_iter()
        .filter(|flag| !above.iter().any(|other| std::ptr::eq(*other, *flag)))
        .collect();
    if path.len() == 1 {
        let all: Vec<&Flag> = own.into_iter().chain(&global::FLAGS).collect();
        text.push_str(&format!("OPTIONS:\n{}", flag_lines(&all)));
    } else {
        text.push_str(&format!("OPTIONS:\n{}\n", flag_lines(&own)));
        text.push_str(&format!("GLOBAL OPTIONS:\n{}", flag_lines(&above)));
    }
    text
}

fn usage(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let parts = [crate::program(), words(path), command.usage.to_owned(), "[flags]".to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The commands below, at the root down to those that do something.
fn command_rows(path: &[&'static Command]) -> Vec<(String, String)> {
    let command = path[path.len() - 1];
    let leaves = path.len() == 1;
    let mut rows = Vec::new();
    for child in command.children() {
        if leaves && !child.children().is_empty() {
            let deeper: Path = path.iter().copied().chain([*child]).collect();
            rows.extend(deeper[1].children().iter().map(|grandchild| {
                (format!("\t{} {}", child.name, grandchild.name), grandchild.short.to_owned())
            }));
        } else {
            let alias = child.alias.map(|alias| format!(", {alias}")).unwrap_or_default();
            rows.push((format!("\t{}{alias}", child.name), child.short.to_owned()));
        }
    }
    rows
}

/// The flags in a block, sorted by name.
pub(super) fn flag_lines(flags: &[&Flag]) -> String {
    let mut flags = flags.to_vec();
    flags.sort_by_key(|flag| flag.name);
    let rows: Vec<(String, String)> = flags
        .iter()
        .map(|flag| {
            let short = flag.short.map_or("      ".to_owned(), |short| format!("  -{short}, "));
            (format!("{short}--{}{}", flag.name, default(flag)), flag.help.to_owned())
        })
        .collect();
    columns(&rows)
}

fn default(flag: &Flag) -> String {
    match flag.kind {
        Kind::Bool => format!("[={}]", flag.default),
        Kind::Int | Kind::Duration => format!("={}", flag.default),
        Kind::String => format!("={}", quote(flag.default.as_bytes())),
        Kind::List => format!("=[{}]", flag.default),
    }
}

/// Two columns, kept apart by tabs of eight.
fn columns(rows: &[(String, String)]) -> String {
    const TAB: usize = 8;
    let width = |cell: &str| cell.chars().map(|c| if c == '\t' { TAB } else { 1 }).sum::<usize>();
    let column = rows.iter().map(|(cell, _)| width(cell) / TAB + 1).max().unwrap_or(0) * TAB;
    rows.iter()
        .map(|(cell, text)| format!("{cell}{}{text}\n", "\t".repeat((column - width(cell)).div_ceil(TAB))))
        .collect()
}
