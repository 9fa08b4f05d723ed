//! `del`.

use std::time::Duration;

use client::Delete;

use super::{Action, Command, Invocation, get};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Parsed};
use crate::go::quote;
use crate::output::err_line;
use crate::printer::Answer;

/// How long one has to think again.
const GRACE: Duration = Duration::from_secs(2);

pub(super) static COMMAND: Command = Command {
    name: "del",
    alias: None,
    usage: "[options] <key> [range_end]",
    short: "Removes a key or a range of keys [key, range_end)",
    long: "",
    flags: &[
        Flag::bool("from-key", "delete every key from the given one on"),
        Flag::bool("prefix", "delete every key that begins with the given one"),
        Flag::bool("prev-kv", "return what was deleted"),
        Flag::bool("range", "delete a range without the two seconds to think again"),
    ],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let request = request(&invocation.parsed)?;
    give_grace(&invocation.parsed).await;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let response = session.within(request.on(&client)).await?;
    session.print(&Answer::Delete(&response))
}

/// The request of a `del`, alone or in a transaction.
pub(super) fn request(parsed: &Parsed) -> Outcome<Delete> {
    let (key, range_end) = match parsed.positionals.as_slice() {
        [key] => (key, None),
        [key, range_end] => (key, Some(range_end)),
        _ => {
            return Err(Failure::bad_args(
                "del command needs one argument as key and an optional argument as range_end",
            ));
        }
    };
    let (prefix, from_key) = (parsed.on("prefix"), parsed.on("from-key"));
    get::exclude(prefix && from_key, "--prefix", "--from-key")?;
    let mut delete = Delete::new(key.clone());
    if let Some(end) = range_end {
        if prefix || from_key {
            return Err(Failure::bad_args(
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            ));
        }
        delete = delete.range_end(end.clone());
    }
    if prefix {
        delete = delete.prefix();
    }
    if from_key {
        delete = delete.from_key();
    }
    if parsed.on("prev-kv") {
        delete = delete.prev_kv();
    }
    Ok(delete)
}

/// Two keys are easily taken for two keys, not for all between them: warns and waits, unless `--range` says it is meant.
pub(super) async fn give_grace(parsed: &Parsed) {
    if let [key, range_end] = parsed.positionals.as_slice()
        && !parsed.on("range")
    {
        err_line(format!(
            "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds \
             to cancel. You can provide `--range` flag to avoid the delay.",
            quote(key),
            quote(range_end)
        ));
        tokio::time::sleep(GRACE).await;
    }
}
