//! Reads: from this member's state, after a barrier where they must not miss an acknowledged write.

use std::time::Duration;

use api::etcdserverpb::RangeRequest;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::status::{self, Status};
use mvcc::{Order, RangeOptions, Target};
use raftlog::{Node, ReadIndexError};

/// What the keyspace is asked for a request that has passed its checks.
pub(crate) fn options(request: &RangeRequest) -> RangeOptions {
    let mut options = RangeOptions::new(request.key.clone(), request.range_end.clone());
    options.limit = request.limit;
    options.revision = request.revision;
    options.order = match request.sort_order() {
        SortOrder::None => Order::None,
        SortOrder::Ascend => Order::Ascend,
        SortOrder::Descend => Order::Descend,
    };
    options.target = match request.sort_target() {
        SortTarget::Key => Target::Key,
        SortTarget::Version => Target::Version,
        SortTarget::Create => Target::Create,
        SortTarget::Mod => Target::Mod,
        SortTarget::Value => Target::Value,
    };
    options.keys_only = request.keys_only;
    options.count_only = request.count_only;
    options.min_mod_revision = request.min_mod_revision;
    options.max_mod_revision = request.max_mod_revision;
    options.min_create_revision = request.min_create_revision;
    options.max_create_revision = request.max_create_revision;
    options
}

/// Returns when this member has applied everything that was acknowledged anywhere before the call.
pub(crate) async fn barrier(node: &Node, timeout: Duration) -> Result<(), Status> {
    let confirmed = async {
        let index = node.read_index().await.map_err(|error| match error {
            ReadIndexError::Stopped => status::STOPPED,
            _ => status::NO_LEADER,
        })?;
        node.wait_applied(index).await.map_err(|_| status::STOPPED)
    };
    // Most barriers are through at once; the timer is only armed for those that are not.
    let mut confirmed = std::pin::pin!(confirmed);
    match futures_util::poll!(&mut confirmed) {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => {
            tokio::time::timeout(timeout, confirmed).await.unwrap_or(Err(status::TIMEOUT))
        }
    }
}
