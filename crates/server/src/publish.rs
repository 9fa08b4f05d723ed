//! A member tells its cluster who it is, before it serves anybody.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::Member;
use api::internal::{MemberPublish, MembersFound};
use api::status;
use raftlog::Node;

use crate::apply::Standing;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::member::Shared;
use crate::proposal::Command;
use crate::versions;

/// The pause before trying again.
const RETRY: Duration = Duration::from_millis(100);

/// Waits until there is a leader, sees to it that the cluster has members if this one founds it with `founders`, and tells it this
/// member's name and client URLs.
///
/// # Errors
/// The log fails, the member stops, or it was removed.
pub(crate) async fn publish(
    config: &Config,
    shared: &Arc<Shared>,
    node: &Node,
    founders: Vec<Member>,
) -> Result<()> {
    tokio::select! {
        published = publish_somehow(config, shared, node, founders) => published,
        error = node.failed() => Err(error.into()),
    }
}

async fn publish_somehow(
    config: &Config,
    shared: &Arc<Shared>,
    node: &Node,
    founders: Vec<Member>,
) -> Result<()> {
    let mut leadership = node.leadership();
    // It ends only when the log does, and then there is an error to wait for.
    drop(leadership.wait_for(|leadership| leadership.leader.is_some()).await);
    if !founders.is_empty() && *shared.members.standing().borrow() == Standing::Unknown {
        let found = Command::members_found(&MembersFound { members: founders });
        until_proposed(shared, &found).await?;
    }
    let own = own_record(shared).await?;
    let published = Member {
        name: config.name.clone(),
        client_ur_ls: config.advertise_client_urls.clone(),
        ..own.clone()
    };
    if own != published {
        let publish = Command::member_publish(&MemberPublish { member: Some(published) });
        until_proposed(shared, &publish).await?;
    }
    tracing::info!("published local member to cluster through raft");
    if shared.members.version().is_none() {
        versions::agree(shared, &[Some(versions::own())]).await;
    }
    Ok(())
}

/// This member's record; one that joins learns it only from the log.
async fn own_record(shared: &Shared) -> Result<Member> {
    let mut standing = shared.members.standing();
    loop {
        let now =
            standing.wait_for(|standing| *standing != Standing::Unknown).await.map(|standing| *standing);
        match (now, shared.members.get(shared.member_id.get())) {
            (Ok(Standing::Removed) | Err(_), _) => return Err(Error::Removed),
            (Ok(_), Some(member)) => return Ok(member),
            // It was removed in between.
            (Ok(_), None) => {}
        }
    }
}

async fn until_proposed(shared: &Arc<Shared>, command: &Command) -> Result<()> {
    loop {
        match shared.proposals.propose(command.clone()).await {
            Ok(_) => return Ok(()),
            Err(status::STOPPED) => {
                return Err(Error::DataDir("the member stopped while it started".to_owned()));
            }
            Err(status) => {
                tracing::warn!(
                    error = status.text(),
                    "failed to publish local member to cluster through raft"
                );
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
