//! How a command fails: an exit code and, usually, one line.

use std::io;

/// A command's outcome.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why the program ends without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Shown as `Error: <message>`. Nothing is shown when everything has been said already.
    pub(crate) message: Option<String>,
    /// Shown after the message: the usage of the command whose flags were wrong, a hint where to find help.
    pub(crate) hint: Option<String>,
}

impl Failure {
    fn new(code: u8, message: impl ToString) -> Self {
        Self { code, message: Some(message.to_string()), hint: None }
    }

    /// A refused request, a wrong flag.
    pub(crate) fn error(message: impl ToString) -> Self {
        Self::new(1, message)
    }

    /// No client could be made.
    pub(crate) fn bad_connection(message: impl ToString) -> Self {
        Self::new(2, message)
    }

    /// What was read from stdin makes no sense.
    pub(crate) fn invalid_input(message: impl ToString) -> Self {
        Self::new(3, message)
    }

    /// A format or an option value that does not exist.
    pub(crate) fn bad_feature(message: impl ToString) -> Self {
        Self::new(4, message)
    }

    /// The server ended what should have gone on.
    pub(crate) fn interrupted(message: impl ToString) -> Self {
        Self::new(5, message)
    }

    /// Wrong number or shape of arguments.
    pub(crate) fn bad_args(message: impl ToString) -> Self {
        Self::new(128, message)
    }

    /// Failed, and everything has been said.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, message: None, hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A request that failed.
impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::error(error)
    }
}

/// Writing the output failed. A reader that has gone away is no error to speak of; the exit code is the one a shell gives a
/// program that a closed pipe has killed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(141),
            _ => Self::error(error),
        }
    }
}
