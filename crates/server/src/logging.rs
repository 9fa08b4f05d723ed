//! Log lines as etcd's tools expect them.
//!
//! JSON, one object a line on standard error: `level`, `ts`, `caller`, `msg`, then the fields. Other programs wait for some of
//! the messages (`ready to serve client requests`), so these are etcd's word for word. `--log-format=console` prints the same
//! for people: tab-separated, fields as an object at the end.
//!
//! Writing never blocks a request: nothing on the way of one logs above debug.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat, LogOutput};

/// Installs the logger of the process. A second call, as by a second embedded member, keeps the first.
pub fn init(config: &Config) {
    let lines = Lines { format: config.log_format, output: Mutex::new(open(&config.log_output)) };
    // Libraries below us speak of their own insides; from them, only what is wrong is of interest. openraft warns of every
    // message that an unreachable member does not get; raftlog says once what that means.
    let openraft =
        if config.log_level >= LevelFilter::DEBUG { LevelFilter::WARN } else { LevelFilter::ERROR };
    let filter = tracing_subscriber::filter::Targets::new()
        .with_default(config.log_level.min(LevelFilter::WARN))
        .with_target("etcd_rs", config.log_level)
        .with_target("etcd_rs_server", config.log_level)
        .with_target("openraft", openraft)
        .with_target("raftlog", config.log_level)
        .with_target("etcd_rs_mvcc", config.log_level)
        .with_target("etcd_rs_backend", config.log_level)
        .with_target("etcd_rs_lease", config.log_level)
        .with_target("etcd_rs_tls", config.log_level)
        .with_target("etcd_rs_watch", config.log_level);
    drop(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init());
}

fn open(output: &LogOutput) -> Box<dyn std::io::Write + Send> {
    match output {
        LogOutput::Stderr => Box::new(std::io::stderr()),
        LogOutput::Stdout => Box::new(std::io::stdout()),
    }
}

struct Lines {
    format: LogFormat,
    /// Guards the output so that lines stay whole; nothing else is locked while it is held.
    output: Mutex<Box<dyn std::io::Write + Send>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = render(self.format, event);
        let mut output = self.output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // There is nobody to tell that the log cannot be written.
        drop(output.write_all(line.as_bytes()));
    }
}

fn render(format: LogFormat, event: &Event<'_>) -> String {
    let mut parts = Parts::default();
    event.record(&mut parts);
    let mut line = String::with_capacity(256);
    let metadata = event.metadata();
    let file = metadata.file().unwrap_or("");
    let caller = file.rsplit_once("/src/").map_or(file, |(_, path)| path);
    let caller = format!("{caller}:{}", metadata.line().unwrap_or(0));
    match format {
        LogFormat::Json => {
            line.push_str("{\"level\":\"");
            line.push_str(level(*metadata.level()));
            line.push_str("\",\"ts\":\"");
            timestamp(&mut line);
            line.push_str("\",\"caller\":");
            quote(&mut line, &caller);
            line.push_str(",\"msg\":");
            quote(&mut line, &parts.message);
            line.push_str(&parts.fields);
            line.push_str("}\n");
        }
        LogFormat::Console => {
            timestamp(&mut line);
            line.push('\t');
            line.push_str(level(*metadata.level()));
            line.push('\t');
            line.push_str(&caller);
            line.push('\t');
            line.push_str(&parts.message);
            if let Some(fields) = parts.fields.strip_prefix(',') {
                line.push_str("\t{");
                line.push_str(fields);
                line.push('}');
            }
            line.push('\n');
        }
    }
    line
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

const GROWS: &str = "a string grows as needed";

fn timestamp(line: &mut String) {
    let mut writer = tracing_subscriber::fmt::format::Writer::new(line);
    SystemTime.format_time(&mut writer).expect(GROWS);
}

/// The message of an event, and its fields as `,"name":value` each.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn raw(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        write!(self.fields, "{value}").expect(GROWS);
    }

    /// Field names in code have underscores where etcd's have dashes.
    fn name(&mut self, field: &Field) {
        self.fields.push(',');
        quote(&mut self.fields, &field.name().replace('_', "-"));
        self.fields.push(':');
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").expect(GROWS);
        } else {
            self.name(field);
            quote(&mut self.fields, &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.name(field);
            quote(&mut self.fields, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field, value);
    }
}

/// Appends `text` as a JSON string.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if u32::from(c) < 0x20 => write!(line, "\\u{:04x}", u32::from(c)).expect(GROWS),
            c => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_quotes_are_escaped() {
        let mut line = String::new();
        quote(&mut line, "a\"b\\c\n\u{1}");
        assert_eq!(line, r#""a\"b\\c\n\u0001""#);
    }
}
