//! What can happen to disks.

use std::time::Duration;

use crate::e2e::{Shape, SlowSyncs, eventually, put};
use crate::{SOME, faults, under_load};

faults! {
    both;

    /// A member whose disk is full stops rather than promise what it cannot keep; the others serve on, and with room
    /// again it comes back and catches up.
    async fn a_full_disk_stops_one_member_alone(cluster, small_disk()) {
        under_load(cluster, async |cluster, load| {
            let value = "v".repeat(100_000);
            cluster.small_disk().fill();
            // A real etcd has room reserved for its log, and none for its data.
            eventually("the end of a member whose disk is full", async || {
                let mut kv = cluster[1].kv();
                let asked = kv.put(put("large", &value));
                drop(tokio::time::timeout(Duration::from_secs(1), asked).await);
                cluster[SMALL].ended()
            })
            .await;
            load.goes_on(SOME).await;
            cluster.small_disk().make_room();
            cluster[SMALL].kill();
            cluster.launch(SMALL).await;
        })
        .await;
    }

    /// For a while each sync of the leader's disk takes a second, twice the election timeout: another one leads.
    async fn a_leader_whose_disk_stalls_is_replaced(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            let slow = SlowSyncs::of(cluster[leader].process().unwrap());
            cluster.leader_other_than(leader).await;
            load.goes_on(SOME).await;
            eventually("syncs that took long", async || (slow.count() > 1).then_some(())).await;
            drop(slow);
        })
        .await;
    }
}

/// The member with a disk of its own.
const SMALL: usize = 0;

/// A real etcd reserves 64 MB for each file of its log.
fn small_disk() -> Shape {
    Shape { small_disk: Some((SMALL, 256 << 20)), ..Shape::default() }
}
