//! `watch`, with a command to run for each event, and the interactive watch that reads its lines from stdin.

use std::io::BufRead;
use std::process::Stdio;

use api::etcdserverpb::WatchResponse;
use api::mvccpb::Event;
use api::mvccpb::event::EventType;
use client::{Client, Error, WatchStream};
use tokio::process::Command as Process;
use tokio::sync::mpsc;

use super::{Action, Command, Invocation, Session, say, tokens};
use crate::failure::{Failure, Outcome};
use crate::flags::{self, Flag, Parsed};
use crate::global::Environment;
use crate::go::quote;
use crate::output::{err_line, out};
use crate::printer::{Answer, Printer};

pub(super) static COMMAND: Command = Command {
    name: "watch",
    alias: None,
    usage: "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Shows the changes of keys as they happen",
    long: "Keys can also be named by the environment: ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END.\n\
           \n\
           A command after two dashes is run once for each event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE,\n\
           ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.",
    flags: &[
        Flag::bool("interactive", "read lines of `watch` and `progress` from stdin").short('i'),
        Flag::bool("prefix", "watch every key that begins with the given one"),
        Flag::bool("prev-kv", "show what each key held before"),
        Flag::bool("progress-notify", "have the server tell its revision now and then"),
        Flag::int("rev", "the revision to begin with (0 for now)"),
    ],
    action: Action::Run(|invocation| Box::pin(run(invocation))),
};

async fn run(invocation: Invocation) -> Outcome {
    let named = Named::by(&invocation.environment)?;
    if invocation.parsed.on("interactive") {
        let (session, _) = invocation.session()?;
        return interactive(&session, &named).await;
    }
    let plan = Plan::new(&invocation.parsed, &named)?;
    plan.check()?;
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let viewer = Viewer { printer: session.printer(), command: plan.command.clone() };
    viewer.show(plan.start(&client).await).await?;
    Err(Failure::interrupted("watch is canceled by the server"))
}

/// The keys to watch, if the environment names them.
#[derive(Debug, Default)]
pub(super) struct Named(Vec<Vec<u8>>);

impl Named {
    fn by(environment: &Environment) -> Outcome<Self> {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(String::as_str);
        match (get("ETCDCTL_WATCH_KEY"), get("ETCDCTL_WATCH_RANGE_END")) {
            (None, Some(end)) => Err(Failure::bad_args(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}",
                quote(end.as_bytes())
            ))),
            (key, end) => Ok(Self(key.into_iter().chain(end).map(|name| name.as_bytes().to_vec()).collect())),
        }
    }
}

/// One watch, as it was asked for.
#[derive(Debug)]
pub(super) struct Plan {
    keys: Vec<Vec<u8>>,
    prefix: bool,
    prev_kv: bool,
    progress_notify: bool,
    revision: i64,
    /// What to run for each event; nothing if empty.
    command: Vec<Vec<u8>>,
}

impl Plan {
    pub(super) fn new(parsed: &Parsed, named: &Named) -> Outcome<Self> {
        let dashes = parsed.before_dashes;
        let (keys, command) = parsed.positionals.split_at(dashes.unwrap_or(parsed.positionals.len()));
        if dashes.is_some() && command.is_empty() {
            return Err(Failure::bad_args("bad number of arguments (found separator --, but no commands)"));
        }
        let keys = match (keys.is_empty(), named.0.is_empty()) {
            (false, false) => {
                return Err(Failure::bad_args("bad number of arguments (found conflicting environment key)"));
            }
            (false, true) => keys,
            (true, false) => &named.0,
            (true, true) => return Err(Failure::bad_args("bad number of arguments")),
        };
        Ok(Self {
            keys: keys.to_vec(),
            prefix: parsed.on("prefix"),
            prev_kv: parsed.on("prev-kv"),
            progress_notify: parsed.on("progress-notify"),
            revision: parsed.int("rev"),
            command: command.to_vec(),
        })
    }

    pub(super) fn check(&self) -> Outcome {
        if self.keys.len() == 2 && self.prefix {
            return Err(Failure::bad_args("`range_end` and `--prefix` are mutually exclusive"));
        }
        Ok(())
    }

    async fn start(&self, client: &Client) -> client::Result<WatchStream> {
        let mut watch = client.watch(self.keys[0].clone()).start_revision(self.revision);
        // More than two: etcdctl takes the first alone.
        if let [_, end] = self.keys.as_slice() {
            watch = watch.range_end(end.clone());
        }
        if self.prefix {
            watch = watch.prefix();
        }
        if self.prev_kv {
            watch = watch.prev_kv();
        }
        if self.progress_notify {
            watch = watch.progress_notify();
        }
        watch.await
    }
}

/// Shows one watch.
struct Viewer {
    printer: Printer,
    command: Vec<Vec<u8>>,
}

impl Viewer {
    /// Until the server ends it.
    async fn show(&self, watch: client::Result<WatchStream>) -> Outcome {
        let mut watch = match watch {
            Ok(watch) => watch,
            Err(error) => return self.show_end(&error),
        };
        while let Some(item) = watch.next().await {
            match item {
                Ok(response) => self.show_response(&response).await?,
                Err(error) => return self.show_end(&error),
            }
        }
        Ok(())
    }

    async fn show_response(&self, response: &WatchResponse) -> Outcome {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.events.is_empty() && revision != 0 {
            say(format!("progress notify: {revision}"))?;
        }
        self.print(&Answer::Watch(response))?;
        if !self.command.is_empty() {
            for event in &response.events {
                self.run_command(revision, event).await?;
            }
        }
        Ok(())
    }

    fn show_end(&self, error: &Error) -> Outcome {
        err_line(format!("watch was canceled ({error})"));
        match error {
            Error::WatchCanceled(response) if response.created => self.print(&Answer::WatchRefused),
            Error::WatchCanceled(response) => self.print(&Answer::Watch(response)),
            _ => Ok(()),
        }
    }

    fn print(&self, answer: &Answer<'_>) -> Outcome {
        Ok(out(self.printer.print(answer)?)?)
    }

    async fn run_command(&self, revision: i64, event: &Event) -> Outcome {
        let kind = if event.r#type() == EventType::Put { "PUT" } else { "DELETE" };
        let kv = event.kv.clone().unwrap_or_default();
        let words: Vec<_> = self.command.iter().map(|word| super::os_string(word)).collect();
        // The quotes around the last three are part of what scripts get.
        let outcome = Process::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .env("ETCD_WATCH_REVISION", revision.to_string())
            .env("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes()))
            .env("ETCD_WATCH_KEY", quote(&kv.key))
            .env("ETCD_WATCH_VALUE", quote(&kv.value))
            .status()
            .await;
        let why = match outcome {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => match status.code() {
                Some(code) => format!("exit status {code}"),
                None => status.to_string(),
            },
            Err(_) => format!("exec: {}: executable file not found in $PATH", quote(&self.command[0])),
        };
        let words: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        err_line(format!("command [{}] error ({why})", words.join(" ")));
        Err(Failure::silent(1))
    }
}

/// Reads lines for as long as there are any; watches are shown meanwhile.
async fn interactive(session: &Session, named: &Named) -> Outcome {
    let client = session.connect().await?;
    let mut lines = stdin_lines();
    let (fatal, mut failures) = mpsc::unbounded_channel();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            Some(failure) = failures.recv() => return Err(failure),
        };
        let Some(line) = line else {
            return Err(Failure::invalid_input("error reading watch request line: EOF"));
        };
        let Some(plan) = understand(&client, &line, named)? else { continue };
        let viewer = Viewer { printer: session.printer(), command: plan.command.clone() };
        let watch = plan.start(&client).await;
        let fatal = fatal.clone();
        tokio::spawn(async move {
            if let Err(failure) = viewer.show(watch).await {
                // Nobody listens only when the program is ending anyway.
                fatal.send(failure).unwrap_or(());
            }
        });
    }
}

/// Does what a line says, or complains of it; a watch is left to the caller.
fn understand(client: &Client, line: &[u8], named: &Named) -> Outcome<Option<Plan>> {
    let shown = String::from_utf8_lossy(line);
    let complain = |text: String| {
        err_line(text);
        Ok(None)
    };
    let words = tokens::split(line)?;
    let Some((first, rest)) = words.split_first() else {
        return complain(format!("Invalid command: {shown} (watch and progress supported)"));
    };
    match first.as_slice() {
        b"watch" if rest.is_empty() && named.0.is_empty() => {
            complain(format!("Invalid command {shown} (command type or key is not provided)"))
        }
        b"watch" => {
            let known: Vec<&'static Flag> = COMMAND.flags.iter().collect();
            let parsed = flags::parse(&known, rest).map_err(Failure::bad_args)?;
            let plan = Plan::new(&parsed, named)?;
            match plan.check() {
                Ok(()) => Ok(Some(plan)),
                Err(failure) => {
                    complain(format!("Invalid command {shown} ({})", failure.message.unwrap_or_default()))
                }
            }
        }
        b"progress" => {
            client.request_watch_progress();
            Ok(None)
        }
        _ => complain(format!("Invalid command {shown} (only support watch)")),
    }
}

/// The lines of stdin without their newlines; what follows the last newline is no line. A thread of its own reads them:
/// unlike a task of the runtime it does not have to end before the program can.
fn stdin_lines() -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = stdin.read_until(b'\n', &mut line);
            if read.is_err() || line.pop() != Some(b'\n') || sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str, environment: &[(&str, &str)]) -> Result<(String, String), String> {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let known: Vec<&'static Flag> = COMMAND.flags.iter().collect();
        let args: Vec<Vec<u8>> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        let parsed = flags::parse(&known, &args)?;
        let plan = Named::by(&environment)
            .and_then(|named| Plan::new(&parsed, &named))
            .and_then(|plan| plan.check().map(|()| plan))
            .map_err(|failure| failure.message.unwrap())?;
        let text = |words: &[Vec<u8>]| String::from_utf8(words.join(&b' ')).unwrap();
        Ok((text(&plan.keys), text(&plan.command)))
    }

    #[test]
    fn keys_come_from_arguments_or_the_environment_and_a_command_after_dashes() {
        let key = [("ETCDCTL_WATCH_KEY", "k")];
        let range = [("ETCDCTL_WATCH_KEY", "k"), ("ETCDCTL_WATCH_RANGE_END", "l")];
        let pair = |keys: &str, command: &str| Ok((keys.to_owned(), command.to_owned()));
        assert_eq!(plan("a", &[]), pair("a", ""));
        assert_eq!(plan("a b --rev 1 -- echo --x", &[]), pair("a b", "echo --x"));
        assert_eq!(plan("", &key), pair("k", ""));
        assert_eq!(plan("-- echo", &range), pair("k l", "echo"));
    }

    #[test]
    fn wrong_arguments_are_told_in_etcdctls_words() {
        let key = [("ETCDCTL_WATCH_KEY", "k")];
        let end = [("ETCDCTL_WATCH_RANGE_END", "wl")];
        let cases = [
            ("", &[][..], "bad number of arguments"),
            ("-- echo", &[], "bad number of arguments"),
            ("a --", &[], "bad number of arguments (found separator --, but no commands)"),
            ("a", &key, "bad number of arguments (found conflicting environment key)"),
            ("a", &end, "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=\"wl\""),
            ("a b --prefix", &[], "`range_end` and `--prefix` are mutually exclusive"),
        ];
        for (line, environment, error) in cases {
            assert_eq!(plan(line, environment), Err(error.to_owned()), "{line}");
        }
    }
}
