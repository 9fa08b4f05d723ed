//! `elect`: leads an election until a signal comes, or tells who leads it.

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::printer::Answer;
use crate::signals::Signals;

/// How long leadership outlives this program, in seconds.
const TTL_SECONDS: i64 = 60;

pub(super) static COMMAND: Command = Command {
    name: "elect",
    alias: None,
    usage: "<election-name> [proposal]",
    short: "Observes and participates in leader election",
    long: "With a proposal, waits until it leads, prints the leader's key and proposal and leads until a signal comes.",
    flags: &[Flag::bool("listen", "print each leader and its proposal as they change").short('l')],
    action: Action::Run(|invocation| Box::pin(elect(invocation))),
};

async fn elect(invocation: Invocation) -> Outcome {
    let listen = invocation.parsed.on("listen");
    match (invocation.args().len(), listen) {
        (1, true) => observe(invocation).await,
        (2, false) => campaign(invocation).await,
        (1, false) => Err(Failure::bad_args("no proposal argument but -l not set")),
        (2, true) => Err(Failure::bad_args("proposal given but -l is set")),
        _ => {
            Err(Failure::bad_args("elect takes one election name argument and an optional proposal argument"))
        }
    }
}

async fn observe(invocation: Invocation) -> Outcome {
    let name = invocation.args()[0].clone();
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let mut signals = Signals::listen()?;
    let mut observer = client.observe(name);
    loop {
        tokio::select! {
            told = observer.next() => match told {
                Ok(leader) => session.print(&Answer::Get(&leader))?,
                Err(_) => return Err(Failure::error("elect: observer lost")),
            },
            () = signals.next() => return Ok(()),
        }
    }
}

async fn campaign(invocation: Invocation) -> Outcome {
    let (name, proposal) = (invocation.args()[0].clone(), invocation.args()[1].clone());
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let mut signals = Signals::listen()?;
    let tenure = client.session(TTL_SECONDS).await?;
    let elected = tokio::select! {
        elected = tenure.campaign(name, proposal) => Some(elected?),
        () = signals.next() => None,
    };
    let Some(leadership) = elected else {
        // The key goes with its lease. If that fails, its time will end it.
        drop(tenure.close().await);
        return Err(Failure::error("context canceled"));
    };
    session.print(&Answer::Get(&client.get(leadership.key()).await?))?;
    tokio::select! {
        () = signals.next() => {
            leadership.resign().await?;
            Ok(())
        }
        _ = tenure.lost() => Err(Failure::error("elect: session expired")),
    }
}
