//! What auto-compaction keeps.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::flags::go_duration;

/// How `--auto-compaction-retention` is to be read, and its text.
#[derive(Clone, Debug)]
pub struct AutoCompaction {
    /// `periodic` or `revision`.
    pub mode: String,
    /// A number, of hours or revisions, or a duration in Go's notation; 0 for no compaction.
    pub retention: String,
}

impl Default for AutoCompaction {
    fn default() -> Self {
        Self { mode: "periodic".to_owned(), retention: "0".to_owned() }
    }
}

/// The history that a compaction spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// That of so long.
    Period(Duration),
    /// That of so many revisions.
    Revisions(i64),
}

impl AutoCompaction {
    /// `None` if nothing is to be compacted.
    ///
    /// # Errors
    /// Mode or retention make no sense; the text is etcd's.
    pub(crate) fn retention(&self) -> Result<Option<Retention>> {
        let by_revision = match self.mode.as_str() {
            "periodic" => false,
            "revision" => true,
            "" => return Err(Error::config("undefined auto-compaction-mode")),
            unknown => return Err(Error::config(format!("unknown auto-compaction-mode {unknown:?}"))),
        };
        let too_long = || Error::config("--auto-compaction-retention is too long");
        let duration = match self.retention.parse::<u64>() {
            Ok(0) => return Ok(None),
            Ok(revisions) if by_revision => {
                let revisions = i64::try_from(revisions).map_err(|_| too_long())?;
                return Ok(Some(Retention::Revisions(revisions)));
            }
            Ok(hours) => Duration::from_secs(hours.checked_mul(3600).ok_or_else(too_long)?),
            Err(_) => go_duration(&self.retention)
                .map_err(|why| Error::config(format!("error parsing CompactionRetention: {why}")))?,
        };
        if duration.is_zero() {
            return Ok(None);
        }
        // As in etcd, whose durations are nanoseconds, and whose revisions are durations.
        let nanoseconds = i64::try_from(duration.as_nanos()).map_err(|_| too_long())?;
        Ok(Some(if by_revision { Retention::Revisions(nanoseconds) } else { Retention::Period(duration) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_read_as_by_etcd() {
        let read = |mode: &str, retention: &str| {
            let asked = AutoCompaction { mode: mode.to_owned(), retention: retention.to_owned() };
            asked.retention().map_err(|error| error.to_string())
        };
        let hours = |hours: u64| Ok(Some(Retention::Period(Duration::from_secs(hours * 3600))));
        assert_eq!(read("periodic", "0"), Ok(None));
        assert_eq!(read("periodic", "0s"), Ok(None));
        assert_eq!(read("revision", "0"), Ok(None));
        assert_eq!(read("periodic", "8"), hours(8));
        assert_eq!(read("periodic", "1h"), hours(1));
        assert_eq!(read("periodic", "90s"), Ok(Some(Retention::Period(Duration::from_secs(90)))));
        assert_eq!(read("revision", "1000"), Ok(Some(Retention::Revisions(1000))));
        assert_eq!(read("revision", "5m"), Ok(Some(Retention::Revisions(300_000_000_000))));
        assert_eq!(read("", "1"), Err("undefined auto-compaction-mode".to_owned()));
        assert_eq!(read("x", "1"), Err("unknown auto-compaction-mode \"x\"".to_owned()));
        for wrong in ["-1h", "-1", "soon", ""] {
            let text = format!("error parsing CompactionRetention: time: invalid duration {wrong:?}");
            assert_eq!(read("periodic", wrong), Err(text));
        }
    }
}
