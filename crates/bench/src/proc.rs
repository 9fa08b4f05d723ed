//! What the kernel says about a process: processor time, memory, bytes written.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// One look at a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time so far, user and system, of all threads.
    pub(crate) cpu: Duration,
    /// Bytes it caused to be sent to the disk so far.
    pub(crate) written: u64,
    /// Memory it holds now.
    pub(crate) resident: u64,
}

impl Usage {
    /// Reads `/proc/PID`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        Ok(Self {
            cpu: cpu(&read("stat")?).context("unexpected text in /proc/PID/stat")?,
            written: number_after(&read("io")?, "\nwrite_bytes:")
                .context("no write_bytes in /proc/PID/io")?,
            resident: number_after(&read("status")?, "VmRSS:").context("no VmRSS in /proc/PID/status")? << 10,
        })
    }
}

/// Fields 14 and 15 of `stat`, in ticks of 10 ms. The command's name before them may hold blanks.
fn cpu(stat: &str) -> Option<Duration> {
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(10 * (user + system)))
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text.split_once(label)?.1;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 100_000);
    }

    #[test]
    fn a_name_with_blanks_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }
}
