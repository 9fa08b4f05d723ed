//! `alarm list` and `alarm disarm`.

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "alarm",
    alias: None,
    usage: "<subcommand>",
    short: "Alarm related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&DISARM, &LIST]),
};

static LIST: Command = Command {
    name: "list",
    alias: None,
    usage: "",
    short: "Lists all alarms",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(list(invocation))),
};

static DISARM: Command = Command {
    name: "disarm",
    alias: None,
    usage: "",
    short: "Disarms all alarms",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(disarm(invocation))),
};

async fn list(invocation: Invocation) -> Outcome {
    no_arguments(&invocation, "list")?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(client.alarms()).await?;
    session.print(&Answer::Alarms(&response))
}

async fn disarm(invocation: Invocation) -> Outcome {
    no_arguments(&invocation, "disarm")?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(client.disarm_all()).await?;
    session.print(&Answer::Alarms(&response))
}

fn no_arguments(invocation: &Invocation, command: &str) -> Outcome {
    if invocation.args().is_empty() {
        return Ok(());
    }
    Err(Failure::bad_args(format!("alarm {command} command accepts no arguments")))
}
