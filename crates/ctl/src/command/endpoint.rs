//! `endpoint health`, `status` and `hashkv`: questions to each endpoint by itself.

use std::sync::Arc;

use api::etcdserverpb::{AlarmResponse, AlarmType};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Action, Command, Invocation, Session};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::output::{err_line, out};
use crate::printer::{Answer, Format, Health};

pub(super) static COMMAND: Command = Command {
    name: "endpoint",
    alias: None,
    usage: "<subcommand>",
    short: "Endpoint related commands",
    long: "",
    flags: &[Flag::bool("cluster", "use all endpoints from the cluster member list")],
    action: Action::Parent(&[&HASH_KV, &HEALTH, &STATUS]),
};

static HEALTH: Command = Command {
    name: "health",
    alias: None,
    usage: "",
    short: "Checks whether the endpoints of `--endpoints` are healthy",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(health(invocation))),
};

static STATUS: Command = Command {
    name: "status",
    alias: None,
    usage: "",
    short: "Shows the state of the endpoints of `--endpoints`",
    long: "In the simple format each endpoint is a line of: endpoint, ID, version, storage version, db size, in use,\n\
           percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied index, errors,\n\
           downgrade target version, downgrade enabled.",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(status(invocation))),
};

static HASH_KV: Command = Command {
    name: "hashkv",
    alias: None,
    usage: "",
    short: "Shows the hash of the history of each endpoint of `--endpoints`",
    long: "",
    flags: &[Flag::int("rev", "the last revision to hash (0 for all)")],
    action: Action::Run(|invocation| Box::pin(hash_kv(invocation))),
};

/// The endpoints to visit: those given, or with `cluster` those the members advertise.
pub(super) async fn endpoints(session: &Session, cluster: bool) -> Outcome<Vec<String>> {
    if !cluster {
        return Ok(session.globals.endpoints());
    }
    let client = session.connect().await?;
    let response = session.within(client.members()).await.map_err(|error| {
        Failure::error(format!("failed to fetch endpoints from etcd cluster member list: {error}"))
    })?;
    Ok(response.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

async fn health(invocation: Invocation) -> Outcome {
    let (session, parsed) = invocation.session()?;
    let session = Arc::new(session);
    let mut checks = JoinSet::new();
    for endpoint in endpoints(&session, parsed.on("cluster")).await? {
        let session = session.clone();
        checks.spawn(async move { check(&session, endpoint).await });
    }
    // In the order in which they are done, as etcdctl has it.
    let mut found = Vec::new();
    while let Some(checked) = checks.join_next().await {
        found.push(checked.map_err(Failure::error)?);
    }
    if session.format() == Format::Simple {
        for health in &found {
            let line = session.printer().print(&Answer::Health(std::slice::from_ref(health)))?;
            match health.error {
                None => out(line)?,
                Some(_) => err_line(line.trim_ascii_end()),
            }
        }
    } else {
        session.print(&Answer::Health(&found))?;
    }
    if found.iter().any(|health| health.error.is_some()) {
        return Err(Failure::error("unhealthy cluster"));
    }
    Ok(())
}

/// Reads a key, whichever, through the consensus; permission denied comes from there too.
async fn check(session: &Session, endpoint: String) -> Health {
    let started = Instant::now();
    let client = match session.globals.connect_to(vec![endpoint.clone()]).await {
        Ok(client) => client,
        Err(failure) => return Health { endpoint, took: started.elapsed(), error: failure.message },
    };
    let started = Instant::now();
    let read = session.within(client.get("health")).await;
    let took = started.elapsed();
    let error = match read {
        Err(error) if !error.is(api::status::PERMISSION_DENIED) => Some(error.to_string()),
        _ => match session.within(client.alarms()).await {
            Ok(response) => active_alarms(&response),
            Err(_) => Some("Unable to fetch the alarm list".to_owned()),
        },
    };
    Health { endpoint, took, error }
}

fn active_alarms(response: &AlarmResponse) -> Option<String> {
    if response.alarms.is_empty() {
        return None;
    }
    let names = response.alarms.iter().map(|alarm| match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE ",
        AlarmType::Corrupt => "CORRUPT ",
        AlarmType::None => "UNKNOWN ",
    });
    Some(format!("Active Alarm(s): {}", names.collect::<String>()))
}

async fn status(invocation: Invocation) -> Outcome {
    let (session, parsed) = invocation.session()?;
    let mut found = Vec::new();
    let mut failed = false;
    for endpoint in endpoints(&session, parsed.on("cluster")).await? {
        let client = session.globals.connect_to(vec![endpoint.clone()]).await?;
        match session.within(client.status()).await {
            Ok(status) => found.push((endpoint, status)),
            Err(error) => {
                err_line(format!("Failed to get the status of endpoint {endpoint} ({error})"));
                failed = true;
            }
        }
    }
    session.print(&Answer::Status(&found))?;
    if failed { Err(Failure::silent(1)) } else { Ok(()) }
}

async fn hash_kv(invocation: Invocation) -> Outcome {
    let (session, parsed) = invocation.session()?;
    let mut found = Vec::new();
    let mut last_error = None;
    for endpoint in endpoints(&session, parsed.on("cluster")).await? {
        let client = session.globals.connect_to(vec![endpoint.clone()]).await?;
        match session.within(client.hash_kv(parsed.int("rev"))).await {
            Ok(hash) => found.push((endpoint, hash)),
            Err(error) => {
                err_line(format!("Failed to get the hash of endpoint {endpoint} ({error})"));
                last_error = Some(error);
            }
        }
    }
    session.print(&Answer::HashKv(&found))?;
    last_error.map_or(Ok(()), |error| Err(error.into()))
}
