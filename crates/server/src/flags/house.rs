//! The flags about keeping house: compaction and space.

use super::table::{Flag, Kind, flag};

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
];
