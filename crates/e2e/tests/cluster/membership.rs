//! Members that come, go, and must not come back.

use crate::e2e;
use crate::{SOME, faults, under_load};

faults! {
    both;

    /// Members are added and removed one after the other, the leader among them, until none of the first is left.
    async fn every_member_is_replaced(cluster) {
        under_load(cluster, async |cluster, load| {
            for first in 0..3 {
                let new = cluster.grow().await;
                load.meets(cluster[new].client_url());
                load.goes_on(SOME).await;
                let old = if first == 0 { cluster.leader().await } else { cluster.running()[0] };
                cluster.shrink(old).await;
                load.goes_on(SOME).await;
            }
        })
        .await;
    }

    /// A member whose data is gone has forgotten its vote and what it acknowledged, so it must not come back as who
    /// it was. Removed and added again, it is another.
    async fn a_wiped_member_does_not_come_back(cluster) {
        under_load(cluster, async |cluster, load| {
            let follower = cluster.follower().await;
            let id = cluster.id(follower).await;
            cluster[follower].kill();
            cluster[follower].wipe();
            cluster.begin(follower).await;
            let refused = async || cluster[follower].ended();
            assert!(!e2e::eventually("the end of a wiped member", refused).await.success());
            cluster[follower].kill();
            load.goes_on(SOME).await;

            cluster.dismiss(id).await;
            cluster.admit(follower).await;
            assert_ne!(cluster.id(follower).await, id);
        })
        .await;
    }
}

faults! {
    ours;

    /// Started as one that joins, a wiped member of a real etcd takes its old place with an empty log, and votes on
    /// what it has forgotten. Ours does not.
    async fn a_wiped_member_does_not_join_as_who_it_was(cluster) {
        under_load(cluster, async |cluster, load| {
            let follower = cluster.follower().await;
            let id = cluster.id(follower).await;
            cluster[follower].kill();
            cluster[follower].wipe();
            cluster.finds(follower, &[0, 1, 2]);
            cluster.begin(follower).await;
            let refused = async || cluster[follower].ended();
            assert!(!e2e::eventually("the end of a wiped member", refused).await.success());
            cluster[follower].kill();
            load.goes_on(SOME).await;

            cluster.dismiss(id).await;
            cluster.admit(follower).await;
        })
        .await;
    }
}
