//! `member list`.

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "member",
    alias: None,
    usage: "<subcommand>",
    short: "Membership related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&LIST]),
};

static LIST: Command = Command {
    name: "list",
    alias: None,
    usage: "",
    short: "Lists all members in the cluster",
    long: "In the simple format each member is a line of: ID, status, name, peer addresses, client addresses, is learner.",
    flags: &[Flag::string(
        "consistency",
        "l",
        "ask the cluster (l, linearizable) or one member (s, serializable)",
    )],
    action: Action::Run(|invocation| Box::pin(list(invocation))),
};

async fn list(invocation: Invocation) -> Outcome {
    let serializable = match invocation.parsed.get("consistency").unwrap_or("l") {
        "l" => false,
        "s" => true,
        // etcdctl shows another command's value here, which is always this one.
        _ => return Err(Failure::bad_feature("unknown consistency flag \"l\"")),
    };
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = if serializable {
        session.within(client.members_serializable()).await?
    } else {
        session.within(client.members()).await?
    };
    session.print(&Answer::Members(&response))
}
