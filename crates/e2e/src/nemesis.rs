//! What befalls a cluster, in an order that follows from a seed: one harm at a time, held for a while and undone, with
//! a moment of peace before the next.

use std::fmt;
use std::time::Duration;

use crate::load::Load;
use crate::network::Weather;
use crate::random::Source;
use crate::{Cluster, eventually};

/// A harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A member's process is killed.
    Kill(Whom),
    /// A member is stopped as a service manager does it.
    Stop(Whom),
    /// All processes are killed at once.
    KillAll,
    /// A member's process sleeps.
    Pause(Whom),
    /// A member hears nobody and is heard by nobody.
    CutOff(Whom),
    /// A member is heard and hears nothing.
    Deafen(Whom),
    /// A member hears and is not heard.
    Silence(Whom),
    /// No two members hear each other.
    PartAll,
    /// The links of a member break over and over.
    Flap(Whom),
    /// All links are slow, and lose much.
    Slow,
    /// A member is added and another removed.
    Replace(Whom),
}

/// A member, by what it is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The leader.
    Leader,
    /// Any other.
    Follower,
}

/// How much is acknowledged in a moment of peace.
const PEACE: u64 = 30;

/// Links slow enough to hurt, and not so slow that the usual election timeout is too short.
const SLOW: Weather = Weather { blocked: false, delay: Duration::from_millis(60), lost_percent: 5 };

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(whom) => write!(f, "kill {whom}"),
            Self::Stop(whom) => write!(f, "stop {whom}"),
            Self::KillAll => f.write_str("kill all members"),
            Self::Pause(whom) => write!(f, "pause {whom}"),
            Self::CutOff(whom) => write!(f, "cut off {whom}"),
            Self::Deafen(whom) => write!(f, "deafen {whom}"),
            Self::Silence(whom) => write!(f, "silence {whom}"),
            Self::PartAll => f.write_str("part all members"),
            Self::Flap(whom) => write!(f, "flap the links of {whom}"),
            Self::Slow => f.write_str("slow all links"),
            Self::Replace(whom) => write!(f, "replace {whom}"),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "the leader",
            Self::Follower => "a follower",
        })
    }
}

impl Harm {
    /// Any harm.
    pub fn any(source: &mut Source) -> Self {
        let whom = if source.below(2) == 0 { Whom::Leader } else { Whom::Follower };
        match source.below(12) {
            0 | 1 => Self::Kill(whom),
            2 => Self::Stop(whom),
            3 => Self::KillAll,
            4 | 5 => Self::Pause(whom),
            6 => Self::CutOff(whom),
            7 => Self::Deafen(whom),
            8 => Self::Silence(whom),
            9 => Self::PartAll,
            10 => Self::Flap(whom),
            _ => Self::Slow,
        }
    }

    /// Does it, holds it for a while, undoes it, and waits until the cluster serves again.
    ///
    /// # Panics
    /// When the cluster does not.
    pub async fn befall(self, cluster: &mut Cluster, load: &Load, hold: Duration) {
        match self {
            Self::Kill(whom) => {
                let member = find(cluster, whom).await;
                cluster[member].kill();
                tokio::time::sleep(hold).await;
                cluster.launch(member).await;
            }
            Self::Stop(whom) => {
                let member = find(cluster, whom).await;
                cluster[member].stop("TERM").await;
                tokio::time::sleep(hold).await;
                cluster.launch(member).await;
            }
            Self::KillAll => kill_all(cluster, hold).await,
            Self::Pause(whom) => {
                let member = find(cluster, whom).await;
                cluster[member].signal("STOP");
                tokio::time::sleep(hold).await;
                cluster[member].signal("CONT");
            }
            Self::CutOff(_) | Self::Deafen(_) | Self::Silence(_) | Self::PartAll | Self::Slow => {
                self.spoil(cluster).await;
                tokio::time::sleep(hold).await;
                cluster.network().heal();
            }
            Self::Flap(whom) => flap(cluster, whom, hold).await,
            Self::Replace(whom) => {
                let new = cluster.grow().await;
                load.meets(cluster[new].client_url());
                let old = eventually("another than the new member", async || {
                    Some(find(cluster, whom).await).filter(|old| *old != new)
                });
                let old = old.await;
                cluster.shrink(old).await;
            }
        }
        load.goes_on(PEACE).await;
    }

    /// Makes the network bad.
    async fn spoil(self, cluster: &Cluster) {
        let (members, network) = (cluster.numbers().len(), cluster.network());
        match self {
            Self::CutOff(whom) => network.part(members, &[find(cluster, whom).await]),
            Self::Deafen(whom) => {
                let deaf = find(cluster, whom).await;
                for other in cluster.numbers().filter(|other| *other != deaf) {
                    network.set(other, deaf, Weather::BLOCKED);
                }
            }
            Self::Silence(whom) => {
                let mute = find(cluster, whom).await;
                for other in cluster.numbers().filter(|other| *other != mute) {
                    network.set(mute, other, Weather::BLOCKED);
                }
            }
            Self::PartAll => network.set_everywhere(members, Weather::BLOCKED),
            _ => network.set_everywhere(members, SLOW),
        }
    }
}

async fn find(cluster: &Cluster, whom: Whom) -> usize {
    match whom {
        Whom::Leader => cluster.leader().await,
        Whom::Follower => cluster.follower().await,
    }
}

async fn kill_all(cluster: &mut Cluster, hold: Duration) {
    let members = cluster.running();
    for member in &members {
        cluster[*member].kill();
    }
    tokio::time::sleep(hold).await;
    for member in &members {
        cluster.begin(*member).await;
    }
    for member in members {
        cluster[member].serves().await;
    }
}

async fn flap(cluster: &Cluster, whom: Whom, hold: Duration) {
    let member = find(cluster, whom).await;
    let times = 8;
    for _ in 0..times {
        for other in cluster.numbers().filter(|other| *other != member) {
            cluster.network().set_between(member, other, Weather::BLOCKED);
            cluster.network().cut(member, other);
        }
        tokio::time::sleep(hold / times / 4).await;
        cluster.network().heal();
        tokio::time::sleep(hold / times).await;
    }
}
