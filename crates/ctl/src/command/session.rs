//! What a running command has at hand: its command line, the cluster, and whoever started it.

use client::Client;

use super::{Path, inherited};
use crate::failure::Outcome;
use crate::flags::Parsed;
use crate::global::{self, Environment, Globals};
use crate::output::{out, out_line};
use crate::printer::{Answer, Format, Printer};

/// A command line that names a command and has been read with its flags.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) path: Path,
    /// The command's own flags and the arguments; the global flags too, until a [`Session`] takes them.
    pub(crate) parsed: Parsed,
    pub(crate) environment: Environment,
}

impl Invocation {
    pub(crate) fn args(&self) -> &[Vec<u8>] {
        &self.parsed.positionals
    }

    /// The argument at this place, as text.
    pub(crate) fn text(&self, index: usize) -> String {
        self.args().get(index).map(|arg| String::from_utf8_lossy(arg).into_owned()).unwrap_or_default()
    }

    /// Checks the global flags against the environment, and makes what a command needs of them. Errors in a command's own
    /// arguments come first, so commands call this when they have read those.
    pub(crate) fn session(mut self) -> Outcome<(Session, Parsed)> {
        let command = self.path[self.path.len() - 1].name;
        let known: &[&str] =
            if command == "watch" { &["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"] } else { &[] };
        global::adopt_environment(&mut self.parsed, &inherited(&self.path), &self.environment, known)?;
        let globals = Globals::new(&self.parsed)?;
        Ok((Session { globals }, self.parsed))
    }
}

/// What a command talks through: to the cluster, and to whoever started it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) globals: Globals,
}

impl Session {
    pub(crate) async fn connect(&self) -> Outcome<Client> {
        self.globals.connect().await
    }

    /// Waits for a request no longer than `--command-timeout`.
    pub(crate) async fn within<T>(
        &self,
        request: impl IntoFuture<Output = client::Result<T>>,
    ) -> client::Result<T> {
        let limit = self.globals.command_timeout();
        tokio::time::timeout(limit, request.into_future())
            .await
            .unwrap_or(Err(client::Error::DeadlineExceeded))
    }

    pub(crate) fn format(&self) -> Format {
        self.globals.format
    }

    pub(crate) fn print(&self, answer: &Answer<'_>) -> Outcome {
        Ok(out(self.printer().print(answer)?)?)
    }

    pub(crate) fn printer(&self) -> Printer {
        Printer { format: self.format(), hex: self.globals.hex(), values_only: false }
    }
}

/// Prints a line that has no other format.
pub(crate) fn say(line: impl AsRef<[u8]>) -> Outcome {
    Ok(out_line(line)?)
}
