//! `member list`, `add`, `remove`, `update` and `promote`.

use api::MemberId;
use api::etcdserverpb::MemberAddResponse;

use super::{Action, Command, Invocation, say};
use crate::failure::{Failure, Outcome};
use crate::flags::Flag;
use crate::go::{self, quote};
use crate::printer::{Answer, Format};

pub(super) static COMMAND: Command = Command {
    name: "member",
    alias: None,
    usage: "<subcommand>",
    short: "Membership related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&ADD, &LIST, &PROMOTE, &REMOVE, &UPDATE]),
};

const PEER_URLS: Flag =
    Flag::string("peer-urls", "", "where the other members reach it, URLs separated by commas");

static ADD: Command = Command {
    name: "add",
    alias: None,
    usage: "<memberName> [options]",
    short: "Adds a member into the cluster",
    long: "Prints what the new member is to be started with.",
    flags: &[Flag::bool("learner", "without a vote, until it is promoted"), PEER_URLS],
    action: Action::Run(|invocation| Box::pin(add(invocation))),
};

static REMOVE: Command = Command {
    name: "remove",
    alias: None,
    usage: "<memberID>",
    short: "Removes a member from the cluster",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(remove(invocation))),
};

static UPDATE: Command = Command {
    name: "update",
    alias: None,
    usage: "<memberID> [options]",
    short: "Updates a member in the cluster",
    long: "",
    flags: &[PEER_URLS],
    action: Action::Run(|invocation| Box::pin(update(invocation))),
};

static PROMOTE: Command = Command {
    name: "promote",
    alias: None,
    usage: "<memberID>",
    short: "Promotes a non-voting member in the cluster",
    long: "Promotes a learner that has caught up to a voting member.",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(promote(invocation))),
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

async fn add(invocation: Invocation) -> Outcome {
    let name = match invocation.args().len() {
        0 => return Err(Failure::bad_args("member name not provided")),
        1 => invocation.text(0),
        count => return Err(too_many((0..count).map(|index| invocation.text(index)))),
    };
    let typed = typed_urls(&invocation)?;
    let learner = invocation.parsed.on("learner");
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let urls = peer_urls(&typed)?;
    let response = if learner {
        session.within(client.member_add_as_learner(urls)).await?
    } else {
        session.within(client.member_add(urls)).await?
    };
    session.print(&Answer::MemberAdd(&response))?;
    match session.format() {
        Format::Simple => print_environment(&response, &name, &typed),
        Format::Json | Format::Fields | Format::Table | Format::Protobuf => Ok(()),
    }
}

/// What the new member is to be started with, as variables.
fn print_environment(response: &MemberAddResponse, name: &str, typed: &str) -> Outcome {
    let new = response.member.as_ref().map_or(0, |member| member.id);
    let mut cluster = Vec::new();
    for member in &response.members {
        let name = if member.id == new { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    let quoted = |text: &str| quote(text.as_bytes());
    say("")?;
    say(format!("ETCD_NAME={}", quoted(name)))?;
    say(format!("ETCD_INITIAL_CLUSTER={}", quoted(&cluster.join(","))))?;
    say(format!("ETCD_INITIAL_ADVERTISE_PEER_URLS={}", quoted(typed)))?;
    say("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
}

async fn remove(invocation: Invocation) -> Outcome {
    let member = member_id(&invocation)?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(client.member_remove(member)).await?;
    session.print(&Answer::MemberRemove(&response, member))
}

async fn update(invocation: Invocation) -> Outcome {
    let member = member_id(&invocation)?;
    let typed = typed_urls(&invocation)?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(client.member_update(member, peer_urls(&typed)?)).await?;
    session.print(&Answer::MemberUpdate(&response, member))
}

async fn promote(invocation: Invocation) -> Outcome {
    let member = member_id(&invocation)?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(client.member_promote(member)).await?;
    session.print(&Answer::MemberPromote(&response, member))
}

fn too_many(args: impl Iterator<Item = String>) -> Failure {
    let urls = args.filter(|arg| arg.to_lowercase().starts_with("http"));
    let hints: String = urls.map(|url| format!(", did you mean --peer-urls={url}")).collect();
    Failure::bad_args(format!("too many arguments{hints}"))
}

fn member_id(invocation: &Invocation) -> Outcome<MemberId> {
    if invocation.args().len() != 1 {
        return Err(Failure::bad_args("member ID is not provided"));
    }
    go::parse_uint(&invocation.text(0), 16)
        .map(MemberId::new)
        .map_err(|why| Failure::bad_args(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

/// `--peer-urls` as it was typed.
fn typed_urls(invocation: &Invocation) -> Outcome<String> {
    match invocation.parsed.get("peer-urls") {
        None | Some("") => Err(Failure::bad_args("member peer urls not provided")),
        Some(urls) => Ok(urls.to_owned()),
    }
}

/// Takes the list apart and refuses what no server would take, as etcd's client does before it asks one.
fn peer_urls(typed: &str) -> Outcome<Vec<String>> {
    typed
        .split(',')
        .map(|url| {
            check_url(url.trim()).map_err(Failure::error)?;
            Ok(url.to_owned())
        })
        .collect()
}

fn check_url(url: &str) -> Result<(), String> {
    let no_scheme = || format!("URL scheme must be http, https, unix, or unixs: {url}");
    let Some((scheme, rest)) = url.split_once("://") else {
        let first = url.split(['/', '?']).next().unwrap_or("");
        return match first.split_once(':') {
            Some((name, _)) if !name.starts_with(|c: char| c.is_ascii_alphabetic()) => Err(format!(
                "parse {}: first path segment in URL cannot contain colon",
                quote(url.as_bytes())
            )),
            _ => Err(no_scheme()),
        };
    };
    match scheme.to_ascii_lowercase().as_str() {
        "unix" | "unixs" => return Ok(()),
        "http" | "https" => {}
        _ => return Err(no_scheme()),
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    if after_host.matches(':').count() != 1 {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    }
    match path.is_empty() {
        true => Ok(()),
        false => Err(format!("URL must not contain a path: {url}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_no_server_takes_are_refused_before_one_is_asked() {
        let refused = |url: &str| peer_urls(url).unwrap_err().message.unwrap();
        assert_eq!(refused("x"), "URL scheme must be http, https, unix, or unixs: x");
        assert_eq!(refused("localhost:1"), "URL scheme must be http, https, unix, or unixs: localhost:1");
        assert_eq!(
            refused("127.0.0.1:1"),
            "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon"
        );
        assert_eq!(
            refused("http://a:1,http://b"),
            "URL address does not have the form \"host:port\": http://b"
        );
        assert_eq!(refused("http://a:1/"), "URL must not contain a path: http://a:1/");
        assert_eq!(peer_urls("https://[::1]:1,unix://m").unwrap(), ["https://[::1]:1", "unix://m"]);
    }
}
