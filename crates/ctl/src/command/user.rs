//! `user add`, `delete`, `get`, `list`, `passwd`, `grant-role` and `revoke-role`.

use super::{Action, Command, Invocation, say};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Parsed};
use crate::go;
use crate::printer::Answer;
use crate::prompt;

pub(super) static COMMAND: Command = Command {
    name: "user",
    alias: None,
    usage: "<subcommand>",
    short: "User related commands",
    long: "",
    flags: &[],
    action: Action::Parent(&[&ADD, &DELETE, &GET, &GRANT, &LIST, &PASSWD, &REVOKE]),
};

const INTERACTIVE: Flag =
    Flag::new("interactive", Kind::Bool, "true", "ask for the password; else read one word from stdin");

static ADD: Command = Command {
    name: "add",
    alias: None,
    usage: "<user name or user:password> [options]",
    short: "Adds a new user",
    long: "",
    flags: &[
        INTERACTIVE,
        Flag::string("new-user-password", "", "the new user's password; the argument is then the name alone"),
        Flag::bool("no-password", "a user that is known by its certificate alone"),
    ],
    action: Action::Run(|invocation| Box::pin(add(invocation))),
};

static DELETE: Command = Command {
    name: "delete",
    alias: None,
    usage: "<user name>",
    short: "Deletes a user",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(delete(invocation))),
};

static GET: Command = Command {
    name: "get",
    alias: None,
    usage: "<user name> [options]",
    short: "Gets detailed information of a user",
    long: "",
    flags: &[Flag::bool("detail", "show what each of the user's roles permits")],
    action: Action::Run(|invocation| Box::pin(get(invocation))),
};

static LIST: Command = Command {
    name: "list",
    alias: None,
    usage: "",
    short: "Lists all users",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(list(invocation))),
};

static PASSWD: Command = Command {
    name: "passwd",
    alias: None,
    usage: "<user name> [options]",
    short: "Changes password of user",
    long: "",
    flags: &[INTERACTIVE],
    action: Action::Run(|invocation| Box::pin(passwd(invocation))),
};

static GRANT: Command = Command {
    name: "grant-role",
    alias: None,
    usage: "<user name> <role name>",
    short: "Grants a role to a user",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(grant(invocation))),
};

static REVOKE: Command = Command {
    name: "revoke-role",
    alias: None,
    usage: "<user name> <role name>",
    short: "Revokes a role from a user",
    long: "",
    flags: &[],
    action: Action::Run(|invocation| Box::pin(revoke(invocation))),
};

async fn add(invocation: Invocation) -> Outcome {
    if invocation.args().len() != 1 {
        return Err(Failure::bad_args("user add command requires user name as its argument"));
    }
    let (name, password) = new_user(&invocation.text(0), &invocation.parsed)?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = match password {
        Some(password) => client.user_add(&name, password).await?,
        None => client.user_add_without_password(&name).await?,
    };
    session.print(&Answer::AccessChanged(response.header.as_ref(), &format!("User {name} created")))
}

/// The name of a user to be, and its password if it is to have one.
fn new_user(argument: &str, parsed: &Parsed) -> Outcome<(String, Option<String>)> {
    if parsed.on("no-password") {
        return Ok((argument.to_owned(), None));
    }
    if let Some(password) = parsed.get("new-user-password").filter(|password| !password.is_empty()) {
        return Ok((argument.to_owned(), Some(password.to_owned())));
    }
    match argument.split_once(':') {
        Some(("", _)) => Err(Failure::bad_args("empty user name is not allowed")),
        Some((name, password)) => Ok((name.to_owned(), Some(password.to_owned()))),
        None => Ok((argument.to_owned(), Some(typed_password(argument, parsed)?))),
    }
}

fn typed_password(user: &str, parsed: &Parsed) -> Outcome<String> {
    match parsed.get("interactive").map(go::parse_bool) {
        Some(Ok(false)) => Ok(prompt::word()),
        _ => prompt::new_password(user),
    }
}

/// The one argument of a command, a user's name.
fn one_name(invocation: &Invocation, command: &str) -> Outcome<String> {
    match invocation.args() {
        [_] => Ok(invocation.text(0)),
        _ => Err(Failure::bad_args(format!("user {command} command requires user name as its argument"))),
    }
}

async fn delete(invocation: Invocation) -> Outcome {
    let name = one_name(&invocation, "delete")?;
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.user_delete(&name).await?;
    session.print(&Answer::AccessChanged(response.header.as_ref(), &format!("User {name} deleted")))
}

async fn get(invocation: Invocation) -> Outcome {
    let name = one_name(&invocation, "get")?;
    let detail = invocation.parsed.on("detail");
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let user = client.user(&name).await?;
    if !detail {
        return session.print(&Answer::User(&user, &name));
    }
    say(format!("User: {name}"))?;
    for role in &user.roles {
        say("")?;
        let response = client.role(role).await?;
        session.print(&Answer::Role(&response, role))?;
    }
    Ok(())
}

async fn list(invocation: Invocation) -> Outcome {
    if !invocation.args().is_empty() {
        return Err(Failure::bad_args("user list command requires no arguments"));
    }
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.users().await?;
    session.print(&Answer::Users(&response))
}

async fn passwd(invocation: Invocation) -> Outcome {
    let name = one_name(&invocation, "passwd")?;
    let password = typed_password(&name, &invocation.parsed)?;
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.user_change_password(&name, password).await?;
    session.print(&Answer::AccessChanged(response.header.as_ref(), "Password updated"))
}

async fn grant(invocation: Invocation) -> Outcome {
    if invocation.args().len() != 2 {
        let text = "user grant command requires user name and role name as its argument";
        return Err(Failure::bad_args(text));
    }
    let (user, role) = (invocation.text(0), invocation.text(1));
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.user_grant_role(&user, &role).await?;
    let text = format!("Role {role} is granted to user {user}");
    session.print(&Answer::AccessChanged(response.header.as_ref(), &text))
}

async fn revoke(invocation: Invocation) -> Outcome {
    if invocation.args().len() != 2 {
        let text = "user revoke-role requires user name and role name as its argument";
        return Err(Failure::bad_args(text));
    }
    let (user, role) = (invocation.text(0), invocation.text(1));
    let (session, _) = invocation.session()?;
    let response = session.connect().await?.user_revoke_role(&user, &role).await?;
    let text = format!("Role {role} is revoked from user {user}");
    session.print(&Answer::AccessChanged(response.header.as_ref(), &text))
}
