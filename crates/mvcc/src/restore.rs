//! From what is on disk back to what is in memory.
//!
//! An entry of the `index` table has all that the tree needs, and a key's newest entry comes first, so a restart reads one
//! entry per key (and steps over the others) and never looks at a value.

use backend::{Backend, Cursor, Table};

use crate::meta::State;
use crate::tree::{Builder, Tree};
use crate::{Error, Result, Revision, index_entry};

/// How many older versions of a key are stepped over before seeking the next key.
const STEPS_MAX: usize = 8;

/// What the writer remembered, checked against the last record.
pub(crate) fn state(backend: &dyn Backend) -> Result<State> {
    let state = State::load(backend)?;
    if let Some((key, _)) = backend.last(Table::Rev)? {
        let last =
            Revision::from_bytes(&key).ok_or_else(|| Error::corrupt(Table::Rev, &key, "no revision"))?;
        if last.main() > state.revision {
            let detail = format!("the record is newer than revision {}", state.revision);
            return Err(Error::corrupt(Table::Rev, &key, detail));
        }
    }
    // There must be room for those that follow.
    if !(1..=i64::MAX / 2).contains(&state.revision) {
        let detail = format!("revision {}, which no store reaches", state.revision);
        return Err(Error::corrupt(Table::Meta, &[], detail));
    }
    if state.scheduled > state.revision {
        let detail = format!("compacted at {}, which is after revision {}", state.scheduled, state.revision);
        return Err(Error::corrupt(Table::Meta, &[], detail));
    }
    Ok(state)
}

/// The live keys.
pub(crate) fn tree(backend: &dyn Backend, revision: i64) -> Result<Tree> {
    let mut entries = backend.scan(Table::Index, &[], None)?;
    let mut builder = Builder::default();
    let (mut place, mut key) = (Vec::new(), Vec::new());
    let mut steps = 0;
    while let Some((entry, value)) = entries.next()? {
        let corrupt = |detail: &str| Error::corrupt(Table::Index, entry, detail);
        let (prefix, at) = index_entry::split(entry).ok_or_else(|| corrupt("no key and revision"))?;
        if prefix == place {
            steps += 1;
            if steps % STEPS_MAX == 0 {
                skip(&mut *entries, &place);
            }
            continue;
        }
        if at.main() > revision {
            return Err(corrupt("the entry is newer than the store"));
        }
        steps = 0;
        place.clear();
        place.extend_from_slice(prefix);
        let meta =
            index_entry::decode_value(value, at).ok_or_else(|| corrupt("the entry does not decode"))?;
        if let Some(meta) = meta {
            key.clear();
            index_entry::decode_key(prefix, &mut key).ok_or_else(|| corrupt("the key does not decode"))?;
            if !builder.takes(&key) {
                return Err(corrupt("the key is not behind the one before it"));
            }
            builder.push(&key, &meta);
        }
    }
    Ok(builder.finish())
}

fn skip(entries: &mut dyn Cursor, place: &[u8]) {
    let mut next = place.to_vec();
    index_entry::behind(&mut next);
    entries.seek(&next);
}

#[cfg(test)]
mod tests {
    use backend::MemBackend;

    use super::*;

    /// Fuzzing's neighbourhood: a store that was told it is at the greatest revision there is believed it, and the next request
    /// added one to that.
    #[test]
    fn a_revision_that_leaves_no_room_is_corrupt() {
        for (revision, fine) in [(1, true), (i64::MAX / 2, true), (i64::MAX, false), (0, false), (-1, false)]
        {
            let backend = MemBackend::new();
            let mut tx = backend.begin();
            State { revision, ..State::default() }.store(&mut tx);
            backend.commit(tx).unwrap();
            assert_eq!(state(&backend).is_ok(), fine, "{revision}");
        }
    }
}
