//! `move-leader`: finds the leader among the endpoints and has it hand over.

use api::MemberId;
use client::Client;

use super::{Action, Command, Invocation, Session};
use crate::failure::{Failure, Outcome};
use crate::go;
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "move-leader",
    alias: None,
    usage: "<transferee-member-id>",
    short: "Transfers leadership to another etcd cluster member",
    long: "One of the endpoints must be the leader's.",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(move_leader(invocation))),
};

async fn move_leader(invocation: Invocation) -> Outcome {
    if invocation.args().len() != 1 {
        return Err(Failure::bad_args("move-leader command needs 1 argument"));
    }
    let target = go::parse_uint(&invocation.text(0), 16).map(MemberId::new).map_err(Failure::bad_args)?;
    let (session, _) = invocation.session()?;
    // All steps together have the time of one command.
    let steps = async {
        let (client, leader) = leader(&session).await?;
        let response = client.move_leader(target).await?;
        session.print(&Answer::MoveLeader { response: &response, from: leader, to: target })
    };
    match tokio::time::timeout(session.globals.command_timeout(), steps).await {
        Ok(outcome) => outcome,
        Err(_) => Err(client::Error::DeadlineExceeded.into()),
    }
}

/// A client of the leader alone, and the leader's id.
async fn leader(session: &Session) -> Outcome<(Client, MemberId)> {
    let everybody = session.connect().await?;
    for endpoint in everybody.endpoints() {
        let client = session.globals.connect_to(vec![endpoint.clone()]).await?;
        let status = client.status().await?;
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            return Ok((client, MemberId::new(status.leader)));
        }
    }
    let endpoints = everybody.endpoints().join(" ");
    Err(Failure::bad_args(format!("no leader endpoint given at [{endpoints}]")))
}
