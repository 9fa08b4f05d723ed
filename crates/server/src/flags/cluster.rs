//! The flags about changing the cluster's members and comparing what they hold, and the feature gates.

use super::table::{Flag, Kind, flag};
use super::value::{boolean, duration, number};
use crate::config::Config;

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "strict-reconfig-check",
        Kind::Switch,
        "true",
        "Reject changes of the members that would cause quorum loss.",
        |c, v| {
            c.strict_reconfig_check = boolean(v)?;
            Ok(())
        },
    ),
    flag(
        "pre-vote",
        Kind::Switch,
        "true",
        "Ask whether an election could be won before calling it.",
        |c, v| {
            c.pre_vote = boolean(v)?;
            Ok(())
        },
    ),
    flag(
        "initial-election-tick-advance",
        Kind::Switch,
        "true",
        "Do not wait a whole election timeout at the start; etcd-rs never does, whatever is given.",
        |_, v| boolean(v).map(drop),
    ),
    flag("max-learners", Kind::Number("int"), "1", "Maximum number of learners in the cluster.", |c, v| {
        c.max_learners = number(v)?;
        Ok(())
    }),
    flag(
        "corrupt-check-time",
        Kind::Duration,
        "0s",
        "Duration of time between cluster corruption check passes (0: none).",
        |c, v| {
            c.corrupt_check_time = duration(v)?;
            Ok(())
        },
    ),
    flag(
        "compact-hash-check-time",
        Kind::Duration,
        "1m0s",
        "Duration of time between leader checks followers compaction hashes.",
        |c, v| {
            let interval = duration(v)?;
            if interval.is_zero() {
                return Err("--compact-hash-check-time must be >0 (set to 0s)".to_owned());
            }
            c.compact_hash_check_time = interval;
            Ok(())
        },
    ),
    flag(
        "feature-gates",
        Kind::Text,
        "",
        "Features to turn on or off: InitialCorruptCheck, CompactHashCheck and StopGRPCServiceOnDefrag, as Name=true|false, separated by commas.",
        gates,
    ),
];

/// etcd's gates that have no switch here, and how it is here.
const FIXED: &[(&str, bool)] = &[
    ("TxnModeWriteWithSharedBuffer", true),
    ("LeaseCheckpoint", true),
    ("LeaseCheckpointPersist", true),
    ("SetMemberLocalAddr", false),
    ("FastLeaseKeepAlive", true),
    ("PriorityRequest", false),
];

fn gates(config: &mut Config, value: &str) -> Result<(), String> {
    for gate in value.split(',').map(str::trim).filter(|gate| !gate.is_empty()) {
        let (name, value) = gate.split_once('=').ok_or_else(|| format!("missing bool value for {gate}"))?;
        let (name, value) = (name.trim(), value.trim());
        let on = boolean(value).map_err(|_| {
            format!(
                "invalid value of {name}: {value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
            )
        })?;
        match name {
            "InitialCorruptCheck" => config.initial_corrupt_check = on,
            "StopGRPCServiceOnDefrag" => config.stop_grpc_service_on_defrag = on,
            "CompactHashCheck" => config.compact_hash_check = on,
            _ => match FIXED.iter().find(|(fixed, _)| *fixed == name) {
                Some((_, fixed)) if *fixed == on => {}
                Some((_, fixed)) => {
                    return Err(format!("feature gate {name} is always {fixed} in this version"));
                }
                None => return Err(format!("unrecognized feature gate: {name}")),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_switched_by_name() {
        let mut config = Config::default();
        gates(&mut config, "CompactHashCheck=true, InitialCorruptCheck=true,FastLeaseKeepAlive=true")
            .unwrap();
        assert!(config.compact_hash_check && config.initial_corrupt_check);
        gates(&mut config, "CompactHashCheck=false").unwrap();
        assert!(!config.compact_hash_check && config.initial_corrupt_check);
        let mut refused = |value| gates(&mut config, value).unwrap_err();
        assert_eq!(refused("Nonsense=true"), "unrecognized feature gate: Nonsense");
        assert_eq!(refused("CompactHashCheck"), "missing bool value for CompactHashCheck");
        assert!(refused("CompactHashCheck=maybe").starts_with("invalid value of CompactHashCheck: maybe"));
        assert_eq!(
            refused("PriorityRequest=true"),
            "feature gate PriorityRequest is always false in this version"
        );
    }
}
