//! From answers to text: one module per format.
//!
//! Every format takes an [`Answer`] and writes into a buffer; which answers a format knows is its own business, and what it
//! does not know it refuses. A refusal comes after the request, as in etcdctl: by then a `put` has been done.

mod fields;
mod json;
mod protobuf;
mod simple;
mod size;
mod table;

use std::time::Duration;

use api::MemberId;
use api::etcdserverpb::{
    AlarmResponse, AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse, AuthUserGetResponse,
    AuthUserListResponse, DeleteRangeResponse, DowngradeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse,
    MoveLeaderResponse, PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse,
    WatchResponse,
};

use crate::failure::{Failure, Outcome};
use crate::go;

pub(crate) use json::string as json_string;
pub(crate) use simple::{interval, prefix_end};
pub(crate) use size::si;

/// The values of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Json,
    Fields,
    Table,
    Protobuf,
}

impl Format {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "simple" => Some(Self::Simple),
            "json" => Some(Self::Json),
            "fields" => Some(Self::Fields),
            "table" => Some(Self::Table),
            "protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// Everything that can be printed.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Get(&'a RangeResponse),
    Put(&'a PutResponse),
    Delete(&'a DeleteRangeResponse),
    Txn(&'a TxnResponse),
    Watch(&'a WatchResponse),
    /// The server would not create the watch; why is told as an error.
    WatchRefused,
    LeaseGrant(&'a LeaseGrantResponse),
    LeaseRevoke(&'a LeaseRevokeResponse, i64),
    LeaseTimeToLive(&'a LeaseTimeToLiveResponse, ShowKeys),
    LeaseKeepAlive(&'a LeaseKeepAliveResponse),
    LeaseList(&'a LeaseLeasesResponse),
    Members(&'a MemberListResponse),
    MemberAdd(&'a MemberAddResponse),
    MemberRemove(&'a MemberRemoveResponse, MemberId),
    MemberUpdate(&'a MemberUpdateResponse, MemberId),
    MemberPromote(&'a MemberPromoteResponse, MemberId),
    MoveLeader {
        response: &'a MoveLeaderResponse,
        from: MemberId,
        to: MemberId,
    },
    Health(&'a [Health]),
    Status(&'a [(String, StatusResponse)]),
    HashKv(&'a [(String, HashKvResponse)]),
    Alarms(&'a AlarmResponse),
    AuthStatus(&'a AuthStatusResponse),
    /// A user or role was changed; the answer is a header alone. Simple says this line.
    AccessChanged(Option<&'a ResponseHeader>, &'a str),
    User(&'a AuthUserGetResponse, &'a str),
    Users(&'a AuthUserListResponse),
    Role(&'a AuthRoleGetResponse, &'a str),
    Roles(&'a AuthRoleListResponse),
    /// What was asked, and the answer.
    Downgrade(&'a str, &'a DowngradeResponse),
    SnapshotStatus(&'a SnapshotStatus),
}

/// Whether the keys of a lease were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShowKeys {
    Yes,
    No,
}

/// What `endpoint health` found out about an endpoint; it is healthy if there is no error.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
}

impl Health {
    fn took(&self) -> String {
        go::Duration::from(self.took).to_string()
    }
}

/// What is in a snapshot.
#[derive(Debug, Default)]
pub(crate) struct SnapshotStatus {
    pub(crate) hash: u32,
    pub(crate) revision: i64,
    pub(crate) total_keys: usize,
    /// Of the database in the file, in bytes.
    pub(crate) total_size: u64,
    /// Of etcd's storage; empty before 3.6.
    pub(crate) version: String,
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) hex: bool,
    /// Of keys print the values only; simple knows it.
    pub(crate) values_only: bool,
}

impl Printer {
    /// The text of an answer.
    pub(crate) fn print(&self, answer: &Answer<'_>) -> Outcome<Vec<u8>> {
        let mut text = Vec::new();
        let known = match self.format {
            Format::Simple => {
                simple::print(
                    &mut text,
                    answer,
                    simple::Style { hex: self.hex, values_only: self.values_only },
                );
                true
            }
            Format::Json => {
                text = json::print(answer, self.hex);
                true
            }
            Format::Fields => fields::print(&mut text, answer, self.hex),
            Format::Table => table::print(&mut text, answer),
            Format::Protobuf => protobuf::print(&mut text, answer)?,
        };
        if known { Ok(text) } else { Err(self.unsupported()) }
    }

    fn unsupported(&self) -> Failure {
        let name = match self.format {
            Format::Simple => "simple",
            Format::Json => "json",
            Format::Fields => "fields",
            Format::Table => "table",
            Format::Protobuf => "protobuf",
        };
        Failure::bad_feature(format!("{name} not supported as output format"))
    }
}

fn header(header: Option<&ResponseHeader>) -> ResponseHeader {
    header.copied().unwrap_or_default()
}

fn alarm_name(alarm: i32) -> String {
    match alarm {
        0 => "NONE".to_owned(),
        1 => "NOSPACE".to_owned(),
        2 => "CORRUPT".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
