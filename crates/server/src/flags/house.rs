//! The flags about keeping house, and limits on what clients may do.

use super::table::{Flag, Kind, flag};
use super::value::{boolean, duration, number, urls};

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "How '--auto-compaction-retention' is meant: 'periodic' (a time) or 'revision' (a number of revisions).",
        |c, v| {
            v.clone_into(&mut c.auto_compaction.mode);
            Ok(())
        },
    ),
    flag(
        "auto-compaction-retention",
        Kind::Text,
        "0",
        "History that auto-compaction keeps: hours or revisions, or a duration such as 30m (0: no auto-compaction).",
        |c, v| {
            v.clone_into(&mut c.auto_compaction.retention);
            Ok(())
        },
    ),
    flag(
        "downgrade-check-time",
        Kind::Duration,
        "5s",
        "Duration of time between two checks whether a downgrade is over (0: none).",
        |c, v| {
            c.downgrade_check_time = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "5s",
        "Minimum interval that a client should wait before pinging the server (0: 5m).",
        |c, v| {
            c.grpc_keepalive_min_time = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "warning-apply-duration",
        Kind::Duration,
        "100ms",
        "Log a warning when applying takes longer; here, applying a batch of entries.",
        |c, v| {
            c.warning_apply_duration = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "warning-unary-request-duration",
        Kind::Duration,
        "300ms",
        "Log a warning when a unary request takes longer.",
        |c, v| {
            c.warning_unary_request_duration = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "listen-metrics-urls",
        Kind::Urls,
        "",
        "List of URLs to serve /metrics and /health on, beside the client URLs.",
        |c, v| {
            c.listen_metrics_urls = if v.is_empty() { Vec::new() } else { urls(v)? };
            Ok(())
        },
    ),
    flag(
        "max-answer-bytes",
        Kind::Number("uint"),
        "268435456",
        "Memory for large answers that are made or sent at a time; more of them wait for their turn (etcd-rs's own).",
        |c, v| {
            c.answer_bytes_max = number(v)?;
            Ok(())
        },
    ),
    flag(
        "quota-auto-disarm",
        Kind::Switch,
        "true",
        "Disarm NOSPACE when a tenth of the quota is free again, unless it was raised by hand (etcd-rs's own).",
        |c, v| {
            c.quota_auto_disarm = boolean(v)?;
            Ok(())
        },
    ),
];
