//! What can happen to processes.

use std::time::{Duration, Instant};

use api::etcdserverpb as pb;
use futures_util::future::{join_all, select_all};

use crate::e2e::{Cluster, Shape, Watcher, eventually, prefix_end, put};
use crate::{SOME, faults, under_load};

/// More entries than any member keeps of the log behind a snapshot: a real etcd keeps 5000.
const MORE_THAN_THE_LOG: usize = 6000;
/// The same where the log is cut often and little of it is kept.
const MORE_THAN_OURS: usize = 2500;

/// Puts many times and waits for all answers, a few at once: what is put at once may be one entry of the log.
async fn put_often(cluster: &Cluster, through: usize, times: usize) {
    for round in 0..times / 50 {
        let names: Vec<String> = (0..50).map(|number| format!("often/{}", (round + number) % 50)).collect();
        join_all(names.iter().map(|name| cluster[through].put(name, "again"))).await;
    }
}

/// Puts a key, again and again through one member after the other, for as long as a patient client would, and returns
/// the number of tries that failed.
async fn put_patiently(
    clients: &mut [pb::kv_client::KvClient<tonic::transport::Channel>],
    key: &str,
) -> usize {
    let begun = Instant::now();
    let members = clients.len();
    for failures in 0.. {
        let asked = clients[failures % members].put(put(key, "patiently"));
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), asked).await {
            return failures;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "a request failed for good, after {failures} tries"
        );
        tokio::time::sleep(Duration::from_millis(10)).await; // before the next try, as a poll would
    }
    unreachable!("the loop has no end")
}

/// How long it takes until a put is answered again by any of these members.
async fn until_a_put(cluster: &Cluster, members: &[usize]) -> Duration {
    let begun = Instant::now();
    let through = |member: &usize| {
        let mut clients = [cluster[*member].kv()];
        Box::pin(async move {
            loop {
                let asked = clients[0].put(put("after", "it"));
                if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(250), asked).await {
                    return;
                }
            }
        })
    };
    select_all(members.iter().map(through)).await;
    begun.elapsed()
}

faults! {
    both;

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

    /// Every member is stopped and started in turn, and no request fails of a client that tries again elsewhere.
    async fn a_rolling_restart_fails_no_request(cluster) {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let clients = (0..4).map(|number| {
            let mut clients: Vec<_> = cluster.numbers().map(|member| cluster[member].kv()).collect();
            clients.rotate_left(number % 3);
            let stopped = stopped.clone();
            tokio::spawn(async move {
                let mut puts = 0_u64;
                while !*stopped.borrow() {
                    put_patiently(&mut clients, &format!("patient/{number}")).await;
                    puts += 1;
                }
                puts
            })
        });
        let clients: Vec<_> = clients.collect();
        under_load(cluster, async |cluster, load| {
            for member in cluster.numbers() {
                cluster[member].stop("TERM").await;
                load.goes_on(SOME).await;
                cluster.launch(member).await;
            }
            stop.send(true).unwrap();
            for client in clients {
                assert!(client.await.unwrap() > 10);
            }
        })
        .await;
    }

    /// From the death of the leader to the next acknowledged write no more than two election timeouts pass, on a
    /// machine that has time. The bound here is for machines that have not; the time itself is in the output.
    async fn a_dead_leader_is_replaced_in_time(cluster, Shape { election: Duration::from_secs(1), ..Shape::default() }) {
        let mut longest = Duration::ZERO;
        for _ in 0..3 {
            cluster[0].put("before", "it").await;
            let leader = cluster.leader().await;
            cluster[leader].kill();
            let others: Vec<usize> = cluster.numbers().filter(|other| *other != leader).collect();
            let took = until_a_put(cluster, &others).await;
            #[expect(clippy::print_stdout, reason = "a figure that is worth knowing")]
            {
            println!("{:?}: the next write was acknowledged after {} ms", cluster.target(), took.as_millis());
            }
            longest = longest.max(took);
            cluster.launch(leader).await;
        }
        assert!(longest < 6 * cluster.shape().election, "{longest:?}");
    }
}

faults! {
    both;

    /// etcd #20418: a leader that had slept answered reads from before its sleep. One that sleeps is replaced, and does not
    /// believe itself the leader when it wakes up.
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

    /// A member that was away for too long gets a snapshot, as the log was cut off meanwhile.
    async fn a_killed_follower_comes_back_by_a_snapshot(cluster, cut_often()) {
        under_load(cluster, async |cluster, load| {
            let follower = cluster.follower().await;
            cluster[follower].kill();
            put_often(cluster, cluster.leader().await, MORE_THAN_THE_LOG).await;
            load.goes_on(SOME).await;
            let before = snapshots(cluster, follower);
            cluster.launch(follower).await;
            // It may serve before it has one.
            let got = async || (snapshots(cluster, follower) > before).then_some(());
            eventually("a snapshot", got).await;
        })
        .await;
    }
}

faults! {
    ours;

    /// etcd #15271: a watch on a member that got a snapshot while it served went back, and told of events again. And etcd
    /// #18055: a second snapshot right after the first stopped the member. The real one cuts no log for a while after it
    /// sent a snapshot, so that it is not asked.
    async fn a_watch_outlives_snapshots_of_its_member(cluster, cut_often()) {
        under_load(cluster, async |cluster, _| {
            let follower = cluster.follower().await;
            let often = pb::WatchCreateRequest {
                key: "often/".into(),
                range_end: prefix_end("often/"),
                ..Default::default()
            };
            let (mut watcher, _) = Watcher::open(&cluster[follower], often).await;
            for round in 1..=2 {
                cluster.network().part(3, &[follower]);
                put_often(cluster, cluster.leader_other_than(follower).await, MORE_THAN_OURS).await;
                // What was on its way meanwhile would be all it needs.
                for other in cluster.numbers().filter(|other| *other != follower) {
                    cluster.network().cut(follower, other);
                }
                cluster.network().heal();
                eventually("a snapshot", async || (snapshots(cluster, follower) >= round).then_some(())).await;
            }
            let events = watcher.events(2 * MORE_THAN_OURS).await;
            let revisions: Vec<i64> = events.iter().flat_map(|event| &event.kv).map(|kv| kv.mod_revision).collect();
            assert!(revisions.is_sorted_by(|one, next| one < next), "each once, and in order");
        })
        .await;
    }
}

/// How many snapshots a member has got so far, by what it says.
fn snapshots(cluster: &Cluster, member: usize) -> usize {
    let log = std::fs::read_to_string(cluster[member].log()).unwrap();
    let lines = ["finished applying incoming snapshot", "installed a snapshot"];
    log.lines().filter(|line| lines.iter().any(|said| line.contains(said))).count()
}

/// The log is cut often.
fn cut_often() -> Shape {
    Shape { snapshot_count: Some(50), catchup_entries: Some(20), ..Shape::default() }
}
