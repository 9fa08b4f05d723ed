//! Keeps an eye on the quota: warns before it is full, and ends the alarm when there is room again.
//!
//! etcd's NOSPACE alarm stays until somebody disarms it. Here whoever raised it because of the quota ends it, once a tenth of the
//! quota is free: so much that it is not raised again by the next put. An alarm that somebody raised by hand stays until it is
//! disarmed by hand. The leader ends the alarms of members that are no more.

use std::sync::Arc;
use std::time::Duration;

use api::internal::QuotaAlarm;
use raftlog::Node;

use crate::member::Shared;
use crate::proposal::Command;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(1);
/// The part of the quota that is full when the log begins to warn, and the part at which it may warn again.
const WARN_PERCENT: (u64, u64) = (80, 70);

/// Looks for as long as the member runs. `disarms` says whether alarms are ended.
pub(crate) async fn run(shared: Arc<Shared>, node: Node, disarms: bool) {
    let mut warning = Warning::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Some(limit) = shared.quota.limit()
            && warning.begins(shared.reader.live_bytes(), limit)
        {
            tracing::warn!(
                live_bytes = shared.reader.live_bytes(),
                quota_backend_bytes = limit,
                "the quota is nearly full; compact, or delete what is not needed"
            );
        }
        if disarms {
            let leads = node.leadership().borrow().is_leader;
            for member in ended(&shared, leads) {
                let request = QuotaAlarm { member_id: member, raised: false };
                // It is found again soon if this fails.
                if shared.proposals.propose(Command::quota_alarm(&request)).await.is_ok() {
                    tracing::info!(
                        member_id = member,
                        "there is room in the quota again; disarmed the alarm"
                    );
                }
            }
        }
    }
}

/// Members whose alarm is for this one to end.
fn ended(shared: &Shared, leads: bool) -> Vec<u64> {
    let mut members = shared.alarms.over_quota();
    members.retain(|member| {
        if *member == shared.member_id.get() {
            shared.quota.has_ample_room()
        } else {
            leads && shared.members.get(*member).is_none()
        }
    });
    members
}

/// Warns once each time that the quota fills up.
#[derive(Debug, Default)]
struct Warning {
    given: bool,
}

impl Warning {
    fn begins(&mut self, live: u64, limit: u64) -> bool {
        let passed = |percent: u64| u128::from(live) * 100 >= u128::from(limit) * u128::from(percent);
        let begins = !self.given && passed(WARN_PERCENT.0);
        self.given = begins || self.given && passed(WARN_PERCENT.1);
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_comes_once_each_time_the_quota_fills_up() {
        let mut warning = Warning::default();
        let given: Vec<u64> = [0, 79, 80, 100, 120, 75, 81, 70, 90, 69, 79, 80, 80]
            .into_iter()
            .filter(|live| warning.begins(*live, 100))
            .collect();
        assert_eq!(given, [80, 80]);
    }
}
