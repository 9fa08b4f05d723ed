//! `etcd-rs-ctl`, the command line that speaks etcdctl.
//!
//! A command line is read with the flags of the command it names (`flags`, `command`), meets the environment
//! (`global`), becomes requests of the client library, and their answers become text in one of five formats
//! (`printer`). What etcdctl would say or exit with is what this says and exits with; where it deliberately does not, a
//! comment at the place tells why.

mod command;
mod discovery;
mod failure;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod global;
mod go;
mod output;
mod printer;
mod prompt;
mod signals;

use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use crate::failure::{Failure, Outcome};
use crate::output::err_line;

/// Does what the process was told by its arguments, its environment and its standard input.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = &failure.message {
                err_line(format!("Error: {message}"));
            }
            if let Some(hint) = &failure.hint {
                err_line(hint);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run() -> Outcome {
    let args = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let environment = global::environment(std::env::vars_os());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::error)?;
    runtime.block_on(command::run(args, environment))
}

/// The name to speak of: the one the program was started by, so that installed as `etcdctl` it calls itself that.
fn program() -> String {
    const NAME: &str = "etcd-rs-ctl";
    if cfg!(test) {
        return NAME.to_owned();
    }
    let started_as = std::env::args_os().next();
    let name =
        started_as.as_deref().map(Path::new).and_then(Path::file_name).map(|name| name.to_string_lossy());
    name.map_or_else(|| NAME.to_owned(), |name| name.into_owned())
}
