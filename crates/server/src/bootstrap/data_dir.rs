//! The data directory: whether it is this program's, and what it remembers of the first start.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use api::{ClusterId, MemberId};
use raftlog::Member;
use serde::{Deserialize, Serialize};

use super::{Identity, MemberRecord};
use crate::error::{Error, Result};

/// The version of the layout under `member/`. A newer one is refused.
const FORMAT: u32 = 1;

/// Its presence says that the data must not be served; it says why.
const FENCE: &str = "DIVERGED";

/// Where a member keeps what.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    /// `<data-dir>/member`, which the log shares.
    pub(crate) member: PathBuf,
    /// The replicated state.
    pub(crate) state: PathBuf,
    /// The directory has been used before.
    pub(crate) initialized: bool,
}

/// What the first start was told of the cluster. The log needs it until it has entries of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The cluster was there before this member.
    pub(crate) joined: bool,
    /// The members, as the flags or the running cluster named them.
    pub(crate) members: Vec<MemberRecord>,
}

impl Origin {
    /// The members that found the cluster, as the log takes them; none for a member that joins.
    pub(crate) fn founders(&self) -> BTreeMap<u64, Member> {
        if self.joined {
            return BTreeMap::new();
        }
        let founder = |member: &MemberRecord| (member.id, Member { peer_urls: member.peer_urls.clone() });
        self.members.iter().map(founder).collect()
    }
}

impl DataDir {
    /// Makes the directories, or finds them, and refuses a layout that is newer than this program.
    ///
    /// # Errors
    /// The directory cannot be made or read, belongs to something else, or holds what must not be served.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let member = data_dir.join("member");
        if member.join("wal").exists() {
            return Err(Error::DataDir(format!(
                "{} holds the data of an etcd, which this version cannot read; choose another --data-dir",
                data_dir.display()
            )));
        }
        let fence = member.join(FENCE);
        if fence.exists() {
            let why = fs::read_to_string(&fence).map_err(Error::io(format!("read {}", fence.display())))?;
            return Err(Error::Diverged(why.trim_end().to_owned()));
        }
        let format = member.join("FORMAT");
        let initialized = format.exists();
        if initialized {
            check_format(&format)?;
        } else {
            private_dir(data_dir)?;
            private_dir(&member)?;
            write_synced(&format, format!("{FORMAT}\n").as_bytes())?;
        }
        Ok(Self { state: member.join("state"), member, initialized })
    }

    /// Makes what will be a `member` directory, under another name until it is complete.
    ///
    /// # Errors
    /// The directory is there, or cannot be made.
    pub(crate) fn create(member: &Path) -> Result<Self> {
        if member.exists() {
            return Err(Error::DataDir(format!("{} exists", member.display())));
        }
        private_dir(member)?;
        write_synced(&member.join("FORMAT"), format!("{FORMAT}\n").as_bytes())?;
        Ok(Self { state: member.join("state"), member: member.to_owned(), initialized: true })
    }

    /// The identity that was given at the first start.
    pub(crate) fn identity(&self) -> Result<Option<Identity>> {
        let path = self.member.join("IDENTITY");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io(format!("read {}", path.display()))(source)),
        };
        let mut ids = text.split_whitespace().map(|id| u64::from_str_radix(id, 16));
        match (ids.next(), ids.next()) {
            (Some(Ok(member)), Some(Ok(cluster))) => {
                Ok(Some(Identity { member_id: MemberId::new(member), cluster_id: ClusterId::new(cluster) }))
            }
            _ => {
                Err(Error::DataDir(format!("{} does not hold two ids; restore this member", path.display())))
            }
        }
    }

    /// What the first start was told of the cluster; nothing if that start did not come so far.
    pub(crate) fn origin(&self) -> Result<Origin> {
        let path = self.member.join("ORIGIN");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                Error::DataDir(format!(
                    "{} does not name members ({error}); restore this member",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Origin::default()),
            Err(source) => Err(Error::io(format!("read {}", path.display()))(source)),
        }
    }

    /// Remembers the identity, before anything is done under it, and before that what it was made of.
    pub(crate) fn remember(&self, identity: Identity, origin: &Origin) -> Result<()> {
        write_synced(
            &self.member.join("ORIGIN"),
            format!("{}\n", serde_json::to_string(origin).expect("an origin is plain data")).as_bytes(),
        )?;
        let text = format!("{} {}\n", identity.member_id, identity.cluster_id);
        write_synced(&self.member.join("IDENTITY"), text.as_bytes())
    }
}

/// Remembers that the data in `data_dir` must not be served again, and why.
///
/// # Errors
/// It could not be written.
pub(crate) fn fence(data_dir: &Path, why: &str) -> Result<()> {
    write_synced(&data_dir.join("member").join(FENCE), format!("{why}\n").as_bytes())
}

fn check_format(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))?;
    match text.trim().parse::<u32>() {
        Ok(format) if format <= FORMAT => Ok(()),
        Ok(format) => Err(Error::DataDir(format!(
            "{} says format {format}, written by a newer etcd-rs; this one reads formats up to {FORMAT}: upgrade it",
            path.display()
        ))),
        Err(_) => Err(Error::DataDir(format!("{} holds no format number", path.display()))),
    }
}

/// A directory for this user only, as etcd makes it.
fn private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io(format!("create directory {}", path.display())))
}

/// Writes a small file whole or not at all, and makes it stay.
fn write_synced(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        fs::write(&temporary, content)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    write().map_err(Error::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!DataDir::open(dir.path()).unwrap().initialized);
        let data_dir = DataDir::open(dir.path()).unwrap();
        assert!(data_dir.initialized);
        assert_eq!(data_dir.identity().unwrap(), None);
        let identity = Identity { member_id: MemberId::new(1), cluster_id: ClusterId::new(0xab) };
        let member = MemberRecord { id: 1, name: "a".to_owned(), ..MemberRecord::default() };
        let origin = Origin { joined: true, members: vec![member] };
        data_dir.remember(identity, &origin).unwrap();
        assert_eq!(data_dir.identity().unwrap(), Some(identity));
        assert_eq!(data_dir.origin().unwrap(), origin);
    }

    #[test]
    fn a_newer_format_and_the_data_of_an_etcd_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("member/FORMAT"), "2\n").unwrap();
        let newer = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(newer.contains("says format 2, written by a newer etcd-rs"), "{newer}");

        let etcd = tempfile::tempdir().unwrap();
        fs::create_dir_all(etcd.path().join("member/wal")).unwrap();
        assert!(DataDir::open(etcd.path()).unwrap_err().to_string().contains("data of an etcd"));
    }
}
