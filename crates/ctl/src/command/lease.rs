//! `lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`.

use client::{Client, Error, LeaseId};

use super::{Action, Command, Invocation, Session, say};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::go;
use crate::printer::{Answer, Format, ShowKeys};

pub(super) static COMMAND: Command = Command {
    name: "lease",
    alias: None,
    usage: "<subcommand>",
    short: "Lease related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&GRANT, &KEEP_ALIVE, &LIST, &REVOKE, &TIME_TO_LIVE]),
};

static GRANT: Command = Command {
    name: "grant",
    alias: None,
    usage: "<ttl>",
    short: "Grants a lease of so many seconds",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(grant(invocation))),
};

static REVOKE: Command = Command {
    name: "revoke",
    alias: None,
    usage: "<leaseID>",
    short: "Ends a lease and deletes its keys",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(revoke(invocation))),
};

static TIME_TO_LIVE: Command = Command {
    name: "timetolive",
    alias: None,
    usage: "<leaseID> [options]",
    short: "Shows how long a lease has left",
    long: "",
    flags: &[Flag::bool("keys", "show the keys attached to the lease")],
    action: Action::Run(|invocation| Box::pin(time_to_live(invocation))),
};

static LIST: Command = Command {
    name: "list",
    alias: None,
    usage: "",
    short: "Lists all leases",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(list(invocation))),
};

static KEEP_ALIVE: Command = Command {
    name: "keep-alive",
    alias: None,
    usage: "[options] <leaseID>",
    short: "Keeps a lease alive",
    long: "",
    flags: &[Flag::bool("once", "renew the lease once and exit")],
    action: Action::Run(|invocation| Box::pin(keep_alive(invocation))),
};

async fn grant(invocation: Invocation) -> Outcome {
    let text = only_argument(&invocation, "lease grant command needs TTL argument")?;
    let ttl = go::parse_int(&text, 10).map_err(|why| Failure::bad_args(format!("bad TTL ({why})")))?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session
        .within(client.lease_grant(ttl))
        .await
        .map_err(|error| Failure::error(format!("failed to grant lease ({error})")))?;
    session.print(&Answer::LeaseGrant(&response))
}

async fn revoke(invocation: Invocation) -> Outcome {
    let id = lease_id(&invocation, "lease revoke command needs 1 argument")?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session
        .within(client.lease_revoke(id))
        .await
        .map_err(|error| Failure::error(format!("failed to revoke lease ({error})")))?;
    session.print(&Answer::LeaseRevoke(&response, id.get()))
}

async fn time_to_live(invocation: Invocation) -> Outcome {
    let id = lease_id(&invocation, "lease timetolive command needs lease ID as argument")?;
    let (session, parsed) = invocation.session()?;
    let client = session.connect().await?;
    let keys = parsed.on("keys");
    let response = client.lease_time_to_live(id, keys).await.map_err(Failure::bad_connection)?;
    let keys = if keys { ShowKeys::Yes } else { ShowKeys::No };
    session.print(&Answer::LeaseTimeToLive(&response, keys))
}

async fn list(invocation: Invocation) -> Outcome {
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = client.leases().await.map_err(Failure::bad_connection)?;
    session.print(&Answer::LeaseList(&response))
}

async fn keep_alive(invocation: Invocation) -> Outcome {
    let id = lease_id(&invocation, "lease keep-alive command needs lease ID as argument")?;
    let (session, parsed) = invocation.session()?;
    let client = session.connect().await?;
    if parsed.on("once") {
        let response = client.lease_keep_alive_once(id).await.map_err(Failure::bad_connection)?;
        return session.print(&Answer::LeaseKeepAlive(&response));
    }
    keep(&session, &client, id).await
}

async fn keep(session: &Session, client: &Client, id: LeaseId) -> Outcome {
    let mut keeper = client.lease_keep_alive(id);
    while let Some(renewal) = keeper.next().await {
        match renewal {
            Ok(response) => session.print(&Answer::LeaseKeepAlive(&response))?,
            Err(Error::LeaseExpired { .. }) => break,
            Err(error) => return Err(Failure::bad_connection(error)),
        }
    }
    match session.format() {
        Format::Simple => say(format!("lease {id} expired or revoked.")),
        Format::Json | Format::Fields | Format::Table | Format::Protobuf => Ok(()),
    }
}

fn only_argument(invocation: &Invocation, otherwise: &str) -> Outcome<String> {
    match invocation.args().len() {
        1 => Ok(invocation.text(0)),
        _ => Err(Failure::bad_args(otherwise)),
    }
}

fn lease_id(invocation: &Invocation, otherwise: &str) -> Outcome<LeaseId> {
    let text = only_argument(invocation, otherwise)?;
    go::parse_int(&text, 16)
        .map(LeaseId::new)
        .map_err(|why| Failure::bad_args(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}
