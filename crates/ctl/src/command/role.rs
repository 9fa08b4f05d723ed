//! `role add`, `delete`, `get`, `list`, `grant-permission` and `revoke-permission`.

use api::authpb::Permission;
use api::authpb::permission::Type;

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Parsed};
use crate::printer::{Answer, interval, prefix_end};

pub(super) static COMMAND: Command = Command {
    name: "role",
    alias: None,
    usage: "<subcommand>",
    short: "Role related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&ADD, &DELETE, &GET, &GRANT, &LIST, &REVOKE]),
};

const PREFIX: Flag = Flag::bool("prefix", "every key that begins with the key");
const FROM_KEY: Flag = Flag::bool("from-key", "every key from the key on");

static ADD: Command = Command {
    name: "add",
    alias: None,
    usage: "<role name>",
    short: "Adds a new role",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(add(invocation))),
};

static DELETE: Command = Command {
    name: "delete",
    alias: None,
    usage: "<role name>",
    short: "Deletes a role",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(delete(invocation))),
};

static GET: Command = Command {
    name: "get",
    alias: None,
    usage: "<role name>",
    short: "Gets detailed information of a role",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(get(invocation))),
};

static LIST: Command = Command {
    name: "list",
    alias: None,
    usage: "",
    short: "Lists all roles",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(list(invocation))),
};

static GRANT: Command = Command {
    name: "grant-permission",
    alias: None,
    usage: "[options] <role name> <permission type> <key> [endkey]",
    short: "Grants a key to a role",
    long: "The permission type is read, write or readwrite.",
    flags: &[PREFIX, FROM_KEY],
    action: Action::Run(|invocation| Box::pin(grant(invocation))),
};

static REVOKE: Command = Command {
    name: "revoke-permission",
    alias: None,
    usage: "<role name> <key> [endkey]",
    short: "Revokes a key from a role",
    long: "",
    flags: &[PREFIX, FROM_KEY],
    action: Action::Run(|invocation| Box::pin(revoke(invocation))),
};

/// The one argument of a command, a role's name.
fn one_name(invocation: &Invocation, command: &str) -> Outcome<String> {
    match invocation.args() {
        [_] => Ok(invocation.text(0)),
        _ => Err(Failure::bad_args(format!("role {command} command requires role name as its argument"))),
    }
}

async fn add(invocation: Invocation) -> Outcome {
    let role = one_name(&invocation, "add")?;
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.role_add(&role).await?;
    session.print(&Answer::AccessChanged(response.header.as_ref(), &format!("Role {role} created")))
}

async fn delete(invocation: Invocation) -> Outcome {
    let role = one_name(&invocation, "delete")?;
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.role_delete(&role).await?;
    session.print(&Answer::AccessChanged(response.header.as_ref(), &format!("Role {role} deleted")))
}

async fn get(invocation: Invocation) -> Outcome {
    let role = one_name(&invocation, "get")?;
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.role(&role).await?;
    session.print(&Answer::Role(&response, &role))
}

async fn list(invocation: Invocation) -> Outcome {
    if !invocation.args().is_empty() {
        return Err(Failure::bad_args("role list command requires no arguments"));
    }
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.roles().await?;
    session.print(&Answer::Roles(&response))
}

async fn grant(invocation: Invocation) -> Outcome {
    if invocation.args().len() < 3 {
        return Err(Failure::bad_args(
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ));
    }
    let (role, access) = (invocation.text(0), invocation.text(1));
    let perm_type = match access.to_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::bad_args(format!("invalid permission type: {access}"))),
    };
    let (key, range_end) = range(&invocation.args()[2..], &invocation.parsed)?;
    let permission = Permission { perm_type: perm_type.into(), key: key.into(), range_end: range_end.into() };
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.role_grant_permission(&role, permission).await?;
    session.print(&Answer::AccessChanged(response.header.as_ref(), &format!("Role {role} updated")))
}

async fn revoke(invocation: Invocation) -> Outcome {
    if invocation.args().len() < 2 {
        return Err(Failure::bad_args(
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ));
    }
    let role = invocation.text(0);
    let (key, end) = range(&invocation.args()[1..], &invocation.parsed)?;
    let what = match end.is_empty() {
        true => [b"key ", &key[..]].concat(),
        false => [b"range ", &interval(&key, &end)[..]].concat(),
    };
    let text = format!("Permission of {} is revoked from role {role}", String::from_utf8_lossy(&what));
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.role_revoke_permission(&role, key, end).await?;
    session.print(&Answer::AccessChanged(response.header.as_ref(), &text))
}

/// The keys that arguments and flags mean: a key and the end of its range, empty for the key alone.
fn range(args: &[Vec<u8>], parsed: &Parsed) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let (prefix, from_key) = (parsed.on("prefix"), parsed.on("from-key"));
    let key = args[0].clone();
    if prefix && from_key && (args.len() == 1 || key.is_empty()) {
        return Err(Failure::bad_args("--from-key and --prefix flags are mutually exclusive"));
    }
    if key.is_empty() {
        // No key is below this one, so that all keys are from it on.
        let end = if prefix || from_key { vec![0] } else { vec![] };
        return Ok((vec![0], end));
    }
    let end = match args.get(1) {
        Some(_) if prefix => return Err(Failure::bad_args("unexpected endkey argument with --prefix flag")),
        Some(_) if from_key => {
            return Err(Failure::bad_args("unexpected endkey argument with --from-key flag"));
        }
        Some(end) => end.clone(),
        None if prefix => prefix_end(&key),
        None if from_key => vec![0],
        None => vec![],
    };
    Ok((key, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
        let words: Vec<Vec<u8>> =
            line.split(' ').map(|word| word.trim_matches('\'').as_bytes().to_vec()).collect();
        let known: Vec<&'static Flag> = GRANT.flags.iter().collect();
        let parsed = crate::flags::parse(&known, &words)?;
        range(&parsed.positionals, &parsed).map_err(|failure| failure.message.unwrap())
    }

    #[test]
    fn keys_are_single_ranges_prefixes_and_open_ended() {
        let pair = |key: &str, end: &str| Ok((key.as_bytes().to_vec(), end.as_bytes().to_vec()));
        assert_eq!(read("foo"), pair("foo", ""));
        assert_eq!(read("foo fop"), pair("foo", "fop"));
        assert_eq!(read("--prefix foo"), pair("foo", "fop"));
        assert_eq!(read("--from-key foo"), pair("foo", "\0"));
        assert_eq!(read("''"), pair("\0", ""));
        assert_eq!(read("--prefix ''"), pair("\0", "\0"));
        assert_eq!(read("--from-key ''"), pair("\0", "\0"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |line: &str| read(line).unwrap_err();
        assert_eq!(refused("--prefix --from-key a"), "--from-key and --prefix flags are mutually exclusive");
        assert_eq!(refused("--prefix a b"), "unexpected endkey argument with --prefix flag");
        assert_eq!(refused("--from-key a b"), "unexpected endkey argument with --from-key flag");
    }
}
