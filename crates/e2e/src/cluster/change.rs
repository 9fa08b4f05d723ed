//! Members that are added and removed while the cluster runs.

use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::cluster_client::ClusterClient;
use tonic::Status;
use tonic::transport::Channel;

use super::Cluster;
use crate::eventually;

/// One try takes no longer; another member may know better.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cluster {
    /// Adds a member, through any other, starts it, and waits until it serves.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn grow(&mut self) -> usize {
        let number = self.prepare().await;
        self.admit(number).await;
        number
    }

    /// Adds a member that does not run to the cluster, and starts it without data from a former life.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn admit(&mut self, number: usize) {
        let mut members = self.running();
        let peer_urls = vec![self[number].peer_url().to_owned()];
        self.change(async |mut cluster| {
            let request = pb::MemberAddRequest { peer_ur_ls: peer_urls.clone(), is_learner: false };
            // A try whose answer was lost may have done it.
            let added = cluster.member_add(request).await.map(drop);
            added.or_else(
                |refused| if says(&refused, "Peer URLs already exists") { Ok(()) } else { Err(refused) },
            )
        })
        .await;
        members.push(number);
        self.finds(number, &members);
        if self[number].data_dir().exists() {
            self[number].wipe();
        }
        self.launch(number).await;
    }

    /// Removes a member, whose process is to end by itself if it runs.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn shrink(&mut self, number: usize) {
        self.dismiss(self.id(number).await).await;
        eventually("the end of a removed member", async || self[number].ended()).await;
        self[number].kill();
    }

    /// Removes a member by its id.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn dismiss(&self, id: u64) {
        self.change(async |mut cluster| {
            let removed = cluster.member_remove(pb::MemberRemoveRequest { id }).await.map(drop);
            removed.or_else(|refused| if says(&refused, "member not found") { Ok(()) } else { Err(refused) })
        })
        .await;
    }

    /// Asks for a change, by one member after the other, until it is made: some are refused while members come up.
    async fn change(&self, ask: impl AsyncFn(ClusterClient<Channel>) -> Result<(), Status>) {
        eventually("a change of the membership", async || {
            for number in self.running() {
                let asked = tokio::time::timeout(PATIENCE, ask(self[number].cluster())).await;
                if let Ok(Ok(())) = asked {
                    return Some(());
                }
            }
            None
        })
        .await;
    }
}

fn says(refused: &Status, text: &str) -> bool {
    refused.message().contains(text)
}
