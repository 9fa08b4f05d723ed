//! Where results and complaints go. Nothing else in the program writes to a terminal.

use std::io::{self, Write};

/// Writes results and flushes them: whoever reads a pipe sees an event when it happens.
pub(crate) fn out(bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes.as_ref())?;
    stdout.flush()
}

/// Writes a line of results.
pub(crate) fn out_line(line: impl AsRef<[u8]>) -> io::Result<()> {
    out([line.as_ref(), b"\n"].concat())
}

/// Writes a line of errors or warnings. If that fails there is nobody left to tell.
pub(crate) fn err_line(line: impl AsRef<[u8]>) {
    io::stderr().lock().write_all(&[line.as_ref(), b"\n"].concat()).unwrap_or(());
}
