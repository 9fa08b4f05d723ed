//! Streams whose clients require a leader are ended when there has been none for a while.

use std::time::Duration;

use raftlog::Node;
use tokio::sync::watch;

/// So many looks in a row without a leader are a while; etcd `server/etcdserver/api/v3rpc/interceptor.go`.
const LOOKS: u32 = 3;

/// Says in `leaderless` whether there has been no leader at any of the last looks, one for each `election_timeout`.
pub(crate) async fn watch(node: Node, election_timeout: Duration, leaderless: watch::Sender<bool>) {
    let leadership = node.leadership();
    let mut missed = 0;
    loop {
        tokio::time::sleep(election_timeout).await;
        missed = if leadership.borrow().leader.is_none() { missed + 1 } else { 0 };
        leaderless.send_if_modified(|leaderless| {
            std::mem::replace(leaderless, missed >= LOOKS) != (missed >= LOOKS)
        });
    }
}
