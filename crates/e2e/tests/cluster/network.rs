//! What can happen to the network between members.

use crate::{SOME, faults, under_load};

faults! {
    /// A leader that nobody hears any more is replaced by the others.
    async fn a_leader_cut_off_is_replaced(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            cluster.network().part(3, &[leader]);
            cluster.leader_other_than(leader).await;
            load.goes_on(SOME).await;
            cluster.network().heal();
        })
        .await;
    }
}
