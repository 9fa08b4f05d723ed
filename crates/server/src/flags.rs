//! What the user asks for: etcd's flags, its `ETCD_*` variables, and its configuration file.
//!
//! The flags are one table: name, default as shown, help, and what a value does to the [`Config`]. They take one dash or two,
//! `--name value` or `--name=value`, as Go's do; clap reads the words, after single dashes have been doubled for it. A flag and
//! its variable together are refused, as by etcd, and a configuration file ([`file`]) replaces them all. Only flags of things
//! that exist are known; any other is a clear error rather than a promise that is not kept.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "help, version and refusals are spoken to the user"
)]

mod auth;
mod cluster;
mod discovery;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod house;
mod remark;
mod table;
mod tls;
mod unneeded;
mod value;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::Config;
use crate::url::Url;
use remark::Remark;
pub use remark::Remarks;
use table::Kind;
pub(crate) use value::duration as go_duration;

/// What the command line asks for.
#[derive(Debug)]
pub enum Launch {
    /// Run a member.
    Run(Box<Config>, Remarks),
    /// Everything has been said already; leave with this code.
    Done(ExitCode),
}

/// etcd's version whose API and behaviour this is; clients and tools decide by it what they may ask.
pub const ETCD_VERSION: &str = "3.7.1";

/// Reads the arguments and environment of this process; speaks to the user where that is all there is to do.
#[must_use]
pub fn from_process() -> Launch {
    let environment: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")).collect();
    match parse(std::env::args().skip(1), &environment) {
        Ok(Parsed::Config(config, remarks)) => Launch::Run(config, remarks),
        Ok(Parsed::Say(text)) => {
            println!("{}", text.trim_end());
            Launch::Done(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            refusal.say();
            Launch::Done(ExitCode::from(refusal.code))
        }
    }
}

enum Parsed {
    Config(Box<Config>, Remarks),
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

    fn bad_value(text: String) -> Self {
        Self { text, code: 2 }
    }

    /// Tells whoever typed a flag on the terminal, and whoever reads the log of all else.
    fn say(&self) {
        if self.code == 2 {
            eprintln!("{}", self.text);
        } else {
            crate::logging::init(&Config::default());
            tracing::warn!(error = self.text, "failed to verify flags");
        }
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
    configure(&matches, environment).map(|(config, remarks)| Parsed::Config(Box::new(config), remarks))
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
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Print the version and exit."))
        .arg(
            Arg::new("config-file")
                .long("config-file")
                .value_name("VALUE")
                .allow_hyphen_values(true)
                .action(ArgAction::Append)
                .help("Path to a configuration file; all other flags and variables are ignored then."),
        );
    for flag in table::all() {
        let help = if flag.default.is_empty() {
            flag.help.to_owned()
        } else {
            format!("{} [default: {}]", flag.help, flag.default)
        };
        let arg =
            Arg::new(flag.name).long(flag.name).value_name("VALUE").action(ArgAction::Append).help(help);
        command = command.arg(match flag.kind {
            Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => arg.allow_hyphen_values(true),
        });
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

fn configure(matches: &ArgMatches, environment: &[(String, String)]) -> Result<(Config, Remarks), Refusal> {
    let mut remarks = Remarks::default();
    let (mut config, mut named) = (Config::default(), Vec::new());
    for flag in table::all() {
        // The last of several wins, as in Go.
        let Some(value) = matches.get_many::<String>(flag.name).and_then(Iterator::last) else { continue };
        (flag.set)(&mut config, value).map_err(|why| {
            let kind = if flag.kind == Kind::Switch { "boolean value" } else { "value" };
            Refusal::bad_value(format!("invalid {kind} {value:?} for flag -{}: {why}", flag.name))
        })?;
        named.push(flag.name);
    }
    let typed = matches.get_many::<String>("config-file").and_then(Iterator::last);
    let from_file = typed.filter(|path| !path.is_empty()).or_else(|| variable(environment, CONFIG_FILE));
    if let Some(path) = from_file {
        (config, named) = file::read(path).map_err(Refusal::startup)?;
        remarks.push(Remark::FromFile(path.into()));
    } else {
        apply_variables(&mut config, &mut named, environment, &mut remarks)?;
        if named.contains(&"listen-client-urls") && !named.contains(&"advertise-client-urls") {
            return Err(Refusal::startup(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ));
        }
    }
    derive(&mut config, &named, &mut remarks);
    config.check().map_err(|error| Refusal::startup(error.to_string()))?;
    Ok((config, remarks))
}

const CONFIG_FILE: &str = "ETCD_CONFIG_FILE";

/// The variable of a flag.
fn variable_name(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

/// The value of a variable; an empty one counts as none.
fn variable<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a String> {
    environment.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value)
}

fn apply_variables(
    config: &mut Config,
    named: &mut Vec<&'static str>,
    environment: &[(String, String)],
    remarks: &mut Remarks,
) -> Result<(), Refusal> {
    for flag in table::all() {
        let name = variable_name(flag.name);
        let Some(value) = variable(environment, &name) else { continue };
        if named.contains(&flag.name) {
            return Err(Refusal::startup(format!(
                "conflicting environment variable {name:?} is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag)"
            )));
        }
        (flag.set)(config, value)
            .map_err(|why| Refusal::startup(format!("invalid value {value:?} for {name}: {why}")))?;
        named.push(flag.name);
        remarks.push(Remark::Used { name, value: value.clone() });
    }
    let known: Vec<String> = table::all().map(|flag| variable_name(flag.name)).collect();
    for (name, value) in environment.iter().filter(|(name, _)| !known.contains(name) && name != CONFIG_FILE) {
        remarks.push(Remark::Unrecognized { name: name.clone(), value: value.clone() });
    }
    Ok(())
}

/// The address from which this host would speak to the world, if it has a default route.
fn default_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // This sends nothing; it only asks the kernel for a route to some address that is not ours.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let host = socket.local_addr().ok()?.ip();
    (!host.is_loopback()).then_some(host)
}

/// Who listens on every address and still has the default to advertise advertises `host` instead. Whether anything changed.
fn advertise_by_default(config: &mut Config, default: &Config, host: IpAddr) -> bool {
    let mut changed = false;
    for (listened, advertised, default) in [
        (
            &config.listen_peer_urls,
            &mut config.initial_advertise_peer_urls,
            &default.initial_advertise_peer_urls,
        ),
        (&config.listen_client_urls, &mut config.advertise_client_urls, &default.advertise_client_urls),
    ] {
        if let Some(Ok(first)) = listened.first().map(|url| Url::parse(url))
            && first.host() == "0.0.0.0"
            && advertised == default
        {
            *advertised = vec![format!("http://{host}:{}", first.port())];
            changed = true;
        }
    }
    changed
}

/// What follows from the flags that were, and were not, given.
fn derive(config: &mut Config, named: &[&str], remarks: &mut Remarks) {
    if !named.contains(&"data-dir") || config.data_dir.as_os_str().is_empty() {
        config.data_dir = PathBuf::from(format!("{}.etcd", config.name));
        remarks.push(Remark::DefaultDataDir(config.data_dir.clone()));
    }
    for name in named {
        if let Some(why) = unneeded::reason(name) {
            remarks.push(Remark::Unneeded { flag: (*name).to_owned(), why });
        }
    }
    let default = Config::default();
    if let Some(host) = default_host()
        && advertise_by_default(config, &default, host)
    {
        remarks.push(Remark::DefaultHost(host));
    }
    if config.discovery.is_set() && config.initial_cluster == default.initial_cluster {
        config.initial_cluster.clear();
    }
    if config.name == default.name {
        remarks.push(Remark::DefaultName);
    } else if config.initial_cluster == default.initial_cluster {
        let members: Vec<String> =
            config.initial_advertise_peer_urls.iter().map(|url| format!("{}={url}", config.name)).collect();
        config.initial_cluster = members.join(",");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, Refusal> {
        let environment: Vec<_> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match parse(args.iter().map(|arg| (*arg).to_owned()), &environment)? {
            Parsed::Config(config, _) => Ok(*config),
            Parsed::Say(text) => Err(Refusal { text, code: 0 }),
        }
    }

    fn remarks(args: &[&str], environment: &[(&str, &str)]) -> Remarks {
        let environment: Vec<_> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match parse(args.iter().map(|arg| (*arg).to_owned()), &environment).unwrap() {
            Parsed::Config(_, remarks) => remarks,
            Parsed::Say(text) => panic!("{text}"),
        }
    }

    #[test]
    fn every_flag_takes_its_default() {
        for flag in table::all() {
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
    fn switches_are_on_when_named_and_take_a_value_only_behind_an_equals_sign() {
        assert!(run(&["--force-new-cluster"], &[]).unwrap().force_new_cluster);
        assert!(run(&["-force-new-cluster=T"], &[]).unwrap().force_new_cluster);
        assert!(!run(&["--force-new-cluster=false"], &[]).unwrap().force_new_cluster);
        assert!(run(&[], &[("ETCD_FORCE_NEW_CLUSTER", "true")]).unwrap().force_new_cluster);
        assert_eq!(
            run(&["--force-new-cluster", "false"], &[]).unwrap_err(),
            Refusal::startup("\"false\" is not a valid flag")
        );
        assert_eq!(
            run(&["--force-new-cluster=x"], &[]).unwrap_err().text,
            "invalid boolean value \"x\" for flag -force-new-cluster: parse error"
        );
    }

    #[test]
    fn a_bad_url_is_a_bad_value_of_its_flag() {
        let refused = run(&["--listen-peer-urls=http://a"], &[]).unwrap_err();
        assert_eq!(
            refused.text,
            "invalid value \"http://a\" for flag -listen-peer-urls: \
             URL address does not have the form \"host:port\": http://a"
        );
        assert_eq!(refused.code, 2);
        let refused = run(&[], &[("ETCD_INITIAL_CLUSTER_STATE", "old")]).unwrap_err();
        assert_eq!(
            refused,
            Refusal::startup("invalid value \"old\" for ETCD_INITIAL_CLUSTER_STATE: invalid value \"old\"")
        );
    }

    #[test]
    fn a_file_is_the_whole_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.yml");
        std::fs::write(&path, "name: filed\nlisten-client-urls: http://127.0.0.1:1\n").unwrap();
        let path = path.to_str().unwrap();
        for (args, environment) in [
            (vec!["--config-file", path, "--name=typed"], vec![("ETCD_DATA_DIR", "elsewhere")]),
            (vec![], vec![("ETCD_CONFIG_FILE", path), ("ETCD_NAME", "variable"), ("ETCD_MAX_TXN_OPS", "x")]),
        ] {
            let config = run(&args, &environment).unwrap();
            assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("filed", Some("filed.etcd")));
            assert_eq!(config.initial_cluster, "filed=http://localhost:2380");
            // The command line would have to say what to advertise.
            assert_eq!(config.advertise_client_urls, ["http://localhost:2379"]);
            assert!(remarks(&args, &environment).contains(&Remark::FromFile(path.into())));
        }
        let missing = run(&["--config-file=/no/such/file"], &[]).unwrap_err();
        assert_eq!(missing, Refusal::startup("open /no/such/file: no such file or directory"));
        assert_eq!(run(&["--config-file", path, "--no-such-flag"], &[]).unwrap_err().code, 2);
    }

    #[test]
    fn variables_are_remarked_on() {
        let said = remarks(&[], &[("ETCD_MAX_TXN_OPS", "5"), ("ETCD_NONSENSE", "1")]);
        assert!(said.contains(&Remark::Used { name: "ETCD_MAX_TXN_OPS".to_owned(), value: "5".to_owned() }));
        assert!(
            said.contains(&Remark::Unrecognized { name: "ETCD_NONSENSE".to_owned(), value: "1".to_owned() })
        );
        assert!(said.contains(&Remark::DefaultName));
        assert!(said.contains(&Remark::DefaultDataDir("default.etcd".into())));
    }

    #[test]
    fn flags_that_change_nothing_are_taken_and_explained() {
        let args =
            ["--max-wals=9", "--unsafe-no-fsync", "--backend-batch-interval=1s", "--metrics=extensive"];
        let said = remarks(&args, &[("ETCD_MAX_SNAPSHOTS", "3")]);
        for flag in ["max-wals", "unsafe-no-fsync", "backend-batch-interval", "metrics", "max-snapshots"] {
            let why = unneeded::reason(flag).unwrap();
            assert!(said.contains(&Remark::Unneeded { flag: flag.to_owned(), why }), "{flag}");
        }
        assert_eq!(run(&["--max-wals=x"], &[]).unwrap_err().code, 2);
    }

    #[test]
    fn who_listens_everywhere_advertises_the_default_address() {
        let (default, host) = (Config::default(), IpAddr::from([10, 1, 2, 3]));
        let mut config =
            Config { listen_peer_urls: vec!["http://0.0.0.0:1380".to_owned()], ..Config::default() };
        assert!(advertise_by_default(&mut config, &default, host));
        assert_eq!(config.initial_advertise_peer_urls, ["http://10.1.2.3:1380"]);
        assert_eq!(config.advertise_client_urls, default.advertise_client_urls);
        // What was said, or needs no saying, stays.
        assert!(!advertise_by_default(&mut config, &default, IpAddr::from([10, 1, 2, 4])));
        assert!(!advertise_by_default(&mut Config::default(), &default, host));
    }
}
