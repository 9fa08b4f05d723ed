//! `auth enable`, `disable` and `status`.

use api::status;
use client::Client;

use super::{Action, Command, Invocation, Session, say};
use crate::failure::{Failure, Outcome};
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "auth",
    alias: None,
    usage: "<subcommand>",
    short: "Authentication related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&DISABLE, &ENABLE, &STATUS]),
};

static ENABLE: Command = Command {
    name: "enable",
    alias: None,
    usage: "",
    short: "Enables authentication",
    long: "There must be a user named root; the role root is made and granted to it if it is missing.",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(enable(invocation))),
};

static DISABLE: Command = Command {
    name: "disable",
    alias: None,
    usage: "",
    short: "Disables authentication",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(disable(invocation))),
};

static STATUS: Command = Command {
    name: "status",
    alias: None,
    usage: "",
    short: "Returns authentication status",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(show(invocation))),
};

async fn enable(invocation: Invocation) -> Outcome {
    let (session, client) = begin(invocation, "enable").await?;
    session.within(enable_with_root(&client)).await?;
    say("Authentication Enabled")
}

/// Turns authentication on, first giving the user root its role if that is what is missing.
async fn enable_with_root(client: &Client) -> client::Result<()> {
    loop {
        match client.auth_enable().await {
            Ok(_) => return Ok(()),
            Err(error) if error.is(status::ROOT_ROLE_NOT_EXIST) => {
                client.role_add("root").await?;
                client.user_grant_role("root", "root").await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn disable(invocation: Invocation) -> Outcome {
    let (session, client) = begin(invocation, "disable").await?;
    session.within(client.auth_disable()).await?;
    say("Authentication Disabled")
}

async fn show(invocation: Invocation) -> Outcome {
    let (session, client) = begin(invocation, "status").await?;
    let response = session.within(client.auth_status()).await?;
    session.print(&Answer::AuthStatus(&response))
}

async fn begin(invocation: Invocation, name: &str) -> Outcome<(Session, Client)> {
    if !invocation.args().is_empty() {
        return Err(Failure::bad_args(format!("auth {name} command does not accept any arguments")));
    }
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    Ok((session, client))
}
