//! What can happen to the network between members.

use std::time::Duration;

use crate::e2e::linear::Violation;
use crate::e2e::load::{Failure, Load, Plan};
use crate::e2e::network::Weather;
use crate::e2e::{self, Shape, put};
use crate::{SOME, faults, under_load};

faults! {
    both;

    /// A leader that is cut off, both ways, is replaced by the others, and serves nothing from the past.
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

    /// A follower that is cut off changes nothing for the others, neither while it is away nor when it comes back.
    async fn a_follower_cut_off_is_not_missed(cluster) {
        under_load(cluster, async |cluster, load| {
            let (leader, follower) = (cluster.leader().await, cluster.follower().await);
            cluster.network().part(3, &[follower]);
            load.goes_on(3 * SOME).await;
            cluster.network().heal();
            cluster[follower].serves().await;
            assert_eq!(cluster.leader().await, leader, "coming back is no reason for an election");
        })
        .await;
    }

    /// Where no two members hear each other nothing is acknowledged, and afterwards everything goes on.
    async fn without_a_majority_nothing_is_acknowledged(cluster) {
        under_load(cluster, async |cluster, load| {
            cluster.network().set_everywhere(3, Weather::BLOCKED);
            // What was acknowledged when the last leader gave up may have been on its way still.
            e2e::eventually("no leader", async || cluster.no_leader().await.then_some(())).await;
            let before = load.acknowledged_writes();
            for member in cluster.numbers() {
                let mut kv = cluster[member].kv();
                let refused = tokio::time::timeout(Duration::from_millis(700), kv.put(put("a", "b"))).await;
                assert!(!matches!(refused, Ok(Ok(_))), "{refused:?}");
            }
            assert_eq!(load.acknowledged_writes(), before);
            cluster.network().heal();
        })
        .await;
    }

    /// A leader that hears the others but is not heard by them is no leader.
    async fn a_leader_that_is_not_heard_is_replaced(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            for other in cluster.numbers().filter(|other| *other != leader) {
                cluster.network().set(leader, other, Weather::BLOCKED);
            }
            cluster.leader_other_than(leader).await;
            load.goes_on(SOME).await;
            cluster.network().heal();
        })
        .await;
    }

    /// A leader that is heard but hears nothing commits nothing, and must not keep the others from electing another.
    async fn a_leader_that_hears_nothing_is_replaced(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            for other in cluster.numbers().filter(|other| *other != leader) {
                cluster.network().set(other, leader, Weather::BLOCKED);
            }
            cluster.leader_other_than(leader).await;
            load.goes_on(SOME).await;
            cluster.network().heal();
        })
        .await;
    }

    /// A follower that is heard but hears nothing asks in vain to be elected, and does not disturb the leader.
    async fn a_follower_that_hears_nothing_does_not_disturb(cluster) {
        under_load(cluster, async |cluster, load| {
            let (leader, follower) = (cluster.leader().await, cluster.follower().await);
            for other in cluster.numbers().filter(|other| *other != follower) {
                cluster.network().set(other, follower, Weather::BLOCKED);
            }
            load.goes_on(5 * SOME).await;
            assert_eq!(cluster.leader().await, leader);
            cluster.network().heal();
        })
        .await;
    }

    /// One link between the leader and a follower is lost, and each still has the third.
    async fn members_that_hear_each_other_only_through_a_third_serve(cluster) {
        under_load(cluster, async |cluster, load| {
            let (leader, follower) = (cluster.leader().await, cluster.follower().await);
            cluster.network().set_between(leader, follower, Weather::BLOCKED);
            load.goes_on(5 * SOME).await;
            cluster.network().heal();
        })
        .await;
    }

    /// Connections of the leader break over and over, some while the link is dead for a moment.
    async fn a_flapping_link_costs_no_write(cluster) {
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            for round in 0..20 {
                let other = (leader + 1 + round % 2) % 3;
                cluster.network().set_between(leader, other, Weather::BLOCKED);
                cluster.network().cut(leader, other);
                load.goes_on(3).await;
                cluster.network().set_between(leader, other, Weather::FINE);
                load.goes_on(5).await;
            }
        })
        .await;
    }

    /// Members on two continents, over a bad line.
    async fn slow_and_lossy_links_are_only_slow(cluster, far_apart()) {
        let weather = Weather { delay: Duration::from_millis(200), lost_percent: 5, ..Weather::FINE };
        cluster.network().set_everywhere(3, weather);
        under_load(cluster, async |cluster, load| {
            let leader = cluster.leader().await;
            load.goes_on(SOME / 2).await;
            cluster[leader].kill();
            load.goes_on(SOME / 2).await;
            cluster.launch(leader).await;
            cluster.network().heal();
        })
        .await;
    }

    /// The judge is not blind: reads that ask for no more than a cut-off member's own state are not those of one store.
    async fn reads_of_a_cut_off_member_would_be_stale(cluster) {
        let plan = Plan { takes_past_for_now: true, ..Plan::default() };
        let load = Load::start(cluster, &plan);
        load.goes_on(SOME).await;
        let follower = cluster.follower().await;
        cluster.network().part(3, &[follower]);
        load.goes_on(10 * SOME).await;
        cluster.network().heal();
        let judged = load.end(cluster).await.check(cluster).await;
        assert!(matches!(judged, Err(Failure::Linear(Violation::Stale { .. }))), "{judged:?}");
    }
}

/// As when nothing is said of it: a heartbeat's answer takes four intervals and more.
fn far_apart() -> Shape {
    Shape { heartbeat: Duration::from_millis(100), election: Duration::from_millis(1000), ..Shape::default() }
}
