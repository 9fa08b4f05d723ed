//! `version`.

use super::{Action, Command};
use crate::output::out;

/// The version of the API that this speaks.
pub(super) const API: &str = "3.7";

/// The etcdctl whose behaviour this has; tools read it.
const ETCDCTL: &str = "3.7.1";

pub(super) static COMMAND: Command = Command {
    name: "version",
    alias: None,
    usage: "",
    short: "Shows the version",
    long: "",
    flags: &[],
    action: Action::Run(|_| Box::pin(async { Ok(out(text())?) })),
};

pub(super) fn text() -> String {
    format!(
        "etcdctl version: {ETCDCTL}\nAPI version: {API}\netcd-rs-ctl version: {}\n",
        env!("CARGO_PKG_VERSION")
    )
}
