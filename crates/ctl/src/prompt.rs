//! Asking for passwords.

use std::io::{self, BufRead, Write};
use std::process::{Command as Process, Stdio};

use crate::failure::{Failure, Outcome};
use crate::output::{out, out_line};

/// Asks on the terminal, without showing what is typed; without a terminal, takes a line of stdin.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    out(question)?;
    echo("-echo");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    echo("echo");
    out_line("")?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks twice for the password that a user is to have.
pub(crate) fn new_password(user: &str) -> Outcome<String> {
    let failed = |error| Failure::bad_args(format!("failed to ask password: {error}"));
    let password = ask(&format!("Password of {user}: ")).map_err(failed)?;
    if password.is_empty() {
        return Err(Failure::bad_args("empty password"));
    }
    let again = ask(&format!("Type password of {user} again for confirmation: ")).map_err(failed)?;
    if password != again {
        return Err(Failure::bad_args("given passwords are different"));
    }
    Ok(password)
}

/// The first word of stdin's first line, asked for by nobody.
pub(crate) fn word() -> String {
    let mut line = String::new();
    // What cannot be read is as good as nothing; the server refuses that.
    drop(io::stdin().lock().read_line(&mut line));
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Switches the terminal's echo. Without a terminal there is none to switch.
fn echo(setting: &str) {
    io::stdout().flush().unwrap_or(());
    drop(Process::new("stty").arg(setting).stdin(Stdio::inherit()).stderr(Stdio::null()).status());
}
