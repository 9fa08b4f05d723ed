//! What the user typed: etcd's flags, and its `ETCD_*` variables.
//!
//! The flags are one table: name, default as shown, help, and what a value does to the [`Config`]. They take one dash or two,
//! `--name value` or `--name=value`, as Go's do; clap reads the words, after single dashes have been doubled for it. A flag and
//! its variable together are refused, as by etcd. Only flags of things that exist are known; any other is a clear error rather
//! than a promise that is not kept.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "help, version and refusals are spoken to the user"
)]

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use tracing_subscriber::filter::LevelFilter;

use crate::config::{ClusterState, Config, LogFormat, LogOutput, QUOTA_BYTES_DEFAULT};
use crate::url::Url;

/// What the command line asks for.
#[derive(Debug)]
pub enum Launch {
    /// Run a member.
    Run(Box<Config>),
    /// Everything has been said already; leave with this code.
    Done(ExitCode),
}

/// etcd's version whose API and behaviour this is; clients and tools decide by it what they may ask.
pub const ETCD_VERSION: &str = "3.7.1";

/// How a flag's text changes the configuration.
type Set = fn(&mut Config, &str) -> Result<(), String>;

struct Flag {
    name: &'static str,
    default: &'static str,
    help: &'static str,
    set: Set,
}

const fn flag(name: &'static str, default: &'static str, help: &'static str, set: Set) -> Flag {
    Flag { name, default, help, set }
}

const FLAGS: &[Flag] = &[
    flag("name", "default", "Human-readable name for this member.", |c, v| {
        v.clone_into(&mut c.name);
        Ok(())
    }),
    flag("data-dir", "", "Path to the data directory [NAME.etcd].", |c, v| {
        c.data_dir = PathBuf::from(v);
        Ok(())
    }),
    flag(
        "listen-client-urls",
        "http://localhost:2379",
        "List of URLs to listen on for client traffic; port 0 takes a free one.",
        |c, v| {
            c.listen_client_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "advertise-client-urls",
        "http://localhost:2379",
        "List of this member's client URLs to advertise to the public.",
        |c, v| {
            c.advertise_client_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "listen-peer-urls",
        "http://localhost:2380",
        "List of URLs to listen on for peer traffic.",
        |c, v| {
            c.listen_peer_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "initial-advertise-peer-urls",
        "http://localhost:2380",
        "List of this member's peer URLs to advertise to the rest of the cluster.",
        |c, v| {
            c.initial_advertise_peer_urls = urls(v)?;
            Ok(())
        },
    ),
    flag(
        "initial-cluster",
        "default=http://localhost:2380",
        "Initial cluster configuration for bootstrapping: NAME=URL of each member, separated by commas.",
        |c, v| {
            v.clone_into(&mut c.initial_cluster);
            Ok(())
        },
    ),
    flag("initial-cluster-state", "new", "Initial cluster state ('new' or 'existing').", |c, v| {
        c.initial_cluster_state = match v {
            "new" => ClusterState::New,
            "existing" => ClusterState::Existing,
            _ => return Err("invalid value \"".to_owned() + v + "\""),
        };
        Ok(())
    }),
    flag(
        "initial-cluster-token",
        "etcd-cluster",
        "Initial cluster token for the etcd cluster during bootstrap.",
        |c, v| {
            v.clone_into(&mut c.initial_cluster_token);
            Ok(())
        },
    ),
    flag("heartbeat-interval", "100", "Time (in milliseconds) of a heartbeat interval.", |c, v| {
        c.heartbeat_interval = Duration::from_millis(number(v)?);
        Ok(())
    }),
    flag("election-timeout", "1000", "Time (in milliseconds) for an election to timeout.", |c, v| {
        c.election_timeout = Duration::from_millis(number(v)?);
        Ok(())
    }),
    flag(
        "snapshot-count",
        "10000",
        "Number of committed transactions to trigger a snapshot to disk.",
        |c, v| {
            let count: u64 = number(v)?;
            c.snapshot_count = if count == 0 { 10_000 } else { count };
            Ok(())
        },
    ),
    flag(
        "quota-backend-bytes",
        "0",
        "Raise alarms when live data exceeds this many bytes (0: 2 GiB, negative: no quota).",
        |c, v| {
            let bytes: i64 = number(v)?;
            c.quota_backend_bytes = match u64::try_from(bytes) {
                Ok(0) => Some(QUOTA_BYTES_DEFAULT),
                Ok(bytes) => Some(bytes),
                Err(_) => None,
            };
            Ok(())
        },
    ),
    flag(
        "max-request-bytes",
        "1572864",
        "Maximum client request size in bytes the server will accept.",
        |c, v| {
            c.max_request_bytes = number(v)?;
            Ok(())
        },
    ),
    flag(
        "max-txn-ops",
        "128",
        "Maximum number of compares, and of operations of a branch, in a transaction.",
        |c, v| {
            c.max_txn_ops = number(v)?;
            Ok(())
        },
    ),
    flag(
        "max-concurrent-streams",
        "4294967295",
        "Maximum concurrent streams that each client can open at a time.",
        |c, v| {
            c.max_concurrent_streams = number(v)?;
            Ok(())
        },
    ),
    flag(
        "grpc-keepalive-interval",
        "2h0m0s",
        "Frequency of server-to-client pings to check if a connection is alive (0 to disable).",
        |c, v| {
            c.grpc_keepalive_interval = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "grpc-keepalive-timeout",
        "20s",
        "Additional duration of wait before closing a non-responsive connection (0 to disable).",
        |c, v| {
            c.grpc_keepalive_timeout = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "watch-progress-notify-interval",
        "0s",
        "Interval of periodic watch progress notifications (0: 10m, at least 100ms).",
        |c, v| {
            let interval = duration(v)?;
            c.watch_progress_notify_interval = if interval.is_zero() {
                Duration::from_secs(600)
            } else {
                interval.max(Duration::from_millis(100))
            };
            Ok(())
        },
    ),
    flag(
        "compaction-batch-limit",
        "0",
        "Maximum revisions deleted in each compaction batch (0: 1000).",
        |c, v| {
            let limit: usize = number(v)?;
            c.compaction_batch_limit = if limit == 0 { 1000 } else { limit };
            Ok(())
        },
    ),
    flag(
        "compaction-sleep-interval",
        "0s",
        "Sleep interval between compaction batches (0: 10ms).",
        |c, v| {
            let pause = duration(v)?;
            c.compaction_sleep_interval = if pause.is_zero() { Duration::from_millis(10) } else { pause };
            Ok(())
        },
    ),
    flag(
        "backend-cache-bytes",
        "33554432",
        "Memory for cached blocks of the state, in bytes (etcd-rs's own).",
        |c, v| {
            c.cache_bytes = number(v)?;
            Ok(())
        },
    ),
    flag("logger", "zap", "Only 'zap', etcd's name for structured lines, is known.", |_, v| {
        if v == "zap" { Ok(()) } else { Err(format!("unknown logger option {v:?}")) }
    }),
    flag("log-outputs", "default", "'default', 'stderr' or 'stdout'.", |c, v| {
        c.log_output = match v {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            _ => return Err(format!("log output {v:?} is not supported by this version")),
        };
        Ok(())
    }),
    flag("log-level", "info", "Only supports debug, info, warn, error, panic, or fatal.", |c, v| {
        c.log_level = match v {
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" => LevelFilter::WARN,
            "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
            _ => return Err(format!("unrecognized level: {v:?}")),
        };
        Ok(())
    }),
    flag("log-format", "json", "Configures log format; 'json' or 'console'.", |c, v| {
        c.log_format = match v {
            "json" => LogFormat::Json,
            "console" => LogFormat::Console,
            _ => return Err(format!("unknown log format: {v}, supported values json, console")),
        };
        Ok(())
    }),
];

/// Reads the arguments and environment of this process; speaks to the user where that is all there is to do.
#[must_use]
pub fn from_process() -> Launch {
    let environment: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")).collect();
    match parse(std::env::args().skip(1), &environment) {
        Ok(Parsed::Config(config)) => Launch::Run(config),
        Ok(Parsed::Say(text)) => {
            println!("{}", text.trim_end());
            Launch::Done(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            eprintln!("{}", refusal.text);
            Launch::Done(ExitCode::from(refusal.code))
        }
    }
}

enum Parsed {
    Config(Box<Config>),
    Say(String),
}

/// A message and the exit code that goes with it.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    text: String,
    code: u8,
}

impl Refusal {
    fn usage(text: impl Into<String>) -> Self {
        Self { text: format!("{}\nSee 'etcd-rs --help'.", text.into()), code: 2 }
    }

    fn startup(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }
}

fn parse(args: impl Iterator<Item = String>, environment: &[(String, String)]) -> Result<Parsed, Refusal> {
    let args = std::iter::once("etcd-rs".to_owned()).chain(args.map(doubled_dash));
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Parsed::Say(error.to_string())),
        Err(error) => return Err(refusal(&error)),
    };
    if matches.get_flag("version") {
        return Ok(Parsed::Say(version()));
    }
    configure(&matches, environment).map(|config| Parsed::Config(Box::new(config)))
}

/// Go takes `-name` for `--name`.
fn doubled_dash(arg: String) -> String {
    match arg.strip_prefix('-') {
        Some(rest) if rest.len() > 1 && !rest.starts_with('-') => format!("-{arg}"),
        _ => arg,
    }
}

fn command() -> Command {
    let mut command = Command::new("etcd-rs")
        .about("A member of an etcd v3 cluster.")
        .after_help("Every flag has a variable: ETCD_ and its name in capitals, '-' as '_'. Flags take one dash or two.")
        .disable_version_flag(true)
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Print the version and exit."));
    for flag in FLAGS {
        let help = if flag.default.is_empty() {
            flag.help.to_owned()
        } else {
            format!("{} [default: {}]", flag.help, flag.default)
        };
        command = command.arg(
            Arg::new(flag.name)
                .long(flag.name)
                .value_name("VALUE")
                .allow_hyphen_values(true)
                .action(ArgAction::Append)
                .help(help),
        );
    }
    command
}

fn version() -> String {
    format!(
        "etcd-rs Version: {}\netcd Version: {ETCD_VERSION}\nGit SHA: {}\nRust OS/Arch: {}/{}",
        env!("CARGO_PKG_VERSION"),
        option_env!("ETCD_RS_GIT_SHA").unwrap_or("unknown"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

fn refusal(error: &clap::Error) -> Refusal {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        _ => String::new(),
    };
    let name = argument.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            Refusal::usage(format!("flag provided but not defined: -{name}"))
        }
        ErrorKind::UnknownArgument => Refusal::startup(format!("{argument:?} is not a valid flag")),
        ErrorKind::InvalidValue => Refusal::usage(format!("flag needs an argument: -{name}")),
        _ => Refusal::usage(error.to_string().trim_end()),
    }
}

fn configure(matches: &ArgMatches, environment: &[(String, String)]) -> Result<Config, Refusal> {
    let mut config = Config::default();
    let mut named: Vec<&str> = Vec::new();
    for flag in FLAGS {
        let variable = format!("ETCD_{}", flag.name.to_uppercase().replace('-', "_"));
        let from_env =
            environment.iter().find(|(name, value)| *name == variable && !value.is_empty()).map(|(_, v)| v);
        // The last of several wins, as in Go.
        let typed = matches.get_many::<String>(flag.name).and_then(Iterator::last);
        let (value, source) = match (typed, from_env) {
            (Some(_), Some(_)) => {
                return Err(Refusal::startup(format!(
                    "conflicting environment variable {variable:?} is shadowed by corresponding command-line flag \
                     (either unset environment variable or disable flag)"
                )));
            }
            (Some(value), None) => (value, format!("flag -{}", flag.name)),
            (None, Some(value)) => (value, variable),
            (None, None) => continue,
        };
        named.push(flag.name);
        (flag.set)(&mut config, value).map_err(|why| Refusal {
            text: format!("invalid value {value:?} for {source}: {why}"),
            code: if typed.is_some() { 2 } else { 1 },
        })?;
    }
    derive(&mut config, &named)?;
    config.check().map_err(|error| Refusal::startup(error.to_string()))?;
    Ok(config)
}

/// What follows from the flags that were, and were not, given.
fn derive(config: &mut Config, named: &[&str]) -> Result<(), Refusal> {
    if !named.contains(&"data-dir") {
        config.data_dir = PathBuf::from(format!("{}.etcd", config.name));
    }
    if named.contains(&"listen-client-urls") && !named.contains(&"advertise-client-urls") {
        return Err(Refusal::startup(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    if !named.contains(&"initial-cluster") {
        let members: Vec<String> =
            config.initial_advertise_peer_urls.iter().map(|url| format!("{}={url}", config.name)).collect();
        if config.name != "default" {
            config.initial_cluster = members.join(",");
        }
    }
    Ok(())
}

/// URLs separated by commas, sorted and each once.
fn urls(value: &str) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> = Url::parse_list(value.split(','))?.iter().map(Url::to_string).collect();
    urls.dedup();
    Ok(urls)
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| "parse error".to_owned())
}

/// A duration in Go's notation, such as `1h30m` or `250ms`.
fn duration(value: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {value:?}");
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = value;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let count: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        total += count * seconds;
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, Refusal> {
        let environment: Vec<_> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match parse(args.iter().map(|arg| (*arg).to_owned()), &environment)? {
            Parsed::Config(config) => Ok(*config),
            Parsed::Say(text) => Err(Refusal { text, code: 0 }),
        }
    }

    #[test]
    fn every_flag_takes_its_default() {
        for flag in FLAGS {
            let mut config = Config::default();
            assert_eq!((flag.set)(&mut config, flag.default), Ok(()), "--{}", flag.name);
        }
    }

    #[test]
    fn one_dash_or_two_and_an_equals_sign_or_none() {
        for args in [["--name", "a"].as_slice(), &["-name", "a"], &["--name=a"], &["-name=a"]] {
            let config = run(args, &[]).unwrap();
            assert_eq!((config.name.as_str(), config.data_dir.to_str().unwrap()), ("a", "a.etcd"));
            assert_eq!(config.initial_cluster, "a=http://localhost:2380");
        }
    }

    #[test]
    fn an_unknown_flag_and_a_stray_word_are_refused_as_by_etcd() {
        let unknown = run(&["--bogus"], &[]).unwrap_err();
        assert!(unknown.text.starts_with("flag provided but not defined: -bogus"), "{}", unknown.text);
        assert_eq!(unknown.code, 2);
        assert_eq!(run(&["extra"], &[]).unwrap_err(), Refusal::startup("\"extra\" is not a valid flag"));
        assert_eq!(run(&["--heartbeat-interval", "x"], &[]).unwrap_err().code, 2);
    }

    #[test]
    fn variables_count_unless_the_flag_is_given_too() {
        let environment = [("ETCD_QUOTA_BACKEND_BYTES", "-1"), ("ETCD_NAME", "")];
        assert_eq!(run(&[], &environment).unwrap().quota_backend_bytes, None);
        let both = run(&["--quota-backend-bytes=5"], &environment).unwrap_err();
        assert!(both.text.starts_with("conflicting environment variable \"ETCD_QUOTA_BACKEND_BYTES\""));
        assert_eq!(both.code, 1);
    }

    #[test]
    fn listening_elsewhere_needs_something_to_advertise() {
        let refused = run(&["--listen-client-urls=http://127.0.0.1:0"], &[]).unwrap_err();
        assert_eq!(
            refused.text,
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        );
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("2h0m0s", 7_200_000), ("250ms", 250), ("1.5s", 1500), ("0", 0), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "5x", "s", "-1s"] {
            assert_eq!(duration(text), Err(format!("time: invalid duration {text:?}")), "{text}");
        }
    }
}
