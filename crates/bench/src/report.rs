//! The table: one line for each load, ours and theirs side by side, and the conditions that it holds for.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::flags::Flags;
use crate::results::{Figure, Results, Row, Unit};
use crate::server::Product;

/// Tells the user of one figure as soon as it is there.
#[expect(clippy::print_stderr, reason = "progress is for the person who waits")]
pub(crate) fn progress(product: &str, load: &str, unit: Unit, figure: &Figure) {
    eprintln!("{product:<9} {load:<44} {:>10}  {}", value(unit, figure.value), details(figure));
}

fn details(figure: &Figure) -> String {
    let mut text = String::new();
    for (name, duration) in [("p50", figure.p50), ("p99", figure.p99), ("max", figure.max)] {
        if let Some(duration) = duration {
            write_to(&mut text, format_args!("{name} {} ", time(duration)));
        }
    }
    if let Some(cpu) = figure.cpu_micros {
        write_to(&mut text, format_args!("cpu {} us ", digits(cpu)));
    }
    if let Some(note) = &figure.note {
        write_to(&mut text, format_args!("({note})"));
    }
    text
}

/// The whole report as Markdown.
pub(crate) fn markdown(flags: &Flags, products: &[Product], results: &Results) -> String {
    let mut text = String::new();
    let line = |text: &mut String, what: std::fmt::Arguments<'_>| write_to(text, format_args!("{what}\n"));
    line(&mut text, format_args!("{}\n", conditions(flags, products)));
    let names: Vec<&str> = products.iter().map(|product| product.name.as_str()).collect();
    let both = names.join(" / ");
    line(&mut text, format_args!("Each cell: {both}. Ratios above 1 are in favour of {}.\n", names[0]));
    line(
        &mut text,
        format_args!(
            "| load | result | ratio | p50 | p99 | longest | server CPU a request | written a request |"
        ),
    );
    line(&mut text, format_args!("|---|---|---|---|---|---|---|---|"));
    for row in &results.rows {
        line(&mut text, format_args!("{}", table_line(row, products.len())));
    }
    let notes = notes(results, products);
    if !notes.is_empty() {
        line(&mut text, format_args!("\n{notes}"));
    }
    text
}

fn table_line(row: &Row, products: usize) -> String {
    let cell = |show: &dyn Fn(&Figure) -> Option<String>| {
        let shown: Vec<Option<String>> =
            (0..products).map(|product| row.median(product).and_then(show)).collect();
        if shown.iter().all(Option::is_none) {
            return String::new();
        }
        shown.into_iter().map(|text| text.unwrap_or_else(|| "-".to_owned())).collect::<Vec<_>>().join(" / ")
    };
    let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{}x", digits(ratio)));
    format!(
        "| {} | {} | {ratio} | {} | {} | {} | {} | {} |",
        row.load,
        cell(&|figure| Some(value(row.unit, figure.value))),
        cell(&|figure| figure.p50.map(time)),
        cell(&|figure| figure.p99.map(time)),
        cell(&|figure| figure.max.map(time)),
        cell(&|figure| figure.cpu_micros.map(|micros| format!("{} us", digits(micros)))),
        cell(&|figure| figure.written.map(bytes)),
    )
}

fn notes(results: &Results, products: &[Product]) -> String {
    let mut text = String::new();
    for row in &results.rows {
        for (index, product) in products.iter().enumerate() {
            if let Some(note) = row.median(index).and_then(|figure| figure.note.as_ref()) {
                write_to(&mut text, format_args!("- {}, {}: {note}.\n", product.name, row.load));
            }
        }
    }
    text
}

/// What a reader must know to compare with figures of their own.
fn conditions(flags: &Flags, products: &[Product]) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let cpu = field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(unknown);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&file("/proc/meminfo"), "MemTotal").unwrap_or_else(unknown);
    let kernel = file("/proc/sys/kernel/osrelease").trim().to_owned();
    let disk = said(Command::new("df").args(["--output=fstype,source"]).arg(&flags.data))
        .lines()
        .last()
        .map_or_else(unknown, |line| line.split_whitespace().collect::<Vec<_>>().join(" on "));
    let versions: Vec<String> =
        products.iter().map(|product| format!("{} {}", product.name, product.version)).collect();
    let mut text = String::new();
    for (name, what) in [
        ("Versions", versions.join(", ")),
        ("Machine", format!("{cores} cores of {cpu}, {memory} of memory, Linux {kernel}")),
        ("Disk", disk),
        ("Date", said(Command::new("date").arg("+%Y-%m-%d")).trim().to_owned()),
        (
            "Conditions",
            format!(
                "one member unless the load says otherwise, fsync on, loopback, the generator on the same machine; 10 connections, \
                 256-byte values; {} keys of 60 bytes in the big load; {} s a load, median of {} rounds",
                flags.keys(),
                flags.seconds,
                flags.rounds
            ),
        ),
    ] {
        write_to(&mut text, format_args!("- {name}: {what}\n"));
    }
    text
}

fn said(command: &mut Command) -> String {
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Writing to a string cannot fail.
pub(crate) fn write_to(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).unwrap_or_default();
}

/// A figure in its unit, as short as three digits allow.
pub(crate) fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond if value >= 1e6 => format!("{} M/s", digits(value / 1e6)),
        Unit::PerSecond if value >= 1e3 => format!("{} k/s", digits(value / 1e3)),
        Unit::PerSecond => format!("{} /s", digits(value)),
        Unit::Seconds => time(Duration::from_secs_f64(value.clamp(0.0, 1e9))),
        Unit::Bytes => bytes(value),
    }
}

fn bytes(value: f64) -> String {
    match value {
        value if value >= 1024.0 * 1024.0 => format!("{} MiB", digits(value / 1024.0 / 1024.0)),
        value if value >= 1024.0 => format!("{} KiB", digits(value / 1024.0)),
        value => format!("{value:.0} B"),
    }
}

/// A duration in the unit that suits it.
pub(crate) fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{} s", digits(seconds)),
        seconds if seconds >= 1e-3 => format!("{} ms", digits(seconds * 1e3)),
        seconds => format!("{} us", digits(seconds * 1e6)),
    }
}

/// Three significant digits or all those before the point.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(value(Unit::PerSecond, 31_234.5), "31.2 k/s");
        assert_eq!(value(Unit::PerSecond, 6.0), "6.00 /s");
        assert_eq!(value(Unit::Seconds, 0.0035), "3.50 ms");
        assert_eq!(value(Unit::Bytes, 681.0 * 1024.0 * 1024.0), "681 MiB");
    }

    #[test]
    fn less_time_is_a_better_ratio() {
        let mut results = Results { products: 2, ..Results::default() };
        results.add(0, "x", Unit::Seconds, Figure { value: 2.0, ..Figure::default() });
        results.add(1, "x", Unit::Seconds, Figure { value: 6.0, ..Figure::default() });
        assert_eq!(results.rows[0].ratio(), Some(3.0));
    }
}
