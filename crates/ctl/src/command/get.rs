//! `get`.

use client::{Get, SortOrder, SortTarget};

use super::{Action, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Parsed};
use crate::output::out;
use crate::printer::{Answer, Format};

pub(super) static COMMAND: Command = Command {
    name: "get",
    alias: None,
    usage: "[options] <key> [range_end]",
    short: "Gets a key or a range of keys",
    long: "",
    flags: &[
        Flag::string("consistency", "l", "ask the cluster (l, linearizable) or one member (s, serializable)"),
        Flag::bool("count-only", "only count the keys"),
        Flag::bool("from-key", "get every key from the given one on"),
        Flag::bool("keys-only", "get the keys without their values"),
        Flag::int("limit", "at most so many keys (0 for all)"),
        Flag::int("max-create-rev", "only keys created at this revision or before"),
        Flag::int("max-mod-rev", "only keys last modified at this revision or before"),
        Flag::int("min-create-rev", "only keys created at this revision or after"),
        Flag::int("min-mod-rev", "only keys last modified at this revision or after"),
        Flag::string("order", "", "order of the keys: ASCEND or DESCEND"),
        Flag::bool("prefix", "get every key that begins with the given one"),
        Flag::bool("print-value-only", "print the values without their keys (simple format only)"),
        Flag::int("rev", "the revision to read at (0 for now)"),
        Flag::string("sort-by", "", "order by: CREATE, KEY, MODIFY, VALUE or VERSION"),
        Flag::bool("stream", "have the server send a large answer in pieces"),
    ],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let request = request(&invocation.parsed)?;
    let (session, parsed) = invocation.session()?;
    let client = session.connect().await?;
    let mut request = request.on(&client);
    if parsed.on("stream") {
        request = request.streamed();
    }
    let response = session.within(request).await?;
    if parsed.on("count-only") && session.format() != Format::Fields {
        return Err(Failure::bad_args("--count-only is only for `--write-out=fields`"));
    }
    let mut printer = session.printer();
    if parsed.on("print-value-only") {
        if session.format() != Format::Simple {
            return Err(Failure::bad_args("print-value-only is only for `--write-out=simple`"));
        }
        printer.values_only = true;
    }
    Ok(out(printer.print(&Answer::Get(&response))?)?)
}

/// The request of a `get`, alone or in a transaction.
pub(super) fn request(parsed: &Parsed) -> Outcome<Get> {
    let (Some(key), range_end) = (parsed.positionals.first(), parsed.positionals.get(1)) else {
        return Err(Failure::bad_args(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    };
    let (prefix, from_key) = (parsed.on("prefix"), parsed.on("from-key"));
    exclude(prefix && from_key, "--prefix", "--from-key")?;
    exclude(parsed.on("keys-only") && parsed.on("count-only"), "--keys-only", "--count-only")?;

    let mut get = Get::new(key.clone());
    match parsed.get("consistency").unwrap_or("l") {
        "l" => {}
        "s" => get = get.serializable(),
        other => return Err(Failure::bad_feature(format!("unknown consistency flag \"{other}\""))),
    }
    if let Some(end) = range_end {
        if prefix || from_key {
            return Err(Failure::bad_args(
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
            ));
        }
        get = get.range_end(end.clone());
    }
    get = sorted(get, parsed)?;
    if prefix {
        get = get.prefix();
    }
    if from_key {
        get = get.from_key();
    }
    if parsed.on("keys-only") {
        get = get.keys_only();
    }
    if parsed.on("count-only") {
        get = get.count_only();
    }
    bounded(get.limit(positive(parsed, "limit")).revision(positive(parsed, "rev")), parsed)
}

/// Refuses two flags given together.
pub(super) fn exclude(both: bool, one: &str, other: &str) -> Outcome {
    if both {
        return Err(Failure::bad_args(format!(
            "`{one}` and `{other}` cannot be set at the same time, choose one"
        )));
    }
    Ok(())
}

fn positive(parsed: &Parsed, name: &str) -> i64 {
    parsed.int(name).max(0)
}

fn sorted(get: Get, parsed: &Parsed) -> Outcome<Get> {
    let (order, target) = (parsed.get("order").unwrap_or(""), parsed.get("sort-by").unwrap_or(""));
    let wanted = match order.to_ascii_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(Failure::bad_feature(format!("bad sort order {order}"))),
    };
    let by = match target.to_ascii_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::bad_feature(format!("bad sort target {target}"))),
    };
    // Keys come in ascending order anyway; asking for it would have the server sort, and refuse to stream.
    let asked = if (by, wanted) == (SortTarget::Key, SortOrder::Ascend) { SortOrder::None } else { wanted };
    Ok(get.sort(by, asked))
}

fn bounded(get: Get, parsed: &Parsed) -> Outcome<Get> {
    let check = |what: &str, min: i64, max: i64| {
        if min > 0 && max > 0 && min > max {
            return Err(Failure::bad_feature(format!("getMin{what}Rev(={min}) > getMax{what}Rev(={max})")));
        }
        Ok(())
    };
    let [min_create, max_create, min_mod, max_mod] =
        ["min-create-rev", "max-create-rev", "min-mod-rev", "max-mod-rev"].map(|name| positive(parsed, name));
    check("Create", min_create, max_create)?;
    check("Mod", min_mod, max_mod)?;
    Ok(get
        .min_create_revision(min_create)
        .max_create_revision(max_create)
        .min_mod_revision(min_mod)
        .max_mod_revision(max_mod))
}
