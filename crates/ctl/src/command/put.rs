//! `put`.

use std::io::Read;

use client::{LeaseId, Put};

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Parsed};
use crate::go;
use crate::printer::Answer;

pub(super) static COMMAND: Command = Command {
    name: "put",
    alias: None,
    usage: "[options] <key> <value> (<value> can also be given from stdin)",
    short: "Puts a value under a key",
    long: "Puts a value under a key.\n\
           \n\
           A value that begins with '-' would be read as a flag. Two dashes say that no flags follow:\n\
           \n\
           $ put <key> -- <value>\n\
           $ put -- <key> <value>\n\
           \n\
           Without a value and without '--ignore-value', all of stdin is the value, so that\n\
           \n\
           $ cat file | put <key>\n\
           \n\
           stores the file, its last newline included.",
    flags: &[
        Flag::bool("ignore-lease", "keep the lease the key is attached to"),
        Flag::bool("ignore-value", "keep the value the key has"),
        Flag::string("lease", "0", "attach the key to the lease of this ID (hexadecimal)"),
        Flag::bool("prev-kv", "return what the key held before"),
    ],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let request = request(&invocation.parsed, read_stdin)?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(request.on(&client)).await?;
    session.print(&Answer::Put(&response))
}

/// Everything on stdin; nothing if it cannot be read.
fn read_stdin() -> Vec<u8> {
    let mut bytes = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// The request of a `put`, alone or in a transaction; `stdin` is asked for a value that is not among the arguments.
pub(super) fn request(parsed: &Parsed, stdin: impl FnOnce() -> Vec<u8>) -> Outcome<Put> {
    let missing = || Failure::bad_args("put command needs 1 argument and input from stdin or 2 arguments");
    let key = parsed.positionals.first().ok_or_else(missing)?;
    let argument = parsed.positionals.get(1);
    let value = match (parsed.on("ignore-value"), argument) {
        (true, Some(_)) => {
            return Err(Failure::bad_args("put command needs only 1 argument when 'ignore-value' is set"));
        }
        (true, None) => Vec::new(),
        (false, Some(value)) => value.clone(),
        (false, None) => Some(stdin()).filter(|value| !value.is_empty()).ok_or_else(missing)?,
    };
    let lease = go::parse_int(parsed.get("lease").unwrap_or("0"), 16)
        .map_err(|why| Failure::bad_args(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    let mut put = Put::new(key.clone(), value).lease(LeaseId::new(lease));
    if parsed.on("prev-kv") {
        put = put.prev_kv();
    }
    if parsed.on("ignore-value") {
        put = put.ignore_value();
    }
    if parsed.on("ignore-lease") {
        put = put.ignore_lease();
    }
    Ok(put)
}
