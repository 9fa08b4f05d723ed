//! `downgrade validate`, `enable` and `cancel`.

use api::etcdserverpb::downgrade_request::DowngradeAction;

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "downgrade",
    alias: None,
    usage: "<subcommand>",
    short: "Downgrade related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&CANCEL, &ENABLE, &VALIDATE]),
};

static VALIDATE: Command = Command {
    name: "validate",
    alias: None,
    usage: "<TARGET_VERSION>",
    short: "Validates whether the cluster can go back to a version",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| {
        Box::pin(async { ask(target(&invocation)?, DowngradeAction::Validate, invocation).await })
    }),
};

static ENABLE: Command = Command {
    name: "enable",
    alias: None,
    usage: "<TARGET_VERSION>",
    short: "Starts going back to a version",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| {
        Box::pin(async { ask(target(&invocation)?, DowngradeAction::Enable, invocation).await })
    }),
};

static CANCEL: Command = Command {
    name: "cancel",
    alias: None,
    usage: "",
    short: "Stays with the version of now",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(ask(String::new(), DowngradeAction::Cancel, invocation))),
};

fn target(invocation: &Invocation) -> Outcome<String> {
    match invocation.args() {
        [] => Err(Failure::bad_args("TARGET_VERSION not provided")),
        [version] if version.is_empty() => Err(Failure::bad_args("target version not provided")),
        [_] => Ok(invocation.text(0)),
        _ => Err(Failure::bad_args("too many arguments")),
    }
}

async fn ask(version: String, action: DowngradeAction, invocation: Invocation) -> Outcome {
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(client.downgrade(action, version)).await?;
    let name = match action {
        DowngradeAction::Validate => "validate",
        DowngradeAction::Enable => "enable",
        DowngradeAction::Cancel => "cancel",
    };
    session.print(&Answer::Downgrade(name, &response))
}
