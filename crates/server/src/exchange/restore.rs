//! A data directory from a snapshot: the first start finds everything, and is the first of a new cluster.
//!
//! ```text
//! <data-dir>/member.part/   state/ (keys, leases, users, alarms), then who the member is and with whom
//!         ──rename──►  <data-dir>/member/      at the very end, so that there is all of it or nothing
//! ```
//!
//! The log is empty: its first entry will be the new membership. So of what the snapshot says, members, removed members and the
//! position in the old log are left out, as etcd's own restoring leaves them out.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::etcdserverpb::AlarmMember;
use backend::{Backend, DiskBackend, Table, WriteTx};
use boltdb::{Reader, Record};
use mvcc::{Import, Imported};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    ALARM, AUTH, AUTH_ROLES, AUTH_USERS, FINISHED_COMPACT_REV, KEY, LEASE, META, SCHEDULED_COMPACT_REV,
};
use crate::apply::{Alarms, alarm_key};
use crate::bootstrap::{self, DataDir};
use crate::config::Config;
use crate::error::{Error, Result};

/// A hash behind a snapshot has so many bytes, and without one its length is a multiple of [`SECTOR`].
const TRAILER: u64 = 32;
const SECTOR: u64 = 512;

/// Makes the data directory of a member of a new cluster from a snapshot, with etcd's checks and words.
///
/// The snapshot is one of etcd-rs or of an etcd 3, or the file `member/snap/db` of an etcd that does not run.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The file.
    pub snapshot: PathBuf,
    /// Where to; must not be there, or be empty.
    pub data_dir: PathBuf,
    /// A directory that must not be there, if one is named. The log lies in the data directory all the same.
    pub wal_dir: Option<PathBuf>,
    /// The member's name.
    pub name: String,
    /// The members of the new cluster, as the server's flag has them.
    pub initial_cluster: String,
    /// Sets clusters of the same URLs apart.
    pub initial_cluster_token: String,
    /// This member's URLs for the others.
    pub initial_advertise_peer_urls: Vec<String>,
    /// The file has no hash behind it, as a database file has none.
    pub skip_hash_check: bool,
    /// By how much the revision is raised, and everything below compacted.
    pub bump_revision: Option<i64>,
}

impl Restore {
    /// Does it, and tells what came in. What it has begun is removed if it fails.
    ///
    /// # Errors
    /// The flags contradict each other, a directory is in the way, or the file is damaged or is no snapshot.
    pub async fn run(&self) -> Result<Imported> {
        let config = Config {
            data_dir: self.data_dir.clone(),
            name: self.name.clone(),
            initial_cluster: self.initial_cluster.clone(),
            initial_cluster_token: self.initial_cluster_token.clone(),
            initial_advertise_peer_urls: self.initial_advertise_peer_urls.clone(),
            ..Config::default()
        };
        let (identity, origin) = bootstrap::founder(&config).await?;
        self.check_directories()?;
        self.check_hash()?;
        let reader = Reader::open(&self.snapshot)?;
        let part = self.data_dir.join("member.part");
        let written = DataDir::create(&part).and_then(|dir| {
            let imported = fill(&reader, &dir.state, self.bump_revision)?;
            dir.remember(identity, &origin)?;
            let member = self.data_dir.join("member");
            fs::rename(&part, &member).map_err(Error::io(format!("rename to {}", member.display())))?;
            let sync = || File::open(&self.data_dir)?.sync_all();
            sync().map_err(Error::io(format!("sync {}", self.data_dir.display())))?;
            Ok(imported)
        });
        if written.is_err() {
            drop(fs::remove_dir_all(&part));
        }
        written
    }

    fn check_directories(&self) -> Result<()> {
        let empty = match fs::read_dir(&self.data_dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if !empty {
            let dir = self.data_dir.display();
            return Err(Error::DataDir(format!("data-dir \"{dir}\" not empty or could not be read")));
        }
        match &self.wal_dir {
            Some(dir) if dir.exists() => Err(Error::DataDir(format!("wal-dir \"{}\" exists", dir.display()))),
            _ => Ok(()),
        }
    }

    /// Compares the hash behind the file with that of the file.
    fn check_hash(&self) -> Result<()> {
        let open = || format!("open {}", self.snapshot.display());
        let file = match File::open(&self.snapshot) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::DataDir(format!("{}: no such file or directory", open())));
            }
            file => file.map_err(Error::io(open()))?,
        };
        let len = file.metadata().map_err(Error::io(open()))?.len();
        if len % SECTOR != TRAILER {
            if self.skip_hash_check {
                return Ok(());
            }
            return Err(Error::DataDir("snapshot missing hash but --skip-hash-check=false".to_owned()));
        }
        if self.skip_hash_check {
            return Ok(());
        }
        let mut database = (&file).take(len - TRAILER);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let read = || format!("read {}", self.snapshot.display());
        loop {
            match database.read(&mut buffer).map_err(Error::io(read()))? {
                0 => break,
                bytes => hash.update(&buffer[..bytes]),
            }
        }
        let mut expected = [0; 32];
        (&file).read_exact(&mut expected).map_err(Error::io(read()))?;
        let found: [u8; 32] = hash.finalize().into();
        if found == expected {
            return Ok(());
        }
        let list = |hash: [u8; 32]| hash.map(|byte| byte.to_string()).join(" ");
        Err(Error::DataDir(format!("expected sha256 [{}], got [{}]", list(expected), list(found))))
    }
}

/// Writes the state, and sees that a member could start with it.
fn fill(reader: &Reader<File>, state: &Path, bump: Option<i64>) -> Result<Imported> {
    let backend = DiskBackend::open(state, backend::Options::default())?;
    let imported = keys(reader, &backend, bump)?;
    let mut tx = backend.begin();
    for (bucket, table) in [
        (AUTH, Table::Auth),
        (AUTH_ROLES, Table::AuthRoles),
        (AUTH_USERS, Table::AuthUsers),
        (LEASE, Table::Lease),
    ] {
        each(reader, bucket, |record| {
            tx.put(table, record.key, record.value);
            commit_if_large(&backend, &mut tx)
        })?;
    }
    each(reader, ALARM, |record| {
        let alarm = AlarmMember::decode(record.key)
            .map_err(|error| Error::DataDir(format!("an alarm of the snapshot does not decode: {error}")))?;
        tx.put(Table::Alarm, &alarm_key(alarm.alarm, alarm.member_id), &[]);
        Ok(())
    })?;
    backend.commit(tx)?;
    lease::Lessor::open(&backend, lease::Options::default())?;
    auth::AuthStore::open(&backend)?;
    Alarms::open(&backend)?;
    backend.flush()?;
    Ok(imported)
}

/// How large a batch grows before it is committed.
const BATCH_BYTES: usize = 4 << 20;

fn commit_if_large(backend: &dyn Backend, tx: &mut WriteTx) -> Result<()> {
    if tx.len_bytes() >= BATCH_BYTES {
        backend.commit(std::mem::replace(tx, backend.begin()))?;
    }
    Ok(())
}

fn keys(reader: &Reader<File>, backend: &DiskBackend, bump: Option<i64>) -> Result<Imported> {
    let missing = || Error::Snapshot(boltdb::Error::Invalid);
    // A file of bbolt without the buckets of etcd is somebody else's.
    let meta = reader.bucket(META)?.ok_or_else(missing)?;
    reader.bucket(KEY)?.ok_or_else(missing)?;
    let compaction = |key: &[u8]| -> Result<i64> {
        let Some(value) = meta.get(key)? else { return Ok(-1) };
        let main = value.first_chunk().filter(|_| value.len() == 17);
        main.map(|main| i64::from_be_bytes(*main)).ok_or_else(|| {
            Error::DataDir(format!("{} of the snapshot is no revision", String::from_utf8_lossy(key)))
        })
    };
    let (scheduled, finished) = (compaction(SCHEDULED_COMPACT_REV)?, compaction(FINISHED_COMPACT_REV)?);
    let mut import = Import::new(backend);
    each(reader, KEY, |record| Ok(import.add(record.key, record.value)?))?;
    Ok(import.finish(scheduled, finished, bump)?)
}

/// Visits the records of a bucket, which may be missing: not every version of etcd has every one.
fn each(
    reader: &Reader<File>,
    bucket: &[u8],
    mut visit: impl FnMut(&Record<'_>) -> Result<()>,
) -> Result<()> {
    let Some(bucket) = reader.bucket(bucket)? else { return Ok(()) };
    let mut records = bucket.cursor();
    while let Some(record) = records.next_record()? {
        visit(&record)?;
    }
    Ok(())
}
