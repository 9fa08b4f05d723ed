//! The flags every command takes, their environment variables, and the client they describe.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use client::{Client, ConnectOptions, TlsOptions};

use crate::discovery;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, Parsed};
use crate::go;
use crate::output::err_line;
use crate::printer::Format;
use crate::prompt;

/// The flags every command takes, in the order `options` lists them.
pub(crate) static FLAGS: [Flag; 21] = [
    Flag::string("auth-jwt-token", "", "present this JWT instead of logging in with a name and password"),
    Flag::string("cacert", "", "trust servers whose certificate this CA bundle vouches for"),
    Flag::string("cert", "", "identify this client with this TLS certificate file"),
    Flag::new("command-timeout", Kind::Duration, "5s", "how long a short command may take"),
    Flag::bool("debug", "show the global options in effect, and more of what happens"),
    Flag::new("dial-timeout", Kind::Duration, "2s", "how long connecting and logging in may take"),
    Flag::string("discovery-srv", "", "find endpoints in the SRV records of this domain").short('d'),
    Flag::string("discovery-srv-name", "", "name of the service in those records"),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "where the members listen for clients"),
    Flag::bool("hex", "write keys and values as hexadecimal bytes"),
    Flag::new("insecure-discovery", Kind::Bool, "true", "accept discovered endpoints that do not use TLS"),
    Flag::bool(
        "insecure-skip-tls-verify",
        "do not verify the server's certificate (CAUTION: for tests only)",
    ),
    Flag::new("insecure-transport", Kind::Bool, "true", "talk without TLS when nothing asks for it"),
    Flag::new("keepalive-time", Kind::Duration, "2s", "probe a connection that was silent for so long"),
    Flag::new("keepalive-timeout", Kind::Duration, "6s", "give a connection up when a probe took so long"),
    Flag::string("key", "", "the key of the TLS certificate"),
    Flag::int("max-recv-bytes", "largest answer accepted, in bytes (0 for no limit)"),
    Flag::int("max-request-bytes", "largest request sent, in bytes (0 for 2 MiB)"),
    Flag::string("password", "", "password (--user is then the name alone)"),
    Flag::string("user", "", "name[:password] to log in with (asked for if the password is missing)"),
    Flag::string("write-out", "simple", "format of the output (fields, json, protobuf, simple, table)")
        .short('w'),
];

/// What a command knows of its surroundings: the global flags, from the command line and the environment.
#[derive(Debug)]
pub(crate) struct Globals {
    parsed: Parsed,
    pub(crate) format: Format,
}

/// `ETCDCTL_*`, as the process was given them.
pub(crate) type Environment = BTreeMap<String, String>;

/// The variables of the process that are meant for this program.
pub(crate) fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Environment {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with("ETCDCTL_"))
        .collect()
}

fn variable(flag: &Flag) -> String {
    format!("ETCDCTL_{}", flag.name.to_ascii_uppercase().replace('-', "_"))
}

/// Fills in, from the environment, the flags in `inherited` that were not given.
///
/// A flag and its variable together are refused, not ranked. A variable that does not parse is passed over, and one nobody
/// knows is pointed out, except for `known` and for `ETCDCTL_API=3`, which every script from the days of two APIs sets.
pub(crate) fn adopt_environment(
    parsed: &mut Parsed,
    inherited: &[&'static Flag],
    environment: &Environment,
    known: &[&str],
) -> Outcome {
    for flag in inherited {
        let name = variable(flag);
        let Some(value) = environment.get(&name) else { continue };
        if parsed.is_set(flag.name) {
            err_line(log_line(
                "fatal",
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag))",
                &name,
            ));
            return Err(Failure::silent(1));
        }
        if !value.is_empty() && flag.check(value).is_ok() {
            parsed.adopt(flag, value.clone());
        }
    }
    for (name, value) in environment {
        let understood = inherited.iter().any(|flag| variable(flag) == *name)
            || known.contains(&name.as_str())
            || (name == "ETCDCTL_API" && value == "3");
        if !understood {
            err_line(log_line("warn", "unrecognized environment variable", &format!("{name}={value}")));
        }
    }
    Ok(())
}

fn log_line(level: &str, message: &str, variable: &str) -> String {
    let quoted = |text: &str| crate::printer::json_string(text);
    format!(
        "{{\"level\":{},\"msg\":{},\"environment-variable\":{}}}",
        quoted(level),
        quoted(message),
        quoted(variable)
    )
}

impl Globals {
    /// Reads the global flags of a command line that has met the environment.
    pub(crate) fn new(parsed: &Parsed) -> Outcome<Self> {
        let mut globals = Self { parsed: parsed.clone(), format: Format::Simple };
        if globals.parsed.on("debug") {
            globals.show();
        }
        globals.refuse_empty_files()?;
        globals.format = Format::parse(globals.value("write-out"))
            .ok_or_else(|| Failure::bad_feature("unsupported output format"))?;
        Ok(globals)
    }

    pub(crate) fn hex(&self) -> bool {
        self.parsed.on("hex")
    }

    /// The endpoints as given: an empty list of them is possible.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        match self.value("endpoints") {
            "" => Vec::new(),
            list => list.split(',').map(str::to_owned).collect(),
        }
    }

    pub(crate) fn command_timeout(&self) -> Duration {
        self.duration("command-timeout")
    }

    /// The same, for requests that may take as long as they do unless somebody said otherwise.
    pub(crate) fn explicit_timeout(&self) -> Option<Duration> {
        self.parsed.is_set("command-timeout").then(|| self.command_timeout())
    }

    /// A client for all endpoints.
    pub(crate) async fn connect(&self) -> Outcome<Client> {
        let mut endpoints = self.discovered().await?;
        if endpoints.is_empty() {
            endpoints = self.endpoints().iter().map(|endpoint| endpoint.trim().to_owned()).collect();
        }
        self.connect_to(endpoints).await
    }

    /// A client for these endpoints.
    pub(crate) async fn connect_to(&self, endpoints: Vec<String>) -> Outcome<Client> {
        let mut options = ConnectOptions::new(endpoints)
            .connect_timeout(self.duration("dial-timeout"))
            .ready_timeout(None)
            .keepalive_time(Some(self.duration("keepalive-time")).filter(|time| !time.is_zero()))
            .keepalive_timeout(self.duration("keepalive-timeout"));
        let (send, recv) = self.message_limits()?;
        options = options.max_send_bytes(send).max_recv_bytes(recv);
        if let Some(tls) = self.tls()? {
            options = options.tls(tls);
        }
        match (self.value("auth-jwt-token"), self.credentials()?) {
            ("", Some((name, password))) => options = options.user(name, password),
            ("", None) => {}
            (token, _) => options = options.token(token),
        }
        Client::connect(options).await.map_err(|error| match error {
            client::Error::Tls(_) => Failure::bad_args(error),
            error => Failure::bad_connection(error),
        })
    }

    /// What `--discovery-srv` finds, if it is given.
    async fn discovered(&self) -> Outcome<Vec<String>> {
        let domain = self.value("discovery-srv");
        if domain.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = discovery::endpoints(domain, self.value("discovery-srv-name")).await?;
        if !self.insecure_discovery() {
            found.retain(|endpoint| {
                let secure = endpoint.starts_with("https://");
                if !secure {
                    err_line(format!("ignoring discovered insecure endpoint {endpoint:?}"));
                }
                secure
            });
        }
        Ok(found)
    }

    fn insecure_discovery(&self) -> bool {
        go::parse_bool(self.value("insecure-discovery")) != Ok(false)
    }

    fn message_limits(&self) -> Outcome<(usize, Option<usize>)> {
        let limit = |name| usize::try_from(self.parsed.int(name)).ok().filter(|&limit| limit > 0);
        let (send, recv) = (limit("max-request-bytes").unwrap_or(2 << 20), limit("max-recv-bytes"));
        match recv {
            Some(recv) if send > recv => Err(Failure::bad_connection(format!(
                "gRPC message recv limit ({recv} bytes) must be greater than send limit ({send} bytes)"
            ))),
            _ => Ok((send, recv)),
        }
    }

    /// The name and password to log in with, if there are any; asks for a missing password.
    fn credentials(&self) -> Outcome<Option<(String, String)>> {
        let user = self.value("user");
        if user.is_empty() || !self.value("auth-jwt-token").is_empty() {
            return Ok(None);
        }
        let (name, password) = match self.parsed.get("password") {
            Some(password) if !password.is_empty() => (user, password.to_owned()),
            _ => match user.split_once(':') {
                Some((name, password)) => (name, password.to_owned()),
                None => (
                    user,
                    prompt::ask("Password: ").map_err(|error| {
                        Failure::bad_connection(format!("failed to ask password: {error}"))
                    })?,
                ),
            },
        };
        Ok(Some((name.to_owned(), password))
            .filter(|(name, password)| !name.is_empty() && !password.is_empty()))
    }

    /// What the flags say of TLS, if they ask for it. An endpoint with `https://` gets it without any.
    fn tls(&self) -> Outcome<Option<TlsOptions>> {
        let file = |name| Some(self.value(name)).filter(|file| !file.is_empty());
        let (ca, cert, key) = (file("cacert"), file("cert"), file("key"));
        // Whoever does not trust the records must be sure to be led to their domain.
        let server_name = Some(self.value("discovery-srv"))
            .filter(|domain| !domain.is_empty() && !self.insecure_discovery());
        let skip_verify = self.parsed.on("insecure-skip-tls-verify");
        let asked = ca.is_some()
            || cert.is_some()
            || key.is_some()
            || skip_verify
            || server_name.is_some()
            || go::parse_bool(self.value("insecure-transport")) == Ok(false);
        if !asked {
            return Ok(None);
        }
        let mut tls = TlsOptions::new().insecure_skip_verify(skip_verify);
        if let Some(ca) = ca {
            tls = tls.ca_file(ca);
        }
        if let Some(name) = server_name {
            tls = tls.server_name(name);
        }
        match (cert, key) {
            (Some(cert), Some(key)) => tls = tls.certificate_files(cert, key),
            (None, None) => {}
            (cert, key) => {
                return Err(Failure::bad_args(format!(
                    "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                    key.unwrap_or(""),
                    cert.unwrap_or("")
                )));
            }
        }
        Ok(Some(tls))
    }

    fn refuse_empty_files(&self) -> Outcome {
        match ["cert", "key", "cacert"].iter().find(|name| self.parsed.get(name) == Some("")) {
            Some(name) => Err(Failure::bad_args(format!("empty string is passed to --{name} option"))),
            None => Ok(()),
        }
    }

    fn show(&self) {
        for flag in &FLAGS {
            let value = match flag.kind {
                Kind::List => format!("[{}]", self.value(flag.name)),
                Kind::Bool | Kind::Int | Kind::Duration | Kind::String => self.value(flag.name).to_owned(),
            };
            err_line(format!("{}={value}", variable(flag)));
        }
    }

    fn value(&self, name: &str) -> &str {
        self.parsed
            .get(name)
            .unwrap_or_else(|| FLAGS.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default))
    }

    fn duration(&self, name: &str) -> Duration {
        go::Duration::parse(self.value(name)).map_or(Duration::ZERO, go::Duration::to_std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited() -> Vec<&'static Flag> {
        FLAGS.iter().collect()
    }

    fn typed(args: &[&str]) -> Parsed {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        crate::flags::parse(&inherited(), &args).unwrap()
    }

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_variable_stands_in_for_its_flag() {
        let mut parsed = typed(&[]);
        let environment = variables(&[("ETCDCTL_ENDPOINTS", "a:1,b:2"), ("ETCDCTL_WRITE_OUT", "json")]);
        adopt_environment(&mut parsed, &inherited(), &environment, &[]).unwrap();
        let globals = Globals::new(&parsed).unwrap();
        assert_eq!(globals.endpoints(), ["a:1", "b:2"]);
        assert_eq!(globals.format, Format::Json);
    }

    #[test]
    fn a_variable_and_its_flag_together_are_refused_even_if_the_variable_is_empty() {
        let mut parsed = typed(&["--endpoints", "a:1"]);
        let environment = variables(&[("ETCDCTL_ENDPOINTS", "")]);
        let refused = adopt_environment(&mut parsed, &inherited(), &environment, &[]);
        assert_eq!(refused, Err(Failure::silent(1)));
    }

    #[test]
    fn a_variable_that_does_not_parse_is_passed_over() {
        let mut parsed = typed(&[]);
        let environment = variables(&[("ETCDCTL_DIAL_TIMEOUT", "bad"), ("ETCDCTL_HEX", "maybe")]);
        adopt_environment(&mut parsed, &inherited(), &environment, &[]).unwrap();
        assert!(!parsed.is_set("dial-timeout") && !parsed.is_set("hex"));
    }

    #[test]
    fn a_name_and_password_come_from_user_or_from_both_flags() {
        let credentials = |args: &[&str]| Globals::new(&typed(args)).unwrap().credentials().unwrap();
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(credentials(&["--user", "root:a:b"]), pair("root", "a:b"));
        assert_eq!(credentials(&["--user", "root:pw", "--password", "pw"]), pair("root:pw", "pw"));
        assert_eq!(credentials(&["--password", "pw"]), None);
        assert_eq!(credentials(&["--user", ":pw"]), None);
    }

    #[test]
    fn an_unknown_format_and_an_empty_file_name_are_refused() {
        let refusal = |args: &[&str]| Globals::new(&typed(args)).map(drop).unwrap_err();
        assert_eq!(refusal(&["-w", "xml"]), Failure::bad_feature("unsupported output format"));
        assert_eq!(refusal(&["--cert", ""]), Failure::bad_args("empty string is passed to --cert option"));
    }
}
