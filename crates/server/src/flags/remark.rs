//! What is to be said of how the configuration came about, once there is a log to say it in.

use std::net::IpAddr;
use std::path::PathBuf;

/// Remarks about the configuration, for the log.
#[derive(Debug, Default)]
pub struct Remarks(Vec<Remark>);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remark {
    /// The configuration is this file's alone.
    FromFile(PathBuf),
    /// A variable took effect.
    Used { name: String, value: String },
    /// A variable that looks like ours is none.
    Unrecognized { name: String, value: String },
    /// A flag was given that changes nothing here.
    Unneeded { flag: String, why: &'static str },
    /// The member has no name of its own.
    DefaultName,
    /// The host that is advertised, because all of this one's addresses are listened on and nobody said which to advertise.
    DefaultHost(IpAddr),
    /// Nobody said where the data should be.
    DefaultDataDir(PathBuf),
}

impl Remarks {
    pub(super) fn push(&mut self, remark: Remark) {
        self.0.push(remark);
    }

    /// Writes them to the log, in etcd's words.
    pub fn log(&self) {
        for remark in &self.0 {
            remark.log();
        }
    }

    #[cfg(test)]
    pub(super) fn contains(&self, remark: &Remark) -> bool {
        self.0.contains(remark)
    }
}

impl Remark {
    fn log(&self) {
        match self {
            Self::FromFile(path) => tracing::info!(
                path = %path.display(),
                "loaded server configuration, other configuration command line flags and environment variables \
                 will be ignored if provided"
            ),
            Self::Used { name, value } => tracing::info!(
                variable_name = name,
                variable_value = value,
                "recognized and used environment variable"
            ),
            Self::Unrecognized { name, value } => tracing::warn!(
                environment_variable = format!("{name}={value}"),
                "unrecognized environment variable"
            ),
            Self::Unneeded { flag, why } => tracing::warn!(flag, why, "a flag changes nothing"),
            Self::DefaultName => tracing::warn!(
                "it isn't recommended to use default name, please set a value for --name. Please note that etcd \
                 might run into issue when multiple members have the same default name"
            ),
            Self::DefaultHost(host) => {
                tracing::info!(host = %host, "detected default host for advertise");
            }
            Self::DefaultDataDir(path) => {
                tracing::warn!(data_dir = %path.display(), "'data-dir' was empty; using default");
            }
        }
    }
}
