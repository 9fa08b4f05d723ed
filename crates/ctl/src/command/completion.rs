//! `completion`: scripts by which shells complete the commands and flags of this program.

use clap_complete::Shell;

use super::{Action, Command, HELP, Invocation, ROOT, VERSION};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::global;
use crate::go::quote;
use crate::output::out;

pub(super) static COMMAND: Command = Command {
    name: "completion",
    alias: None,
    usage: "[bash|zsh|fish|powershell]",
    short: "Generates completion script",
    long: "For bash: source <(etcdctl completion bash), and likewise for the other shells.",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(async move { run(&invocation) })),
};

fn run(invocation: &Invocation) -> Outcome {
    let program = crate::program();
    let [shell] = invocation.args() else {
        let count = invocation.args().len();
        return Err(Failure::error(format!("accepts 1 arg(s), received {count}")));
    };
    let shell = match shell.as_slice() {
        b"bash" => Shell::Bash,
        b"zsh" => Shell::Zsh,
        b"fish" => Shell::Fish,
        b"powershell" => Shell::PowerShell,
        other => {
            let text = format!("invalid argument {} for \"{program} completion\"", quote(other));
            return Err(Failure::error(text).with_hint(super::help::text(&invocation.path)));
        }
    };
    Ok(out(script(shell, &program))?)
}

fn script(shell: Shell, program: &str) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut described(&ROOT), program, &mut script);
    script
}

/// A command in the words of clap, which makes the scripts; nothing is parsed with this.
fn described(command: &'static Command) -> clap::Command {
    let root = command.name.is_empty();
    let name = if root { "etcdctl" } else { command.name };
    let above = root.then_some(global::FLAGS.iter()).into_iter().flatten();
    let flags = command.flags.iter().map(|flag| argument(flag, false));
    clap::Command::new(name)
        .about(command.short)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .visible_aliases(command.alias)
        .args(flags)
        .args(above.map(|flag| argument(flag, true)))
        .args(root.then(|| argument(&HELP, true)))
        .args(root.then(|| argument(&VERSION, false)))
        .subcommands(command.children().iter().map(|child| described(child)))
}

fn argument(flag: &'static Flag, global: bool) -> clap::Arg {
    let action = if flag.kind == Kind::Bool { clap::ArgAction::SetTrue } else { clap::ArgAction::Set };
    clap::Arg::new(flag.name).long(flag.name).short(flag.short).help(flag.help).action(action).global(global)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_command_and_its_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let script = String::from_utf8(script(shell, "etcdctl")).unwrap();
            for word in ["etcdctl", "grant-permission", "move-leader", "keys-only", "endpoints"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
