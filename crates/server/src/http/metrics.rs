//! `/metrics`: Prometheus text, under etcd's names where etcd has the same thing.

use std::fmt::Write as _;

use http::{Response, StatusCode};

use super::respond;
use crate::flags::ETCD_VERSION;
use crate::rpc::{Body, Rpc};

pub(super) fn serve(rpc: &Rpc) -> Response<Body> {
    respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", render(rpc))
}

/// The memory that this process holds, where the kernel tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn render(rpc: &Rpc) -> String {
    let shared = &rpc.shared;
    let raft = rpc.node.status();
    let log = rpc.node.metrics();
    let size = rpc.shared.files.get().size().map_or(0, |size| size.total_bytes);
    let mut page = Page::default();
    page.one(
        "etcd_server_has_leader",
        "gauge",
        "Whether there is a leader.",
        u64::from(raft.leader.is_some()),
    );
    page.one("etcd_server_is_leader", "gauge", "Whether this member leads.", u64::from(raft.is_leader));
    let own = shared.members.get(shared.member_id.get());
    let is_learner = own.is_some_and(|member| member.is_learner);
    page.one("etcd_server_is_learner", "gauge", "Whether this member is a learner.", u64::from(is_learner));
    page.one(
        "etcd_server_leader_changes_seen_total",
        "counter",
        "How often another leader was seen.",
        log.leader_changes,
    );
    network(&mut page, &shared.member_id.to_string(), &log);
    page.labelled("etcd_server_id", "gauge", "This member.", "server_id", &shared.member_id.to_string());
    page.labelled("etcd_server_version", "gauge", "Version of the server.", "server_version", ETCD_VERSION);
    if let Some(version) = shared.members.version() {
        let minor = version.rsplit_once('.').map_or(version.as_str(), |(minor, _)| minor);
        page.labelled(
            "etcd_cluster_version",
            "gauge",
            "Version agreed in the cluster.",
            "cluster_version",
            minor,
        );
    }
    let committed = raft.committed.map_or(0, |committed| committed.index);
    page.one("etcd_server_proposals_committed_total", "gauge", "Consensus proposals committed.", committed);
    page.one(
        "etcd_server_proposals_applied_total",
        "gauge",
        "Consensus proposals applied.",
        shared.applied.index(),
    );
    page.one("etcd_server_proposals_pending", "gauge", "Proposals on their way.", log.proposals_pending);
    page.one(
        "etcd_server_slow_apply_total",
        "counter",
        "Batches that took too long to apply.",
        shared.counters.slow_applies.get(),
    );
    page.one("etcd_server_quota_backend_bytes", "gauge", "The quota.", shared.quota.limit().unwrap_or(0));
    page.one("etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the state on disk.", size);
    page.one("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Live bytes.", shared.reader.live_bytes());
    if let Some(bytes) = resident_bytes() {
        page.one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", bytes);
    }
    let counters = &shared.counters;
    page.one("etcd_mvcc_put_total", "counter", "Keys put.", counters.puts.get());
    page.one("etcd_mvcc_delete_total", "counter", "Keys deleted.", counters.deletes.get());
    page.one("etcd_mvcc_range_total", "counter", "Ranges read.", counters.ranges.get());
    page.one("etcd_mvcc_txn_total", "counter", "Transactions.", counters.txns.get());
    page.one(
        "etcd_debugging_lease_granted_total",
        "counter",
        "Leases granted.",
        counters.leases_granted.get(),
    );
    page.one(
        "etcd_debugging_lease_revoked_total",
        "counter",
        "Leases revoked.",
        counters.leases_revoked.get(),
    );
    page.one("etcd_debugging_lease_renewed_total", "counter", "Renewals.", counters.leases_renewed.get());
    page.one(
        "etcd_debugging_server_lease_expired_total",
        "counter",
        "Leases revoked because they had run out.",
        counters.leases_expired.get(),
    );
    page.one("etcd_debugging_mvcc_keys_total", "gauge", "Live keys.", shared.reader.keys());
    page.one(
        "etcd_debugging_mvcc_current_revision",
        "gauge",
        "The store's revision.",
        shared.reader.revision(),
    );
    page.one(
        "etcd_debugging_mvcc_compact_revision",
        "gauge",
        "Revision of the last compaction.",
        shared.reader.compact_revision().max(0),
    );
    page.one(
        "etcd_debugging_mvcc_watch_stream_total",
        "gauge",
        "Open watch streams.",
        shared.watches.streams(),
    );
    page.one("etcd_disk_wal_write_bytes_total", "gauge", "Bytes written to the log.", log.bytes_written);
    page.histogram("etcd_disk_wal_fsync_duration_seconds", "Synced writes of the log.", &log.fsync);
    page.one(
        "etcd_rs_applied_batches_total",
        "counter",
        "Batches in which entries were applied.",
        log.batches_applied,
    );
    page.one("etcd_rs_log_cache_bytes", "gauge", "Recent entries kept in memory.", log.cache_bytes);
    page.labelled(
        "etcd_rs_applied_hash",
        "gauge",
        "Rolling hash of all applied entries.",
        "hash",
        &format!("{:016x}", shared.applied.hash()),
    );
    page.text
}

/// The ways to the other members; etcd calls them peers.
fn network(page: &mut Page, local: &str, log: &raftlog::Metrics) {
    type Value = fn(&raftlog::PeerMetrics) -> u64;
    let between: [(&str, &str, &str, Value); 3] = [
        ("known_peers", "gauge", "Members that are known.", |_| 1),
        ("active_peers", "gauge", "Members that the last message reached.", |peer| u64::from(peer.is_active)),
        ("disconnected_peers_total", "counter", "How often a member became unreachable.", |peer| {
            peer.disconnects
        }),
    ];
    let to: [(&str, &str, Value); 3] = [
        ("peer_sent_failures_total", "Messages that did not reach a member.", |peer| peer.failures),
        ("snapshot_send_success", "Snapshots a member has taken.", |peer| peer.snapshots_sent),
        ("snapshot_send_failures", "Snapshots that were not sent whole.", |peer| peer.snapshot_failures),
    ];
    if log.peers.is_empty() {
        return;
    }
    for (name, kind, help, value) in between {
        page.about(&format!("etcd_network_{name}"), kind, help);
        for (id, peer) in &log.peers {
            let value = value(peer);
            page.line(format_args!("etcd_network_{name}{{Local=\"{local}\",Remote=\"{id:x}\"}} {value}"));
        }
    }
    for (name, help, value) in to {
        page.about(&format!("etcd_network_{name}"), "counter", help);
        for (id, peer) in &log.peers {
            page.line(format_args!("etcd_network_{name}{{To=\"{id:x}\"}} {}", value(peer)));
        }
    }
    page.one(
        "etcd_rs_snapshots_installed_total",
        "counter",
        "Snapshots of other members that were installed.",
        log.snapshots_installed,
    );
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn about(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string grows as needed");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.about(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    /// A constant 1 whose label says it.
    fn labelled(&mut self, name: &str, kind: &str, help: &str, label: &str, value: &str) {
        self.about(name, kind, help);
        self.line(format_args!("{name}{{{label}=\"{value}\"}} 1"));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &raftlog::Histogram) {
        self.about(name, "histogram", help);
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {}", histogram.count()));
        self.line(format_args!("{name}_sum {}", histogram.sum));
        self.line(format_args!("{name}_count {}", histogram.count()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_accumulate_and_end_at_infinity() {
        let mut page = Page::default();
        let histogram = raftlog::Histogram { bounds: vec![0.5, 1.0], counts: vec![1, 2, 3], sum: 9.5 };
        page.histogram("h", "help", &histogram);
        let expected = "# HELP h help\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 3\n\
                        h_bucket{le=\"+Inf\"} 6\nh_sum 9.5\nh_count 6\n";
        assert_eq!(page.text, expected);
    }
}
