//! A keyspace as etcd keeps it, going out and coming in.
//!
//! etcd's own file has one bucket `key` with a record for each change: its key is the revision with a mark on deletes, its value the
//! message of ours. So going out is one scan of the `rev` table. Coming in, a record does not say what it supersedes, nor is there an
//! `index`; both follow from the keys that live at each moment, which are remembered on the way.

use std::collections::HashMap;

use api::LeaseId;
use backend::{Backend, Cursor, ReadTx, Table, WriteTx};
use bytes::Bytes;

use crate::history::corrupt_record;
use crate::key_value::{self, KeyValue};
use crate::meta::{Saved, State};
use crate::record::{self, Predecessor, Record};
use crate::{Error, KeyMeta, Result, Revision, index_entry};

/// How large a batch of what comes in grows before it is committed.
const BATCH_BYTES: usize = 4 << 20;

/// A keyspace's changes as etcd's records, in order, and what is compacted.
pub struct Export<'a> {
    records: Box<dyn Cursor + 'a>,
    key: Vec<u8>,
    /// The last compaction that was asked for, −1 for none.
    pub scheduled: i64,
    /// The last compaction that has deleted all it had to, −1 for none.
    pub finished: i64,
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("scheduled", &self.scheduled).finish_non_exhaustive()
    }
}

impl<'a> Export<'a> {
    /// Of the state at one moment.
    ///
    /// # Errors
    /// The backend failed or is corrupt.
    pub fn new(view: &'a dyn ReadTx) -> Result<Self> {
        let (scheduled, finished) = (State::load_from(view)?.scheduled, Saved::load_from(view)?.finished);
        Ok(Self { records: view.scan(Table::Rev, &[], None)?, key: Vec::new(), scheduled, finished })
    }

    /// The next record: etcd's key for the revision, and the `mvccpb.KeyValue`.
    ///
    /// # Errors
    /// The backend failed or is corrupt.
    pub fn next_record(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let Some((key, value)) = self.records.next()? else { return Ok(None) };
        let revision = Revision::from_bytes(key).ok_or_else(|| corrupt_record(key))?;
        let record = Record::decode(value).ok_or_else(|| corrupt_record(key))?;
        self.key.clear();
        if record.tombstone {
            self.key.extend_from_slice(&revision.etcd_tombstone_key());
        } else {
            self.key.extend_from_slice(&revision.etcd_key());
        }
        Ok(Some((&self.key, record.kv)))
    }
}

/// Fills an empty keyspace with etcd's records. Memory grows with the keys that live, not with history.
#[derive(Debug)]
pub struct Import<'a> {
    backend: &'a dyn Backend,
    tx: WriteTx,
    /// Every key that lives, and what the last put made of it.
    live: HashMap<Bytes, KeyMeta>,
    last: Revision,
    written: u64,
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The revision that the store is at.
    pub revision: i64,
    /// How many keys live.
    pub keys: usize,
}

impl<'a> Import<'a> {
    /// Into a backend whose keyspace is empty. Nothing is to be relied on before [`finish`](Self::finish).
    #[must_use]
    pub fn new(backend: &'a dyn Backend) -> Self {
        let tx = backend.begin();
        Self { backend, tx, live: HashMap::new(), last: Revision::default(), written: 0 }
    }

    /// Adds the next record: etcd's key for the revision, and the `mvccpb.KeyValue`.
    ///
    /// # Errors
    /// The record makes no sense, or does not come behind the one before; or the backend failed.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (revision, tombstone) = parse_key(key).ok_or_else(|| strange(key, "it is no revision"))?;
        if revision <= self.last {
            return Err(strange(key, "it does not come behind the one before"));
        }
        self.last = revision;
        if value.is_empty() && !tombstone {
            // Left by etcd's `--bump-revision`, to raise the revision; no key has changed.
            return Ok(());
        }
        let kv = KeyValue::decode(value).filter(|kv| kv.encoded_len() == value.len());
        let kv = kv.ok_or_else(|| strange(key, "the value is no key-value pair"))?;
        let user_key = Bytes::copy_from_slice(kv.key);
        let (mut entry, mut place) = (Vec::new(), Vec::new());
        index_entry::encode_entry(&user_key, revision, &mut place);
        let previous = if tombstone {
            index_entry::encode_tombstone(&mut entry);
            self.live.remove(&user_key)
        } else {
            let meta = KeyMeta {
                create_revision: kv.create_revision,
                mod_revision: revision,
                version: kv.version,
                lease: LeaseId::new(kv.lease),
                value_size: kv.value.len(),
            };
            index_entry::encode_put(&meta, &mut entry);
            if kv.mod_revision != revision.main() || index_entry::decode_value(&entry, revision).is_none() {
                return Err(strange(key, "the key-value pair has impossible numbers"));
            }
            self.live.insert(user_key.clone(), meta)
        };
        let predecessor = previous.map(|previous| Predecessor {
            revision: previous.mod_revision,
            len: key_value::stored_len(&user_key, &previous) as u64,
        });
        let (record, kv_at) = record::encode(&kv, tombstone, predecessor);
        self.written = self.written.saturating_add(record::accounted(record.len() - kv_at));
        self.tx.put_shared(Table::Rev, &revision.to_bytes(), record);
        self.tx.put(Table::Index, &place, &entry);
        if self.tx.len_bytes() >= BATCH_BYTES {
            self.backend.commit(std::mem::replace(&mut self.tx, self.backend.begin()))?;
        }
        Ok(())
    }

    /// Ends it with what is compacted (−1 for nothing). With `bump`, the revision is raised by so much, and all below is
    /// compacted, so that nobody who has seen revisions after this history takes others for the same.
    ///
    /// # Errors
    /// The revisions contradict each other; or the backend failed.
    pub fn finish(mut self, scheduled: i64, finished: i64, bump: Option<i64>) -> Result<Imported> {
        let reached = self.last.main().max(scheduled).max(finished).max(1);
        let strange = |what: &str| Error::corrupt(Table::Meta, &[], what);
        let (revision, scheduled) = match bump {
            None => (reached, scheduled),
            Some(bump) => {
                let raised =
                    reached.checked_add(bump).ok_or_else(|| strange("there are no such revisions"))?;
                (raised, raised)
            }
        };
        // Beyond, there is no room for those that follow.
        if !(1..=i64::MAX / 2).contains(&revision) || finished > scheduled {
            return Err(strange("the revisions of the last compactions make no sense"));
        }
        State { revision, scheduled, written: self.written }.store(&mut self.tx);
        Saved { finished, target: finished, position: Revision::default(), deleted: 0 }.store(&mut self.tx);
        self.backend.commit(self.tx)?;
        Ok(Imported { revision, keys: self.live.len() })
    }
}

/// etcd's key for a revision: main, `_`, sub, and `t` behind that of a delete.
fn parse_key(key: &[u8]) -> Option<(Revision, bool)> {
    let (key, tombstone) = match key {
        [key @ .., b't'] if key.len() == 17 => (key, true),
        key => (key, false),
    };
    let bytes: &[u8; 17] = key.try_into().ok()?;
    let mut plain = [0; Revision::LEN];
    plain[..8].copy_from_slice(&bytes[..8]);
    plain[8..].copy_from_slice(&bytes[9..]);
    let revision = Revision::from_bytes(&plain).filter(|_| bytes[8] == b'_')?;
    u32::try_from(revision.sub()).ok()?;
    Some((revision, tombstone))
}

fn strange(key: &[u8], detail: &str) -> Error {
    Error::corrupt(Table::Rev, key, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backend::MemBackend;
    use proptest::prelude::*;

    use super::*;
    use crate::{RangeOptions, Store};

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn export(backend: &dyn Backend) -> (Records, i64, i64) {
        let view = backend.read().unwrap();
        let mut export = Export::new(&*view).unwrap();
        let mut records = Records::new();
        while let Some((key, value)) = export.next_record().unwrap() {
            records.push((key.to_vec(), value.to_vec()));
        }
        (records, export.scheduled, export.finished)
    }

    fn import(
        records: &Records,
        scheduled: i64,
        finished: i64,
        bump: Option<i64>,
    ) -> Result<Arc<MemBackend>> {
        let backend = Arc::new(MemBackend::new());
        let mut import = Import::new(&*backend);
        for (key, value) in records {
            import.add(key, value)?;
        }
        import.finish(scheduled, finished, bump)?;
        Ok(backend)
    }

    /// Keys are few, so that they are put, deleted and put again.
    fn apply(store: &mut Store, steps: &[(u8, u8)]) {
        for (what, key) in steps {
            let mut txn = store.write();
            let key = Bytes::from(format!("k{}", key % 5));
            let compaction = match what % 8 {
                0..=3 => {
                    txn.put(key.clone(), format!("v{what}").into(), LeaseId::new(i64::from(what % 3)))
                        .unwrap();
                    txn.put("all".into(), key, LeaseId::NONE).unwrap();
                    None
                }
                4 | 5 => {
                    txn.delete_range(&key, &Bytes::new()).unwrap();
                    None
                }
                6 => {
                    txn.delete_range(&"k".into(), &"l".into()).unwrap();
                    txn.put(key, Bytes::new(), LeaseId::NONE).unwrap();
                    None
                }
                _ => {
                    let at = txn.revision() - i64::from(what / 8 % 4);
                    txn.compact(at).ok()
                }
            };
            txn.end_request();
            txn.commit().unwrap();
            if let Some(compaction) = compaction {
                while compaction.run_chunk(3).unwrap() {}
            }
        }
    }

    fn look(store: &Store) -> Vec<String> {
        let reader = store.reader();
        (0..=reader.revision())
            .map(|revision| {
                let mut all = RangeOptions::new("\0", "\0");
                all.revision = revision;
                format!("{revision}: {:?} {:?}", reader.range(&all), reader.hash_kv(revision))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_goes_out_and_comes_in_is_the_same_keyspace_and_stays_so(
            before in prop::collection::vec(any::<(u8, u8)>(), 0..30),
            after in prop::collection::vec(any::<(u8, u8)>(), 0..20),
        ) {
            let backend = Arc::new(MemBackend::new());
            let mut store = Store::open(Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
            apply(&mut store, &before);
            // Hashes that compactions leave behind are forgotten by a restart.
            let mut store = Store::open(Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
            let (records, scheduled, finished) = export(&*backend);
            let copy = import(&records, scheduled, finished, None).unwrap();
            let mut copied = Store::open(Arc::clone(&copy) as Arc<dyn Backend>).unwrap();
            prop_assert_eq!(look(&copied), look(&store));
            prop_assert_eq!(&export(&*copy).0, &records);
            apply(&mut store, &after);
            apply(&mut copied, &after);
            prop_assert_eq!(look(&copied), look(&store));
            prop_assert_eq!(export(&*copy), export(&*backend));
        }
    }

    #[test]
    fn a_bumped_revision_compacts_all_that_was_before() {
        let backend = Arc::new(MemBackend::new());
        let mut store = Store::open(Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
        apply(&mut store, &[(0, 0), (1, 1), (4, 0)]);
        let (records, scheduled, finished) = export(&*backend);
        let bumped = import(&records, scheduled, finished, Some(1000)).unwrap();
        let store = Store::open(bumped).unwrap();
        let reader = store.reader();
        assert_eq!(reader.revision(), 1004);
        let mut all = RangeOptions::new("\0", "\0");
        assert_eq!(reader.range(&all).unwrap().count, 2);
        all.revision = 1003;
        assert!(matches!(reader.range(&all), Err(Error::Compacted)));
        let compaction = store.interrupted_compaction().expect("it is yet to be run");
        while compaction.run_chunk(3).unwrap() {}
        all.revision = 1004;
        assert_eq!(reader.range(&all).unwrap().count, 2);
    }

    #[test]
    fn records_that_make_no_sense_are_refused() {
        let backend = Arc::new(MemBackend::new());
        let mut store = Store::open(Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
        apply(&mut store, &[(0, 0), (1, 1), (4, 0)]);
        let (records, ..) = export(&*backend);
        assert!(import(&records, -1, -1, None).is_ok());
        let check = |change: &dyn Fn(&mut Records), what: &str| {
            let mut records = records.clone();
            change(&mut records);
            let error = import(&records, -1, -1, None).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        check(&|records| records.swap(0, 1), "behind the one before");
        check(&|records| records[1].0[8] = b'-', "no revision");
        check(&|records| records[1].0.truncate(16), "no revision");
        check(&|records| records[1].0.push(b'u'), "no revision");
        check(&|records| records[1].1.push(0xff), "no key-value pair");
        check(&|records| records[2].1 = records[0].1.clone(), "impossible numbers");
        assert!(import(&records, 3, 5, None).is_err());
        assert!(import(&records, -1, -1, Some(i64::MAX)).is_err());
    }
}
