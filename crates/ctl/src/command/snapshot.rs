//! `snapshot save`, `snapshot status` and `snapshot restore`.

mod restore;
mod save;
mod status;

use super::{Action, Command};

pub(super) static COMMAND: Command = Command {
    name: "snapshot",
    alias: None,
    usage: "<subcommand>",
    short: "Manages etcd node snapshots",
    long: "",
    flags: &[],
    action: Action::Parent(&[&restore::COMMAND, &save::COMMAND, &status::COMMAND]),
};
