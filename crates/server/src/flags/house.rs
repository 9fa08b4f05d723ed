//! The flags about keeping house: compaction and space.

use super::table::{Flag, Kind, flag};
use super::value::{boolean, duration};

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
