//! `compaction`, also called `compact`.

use super::{Action, Command, Invocation, say};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::go;

pub(super) static COMMAND: Command = Command {
    name: "compaction",
    alias: Some("compact"),
    usage: "[options] <revision>",
    short: "Discards the history before a revision",
    long: "",
    flags: &[Flag::bool("physical", "wait until the old records are gone from the store")],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    if invocation.args().len() != 1 {
        return Err(Failure::bad_args("compaction command needs 1 argument"));
    }
    let revision = go::parse_int(&invocation.text(0), 10).map_err(Failure::error)?;
    let (session, parsed) = invocation.session()?;
    let client = session.connect().await?;
    let mut compact = client.compact(revision);
    if parsed.on("physical") {
        compact = compact.physical();
    }
    session.within(compact).await?;
    say(format!("compacted revision {revision}"))
}
