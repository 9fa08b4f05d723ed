//! A heartbeat that is sent again until one of its copies is answered.
//!
//! openraft has one heartbeat under way to each member and waits for its answer. Over a long way the follower would hear its leader
//! only once in a round trip, and over a bad one a single loss would keep both waiting until TCP repeats it. So
//! while there is no answer, the same heartbeat is sent again after every interval, by turns over two connections:
//!
//! ```text
//! leader    h──h──h──h──h            h──h──h──h
//!            \  \  \  \  \ answer     \
//! follower    ────────────►h h h h h ──►
//! ```
//!
//! The follower hears its leader as often as if it were near. The first answer counts, whichever copy it is to: every copy was
//! sent after openraft made the heartbeat, so whoever answers one has heard the leader since then. Copies that arrive late are what
//! Raft expects of any network. With an answer in time there are no copies.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tonic::Status;

use super::links::{Links, Purpose};
use super::wire::{self, AppendRequest, AppendResponse};

/// Sends a heartbeat, and a copy after each `interval`, until one is answered or none is left that could be.
pub(crate) async fn send(
    links: &Links,
    to: u64,
    interval: Duration,
    heartbeat: &AppendRequest,
) -> Result<AppendResponse, Status> {
    let send = |purpose| links.unary(to, purpose, wire::HEARTBEAT, heartbeat.clone());
    let mut ways = [Purpose::Bulk, Purpose::Control].into_iter().cycle();
    let mut under_way = FuturesUnordered::from_iter([send(Purpose::Control)]);
    loop {
        tokio::select! {
            biased;
            Some(answer) = under_way.next() => {
                if answer.is_ok() || under_way.is_empty() {
                    return answer;
                }
            }
            () = tokio::time::sleep(interval) => under_way.extend(ways.next().map(send)),
        }
    }
}
