//! Members that come, go, and must not come back.

use std::time::Duration;

use api::etcdserverpb as pb;

use crate::e2e::{self, Cluster};
use crate::{SOME, faults, under_load};

/// Adds a member to the cluster, through any other, and waits until it serves.
async fn grow(cluster: &mut Cluster) -> usize {
    let others: Vec<usize> = running(cluster);
    let number = cluster.prepare().await;
    let peer_url = cluster[number].peer_url().to_owned();
    change(cluster, async |mut members| {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.clone()], is_learner: false };
        // A try whose answer was lost may have done it.
        match members.member_add(request).await {
            Err(refused) if refused.message().contains("Peer URLs already exists") => Ok(()),
            other => other.map(drop),
        }
    })
    .await;
    let all: Vec<usize> = others.into_iter().chain([number]).collect();
    cluster.finds(number, &all);
    cluster.launch(number).await;
    number
}

/// Removes a member, whose process is to end by itself.
async fn shrink(cluster: &mut Cluster, number: usize) {
    let id = cluster.id(number).await;
    change(cluster, async |mut members| match members.member_remove(pb::MemberRemoveRequest { id }).await {
        Err(refused) if refused.message().contains("member not found") => Ok(()),
        other => other.map(drop),
    })
    .await;
    e2e::eventually("the end of a removed member", async || cluster[number].ended()).await;
    cluster[number].kill();
}

fn running(cluster: &Cluster) -> Vec<usize> {
    cluster.numbers().filter(|number| cluster[*number].process().is_some()).collect()
}

/// Asks for a change until it is made: while members come up, some are refused.
async fn change(
    cluster: &Cluster,
    ask: impl AsyncFn(pb::cluster_client::ClusterClient<tonic::transport::Channel>) -> Result<(), tonic::Status>,
) {
    e2e::eventually("a change of the membership", async || {
        for number in running(cluster) {
            let asked = tokio::time::timeout(Duration::from_secs(2), ask(cluster[number].cluster())).await;
            if let Ok(Ok(())) = asked {
                return Some(());
            }
        }
        None
    })
    .await;
}

faults! {
    both;

    /// Members are added and removed one after the other, the leader among them, until none of the first is left.
    async fn every_member_is_replaced(cluster) {
        under_load(cluster, async |cluster, load| {
            for first in 0..3 {
                let new = grow(cluster).await;
                load.goes_on(SOME).await;
                load.meets(cluster[new].client_url());
                let old = if first == 0 { cluster.leader().await } else { running(cluster)[0] };
                shrink(cluster, old).await;
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

            let others = running(cluster);
            change(cluster, async |mut members| {
                members.member_remove(pb::MemberRemoveRequest { id }).await.map(drop)
            })
            .await;
            let peer_urls = vec![cluster[follower].peer_url().to_owned()];
            change(cluster, async |mut members| {
                let request = pb::MemberAddRequest { peer_ur_ls: peer_urls.clone(), is_learner: false };
                members.member_add(request).await.map(drop)
            })
            .await;
            let all: Vec<usize> = others.into_iter().chain([follower]).collect();
            cluster.finds(follower, &all);
            cluster[follower].wipe();
            cluster.launch(follower).await;
            assert_ne!(cluster.id(follower).await, id);
        })
        .await;
    }
}
