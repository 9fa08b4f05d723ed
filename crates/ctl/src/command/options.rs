//! `options`: the flags every command takes.

use super::{Action, Command, help};
use crate::flags::Flag;
use crate::global;
use crate::output::out;

pub(super) static COMMAND: Command = Command {
    name: "options",
    alias: None,
    usage: "",
    short: "Lists the options that every command takes",
    long: "",
    flags: &[],
    action: Action::Run(|_| {
        Box::pin(async {
            let flags: Vec<&Flag> = global::FLAGS.iter().collect();
            let lines = help::flag_lines(&flags);
            Ok(out(format!("The following options can be passed to any command:\n\n{lines}"))?)
        })
    }),
};
