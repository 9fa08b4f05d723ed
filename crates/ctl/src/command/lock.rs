//! `lock`: holds a lock until a signal comes, or while a command runs.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command as Process;

use super::{Action, Command, Invocation, Session};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::go::quote;
use crate::printer::Answer;
use crate::signals::Signals;

pub(super) static COMMAND: Command = Command {
    name: "lock",
    alias: None,
    usage: "<lockname> [exec-command arg1 arg2 ...]",
    short: "Acquires a named lock",
    long: "Once the lock is held, runs the command with ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment and exits as it does; \n\
           without one prints the lock's key and holds the lock until a signal comes.",
    flags: &[Flag::new("ttl", Kind::Int, "10", "how long the lock outlives this program, in seconds")],
    action: Action::Run(|invocation| Box::pin(lock(invocation))),
};

async fn lock(invocation: Invocation) -> Outcome {
    let Some((name, command)) = invocation.args().split_first() else {
        return Err(Failure::bad_args("lock takes a lock name argument and an optional command to execute"));
    };
    let (name, command) = (name.clone(), command.to_vec());
    let ttl = if invocation.parsed.is_set("ttl") { invocation.parsed.int("ttl") } else { 10 };
    let (session, _) = invocation.session()?;
    let client = session.connect().await?;
    let mut signals = Signals::listen()?;
    let tenure = client.session(ttl).await?;
    let lock = tokio::select! {
        lock = tenure.lock(name) => lock?,
        () = signals.next() => {
            // The key goes with its lease. If that fails, its time will end it.
            drop(tenure.close().await);
            return Err(Failure::error("context canceled"));
        }
    };
    if !command.is_empty() {
        let ended = run(&command, &lock).await;
        let unlocked = lock.unlock().await;
        ended?;
        unlocked?;
        return Ok(());
    }
    show(&session, &client, lock.key()).await?;
    tokio::select! {
        () = signals.next() => {
            lock.unlock().await?;
            Ok(())
        }
        _ = tenure.lost() => Err(Failure::error("session expired")),
    }
}

async fn show(session: &Session, client: &client::Client, key: impl AsRef<[u8]>) -> Outcome {
    let held = client.get(key.as_ref().to_vec()).await?;
    if held.kvs.is_empty() {
        return Err(Failure::error("lock lost on init"));
    }
    session.print(&Answer::Get(&held))
}

/// Runs the command to its end, whatever signals come: those of a terminal come to it, too.
async fn run(command: &[Vec<u8>], lock: &client::Lock) -> Outcome {
    let words: Vec<std::ffi::OsString> = command.iter().map(|word| super::os_string(word)).collect();
    let mut process = Process::new(&words[0]);
    process.args(&words[1..]).stdin(Stdio::null());
    let variables = [
        ("ETCD_LOCK_KEY", super::os_string(&lock.key())),
        ("ETCD_LOCK_REV", lock.header().revision.to_string().into()),
    ];
    for (name, value) in variables {
        // What was there already wins.
        if std::env::var_os(name).is_none() {
            process.env(name, value);
        }
    }
    match process.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ended(status)),
        Err(_) => {
            Err(Failure::error(format!("exec: {}: executable file not found in $PATH", quote(&command[0]))))
        }
    }
}

/// A command's end in Go's words, with its code; that of one that a signal ended is -1, which a shell sees as 255.
fn ended(status: ExitStatus) -> Failure {
    let text = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => {
            let name = match signal {
                Some(1) => "hangup",
                Some(2) => "interrupt",
                Some(3) => "quit",
                Some(6) => "aborted",
                Some(9) => "killed",
                Some(11) => "segmentation fault",
                Some(13) => "broken pipe",
                Some(15) => "terminated",
                _ => "",
            };
            if name.is_empty() {
                format!("signal {}", signal.unwrap_or(0))
            } else {
                format!("signal: {name}")
            }
        }
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255);
    Failure { code, ..Failure::error(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_in_gos_words() {
        let of = |raw| {
            let failure = ended(ExitStatus::from_raw(raw));
            (failure.code, failure.message.unwrap())
        };
        assert_eq!(of(7 << 8), (7, "exit status 7".to_owned()));
        assert_eq!(of(9), (255, "signal: killed".to_owned()));
    }
}
