//! A bar that grows, for who looks at a terminal; elsewhere nothing is shown.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

const COLUMNS: usize = 50;
const TICK: Duration = Duration::from_millis(200);

pub(super) struct Bar {
    /// Whether stderr is a terminal.
    visible: bool,
    ticks: tokio::time::Interval,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { visible: std::io::stderr().is_terminal(), ticks: tokio::time::interval(TICK) }
    }

    /// Waits until the bar is to be shown again; for ever if it is not to be shown.
    pub(super) async fn tick(&mut self) {
        if !self.visible {
            return std::future::pending().await;
        }
        self.ticks.tick().await;
    }

    pub(super) fn show(&self, part: f64) {
        if self.visible {
            self.write(&format!("\r{}", drawn(part)));
        }
    }

    pub(super) fn end(&self) {
        if self.visible {
            self.write(&format!("\r{}\n", drawn(1.0)));
        }
    }

    /// Writes to the terminal. If that fails there is nobody left to look.
    fn write(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).unwrap_or(());
    }
}

fn drawn(part: f64) -> String {
    let share = |columns: usize| (0..columns).filter(|&at| at_most(at, columns, part)).count();
    let full = share(COLUMNS);
    format!("[{}{}] {:3}%", "=".repeat(full), " ".repeat(COLUMNS - full), share(100))
}

/// Whether column `at` of so many lies within the part.
fn at_most(at: usize, columns: usize, part: f64) -> bool {
    let to_float = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    to_float(at) + 1.0 <= to_float(columns) * part + 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows_from_nothing_to_all() {
        assert_eq!(drawn(0.0), format!("[{}]   0%", " ".repeat(50)));
        assert_eq!(drawn(0.5), format!("[{}{}]  50%", "=".repeat(25), " ".repeat(25)));
        assert_eq!(drawn(1.0), format!("[{}] 100%", "=".repeat(50)));
    }
}
