//! Before a member runs: who it is, and whether its data is its own and readable.

use std::fs;
use std::path::{Path, PathBuf};

use api::{ClusterId, MemberId};
use sha1::{Digest as _, Sha1};

use crate::config::Config;
use crate::error::{Error, Result};

/// The version of the layout under `member/`. A newer one is refused.
const FORMAT: u32 = 1;

/// Who the member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: MemberId,
    pub(crate) cluster_id: ClusterId,
}

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

/// The first eight bytes, as etcd makes ids of hashes.
fn id_of(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has twenty bytes"))
}

/// A member's id: a hash of its peer URLs, sorted, and the cluster's token. etcd `server/etcdserver/api/membership/member.go`.
fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    MemberId::new(id_of((urls.concat() + token).as_bytes()))
}

/// A cluster's id: a hash of its first members' ids. etcd `server/etcdserver/api/membership/cluster.go`.
fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|id| id.get()).collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    ClusterId::new(id_of(&bytes))
}

/// The identity a new member gets from its flags.
///
/// # Errors
/// The initial cluster does not name this member, contradicts its URLs, or has more members than this version runs.
pub(crate) fn identity(config: &Config) -> Result<Identity> {
    let mut own = Vec::new();
    let mut others = false;
    for member in config.initial_cluster.split(',') {
        match member.split_once('=') {
            Some((name, url)) if name == config.name => own.push(url.to_owned()),
            _ => others = true,
        }
    }
    if own.is_empty() {
        return Err(Error::config(format!(
            "couldn't find local name {:?} in the initial cluster configuration",
            config.name
        )));
    }
    if others {
        return Err(Error::config("this version runs one member; --initial-cluster names several"));
    }
    own.sort();
    let mut advertised = config.initial_advertise_peer_urls.clone();
    advertised.sort();
    if own != advertised {
        return Err(Error::config(format!(
            "--initial-cluster has {}={} but missing from --initial-advertise-peer-urls={}",
            config.name,
            own.join(","),
            advertised.join(",")
        )));
    }
    let member_id = member_id(&own, &config.initial_cluster_token);
    Ok(Identity { member_id, cluster_id: cluster_id(&[member_id]) })
}

impl DataDir {
    /// Makes the directories, or finds them, and refuses a layout that is newer than this program.
    ///
    /// # Errors
    /// The directory cannot be made or read, or belongs to something else.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let member = data_dir.join("member");
        if member.join("wal").exists() {
            return Err(Error::DataDir(format!(
                "{} holds the data of an etcd, which this version cannot read; choose another --data-dir",
                data_dir.display()
            )));
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

    /// Remembers the identity, before anything is done under it.
    pub(crate) fn remember(&self, identity: Identity) -> Result<()> {
        let text = format!("{} {}\n", identity.member_id, identity.cluster_id);
        write_synced(&self.member.join("IDENTITY"), text.as_bytes())
    }
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
    fn ids_are_those_of_etcd_for_the_same_urls_and_token() {
        let identity = identity(&Config::default()).unwrap();
        assert_eq!(identity.member_id.to_string(), "8e9e05c52164694d");
        assert_eq!(identity.cluster_id.to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn an_initial_cluster_must_name_this_member_with_its_urls() {
        let refused = |edit: fn(&mut Config)| {
            let mut config = Config::default();
            edit(&mut config);
            identity(&config).unwrap_err().to_string()
        };
        assert_eq!(
            refused(|c| c.name = "a".to_owned()),
            "couldn't find local name \"a\" in the initial cluster configuration"
        );
        assert_eq!(
            refused(|c| c.initial_cluster = "default=http://localhost:1".to_owned()),
            "--initial-cluster has default=http://localhost:1 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380"
        );
        assert!(
            refused(|c| c.initial_cluster += ",b=http://localhost:3").starts_with("this version runs one")
        );
    }

    #[test]
    fn a_newer_format_and_the_data_of_an_etcd_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!DataDir::open(dir.path()).unwrap().initialized);
        let data_dir = DataDir::open(dir.path()).unwrap();
        assert!(data_dir.initialized);
        assert_eq!(data_dir.identity().unwrap(), None);
        let identity = identity(&Config::default()).unwrap();
        data_dir.remember(identity).unwrap();
        assert_eq!(data_dir.identity().unwrap(), Some(identity));

        fs::write(dir.path().join("member/FORMAT"), "2\n").unwrap();
        let newer = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(newer.contains("says format 2, written by a newer etcd-rs"), "{newer}");

        let etcd = tempfile::tempdir().unwrap();
        fs::create_dir_all(etcd.path().join("member/wal")).unwrap();
        assert!(DataDir::open(etcd.path()).unwrap_err().to_string().contains("data of an etcd"));
    }
}
