//! `defrag`.

use tokio::time::Instant;

use super::{Action, Command, Invocation, endpoint, say};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::go;
use crate::output::err_line;

pub(super) static COMMAND: Command = Command {
    name: "defrag",
    alias: None,
    usage: "",
    short: "Has the members at the endpoints give back the space of deleted records",
    long: "",
    flags: &[Flag::bool("cluster", "use all endpoints from the cluster member list")],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let (session, parsed) = invocation.session()?;
    let mut failed = false;
    for endpoint in endpoint::endpoints(&session, parsed.on("cluster")).await? {
        let client = session.globals.connect_to(vec![endpoint.clone()]).await?;
        let started = Instant::now();
        let outcome = session.within(client.defragment()).await;
        let took = go::Duration::from(started.elapsed());
        match outcome {
            Ok(_) => say(format!("Finished defragmenting etcd member[{endpoint}]. took {took}"))?,
            Err(error) => {
                err_line(format!("Failed to defragment etcd member[{endpoint}]. took {took}. ({error})"));
                failed = true;
            }
        }
    }
    if failed { Err(Failure::silent(1)) } else { Ok(()) }
}
