//! Flags of etcd's that are taken, so that its command lines work, and change nothing here. Each says why, in the help and in the log.

use super::table::{Flag, Kind, flag};
use super::value::{boolean, duration, number};
use crate::config::Config;

fn any_number(_: &mut Config, value: &str) -> Result<(), String> {
    number::<i64>(value).map(drop)
}

fn any_count(_: &mut Config, value: &str) -> Result<(), String> {
    number::<u64>(value).map(drop)
}

fn any_switch(_: &mut Config, value: &str) -> Result<(), String> {
    boolean(value).map(drop)
}

const WALS: &str = "No effect: the log is kept in tables of its own, and is cut when a snapshot of the state has made it superfluous.";
const SNAPSHOTS: &str = "No effect: a member keeps no snapshots beside its state.";
const BATCHES: &str = "No effect: each batch of entries is one write to the state, and visible at once.";
const FREELIST: &str = "No effect: there is no bbolt here.";
const DEFRAG: &str = "No effect: space is given back in the background.";
const MLOCK: &str = "No effect: memory is not locked.";
const FSYNC: &str = "No effect: what is answered is always synced.";
const METRICS: &str =
    "Only 'basic' has an effect: the histograms that 'extensive' adds in etcd are not there.";

pub(super) const FLAGS: &[Flag] = &[
    flag("max-wals", Kind::Number("uint"), "5", WALS, any_count),
    flag("max-snapshots", Kind::Number("uint"), "5", SNAPSHOTS, any_count),
    flag("backend-batch-limit", Kind::Number("int"), "0", BATCHES, any_number),
    flag("backend-batch-interval", Kind::Duration, "0s", BATCHES, |_, v| duration(v).map(drop)),
    flag("backend-bbolt-freelist-type", Kind::Text, "map", FREELIST, |_, _| Ok(())),
    flag("bootstrap-defrag-threshold-megabytes", Kind::Number("uint"), "0", DEFRAG, any_count),
    flag("memory-mlock", Kind::Switch, "false", MLOCK, any_switch),
    flag("unsafe-no-fsync", Kind::Switch, "false", FSYNC, any_switch),
    flag("metrics", Kind::Text, "basic", METRICS, |_, v| match v {
        "basic" | "extensive" => Ok(()),
        _ => Err("must be basic or extensive".to_owned()),
    }),
];

/// Why a flag changes nothing, if it is one of these.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    FLAGS.iter().find(|flag| flag.name == name).map(|flag| flag.help)
}
