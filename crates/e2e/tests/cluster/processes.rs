//! What can happen to processes.

use crate::{SOME, faults, under_load};

faults! {
    /// Nothing happens at all.
    async fn a_healthy_cluster_is_linearizable(cluster) {
        under_load(cluster, async |_, load| load.goes_on(10 * SOME).await).await;
    }

    /// The leader is killed, another one takes over, and the old one comes back.
    async fn a_killed_leader_takes_nothing_with_it(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            cluster[leader].kill();
            cluster.leader_other_than(leader).await;
            load.goes_on(SOME).await;
            cluster.launch(leader).await;
        })
        .await;
    }

    /// A member that was away gets what it missed from the log.
    async fn a_killed_follower_comes_back_by_the_log(cluster) {
        under_load(cluster, async |cluster, load| {
            let follower = cluster.follower().await;
            cluster[follower].kill();
            load.goes_on(SOME).await;
            cluster.launch(follower).await;
        })
        .await;
    }

    /// A leader that sleeps is replaced, and does not believe itself the leader when it wakes up.
    async fn a_paused_leader_answers_nothing_stale(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            cluster[leader].signal("STOP");
            cluster.leader_other_than(leader).await;
            load.goes_on(SOME).await;
            cluster[leader].signal("CONT");
        })
        .await;
    }
}
