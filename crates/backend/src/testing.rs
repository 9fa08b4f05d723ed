//! What any engine must pass.

use std::path::Path;
use std::sync::Arc;

use crate::{Backend, Cursor, Result, Table, WriteTx};

type Open<'a> = &'a dyn Fn() -> Arc<dyn Backend>;
type Check = fn(Open<'_>) -> Result<()>;

/// Runs every check on a fresh backend of its own.
///
/// # Panics
/// The engine breaks a promise; the message says which.
pub fn suite(open: impl Fn() -> Arc<dyn Backend>) {
    let checks: [(&str, Check); 10] = [
        ("a commit is visible on return", a_commit_is_visible_on_return),
        ("later operations of a batch win", later_operations_of_a_batch_win),
        ("tables do not see each other", tables_do_not_see_each_other),
        ("scans keep their bounds and order", scans_keep_their_bounds_and_order),
        ("a scan sees one moment", a_scan_sees_one_moment),
        ("a read sees one moment of all tables", a_read_sees_one_moment_of_all_tables),
        ("cursors seek forward", cursors_seek_forward),
        ("ranges are deleted", ranges_are_deleted),
        ("what is flushed is persisted", what_is_flushed_is_persisted),
        ("writers and readers go together", writers_and_readers_go_together),
    ];
    for (name, check) in checks {
        if let Err(error) = check(&open) {
            panic!("{name}: {error}");
        }
    }
}

/// Checks that a checkpoint, made in the directory `dir` which must not exist, replaces everything.
///
/// # Panics
/// It does not, or it touches what an older reader sees.
pub fn replacement(open: impl Fn() -> Arc<dyn Backend>, dir: &Path) {
    if let Err(error) = a_checkpoint_replaces_everything(&open, dir) {
        panic!("a checkpoint replaces everything: {error}");
    }
}

fn a_checkpoint_replaces_everything(open: Open<'_>, dir: &Path) -> Result<()> {
    let (source, old) = (open(), open());
    commit(&*source, |tx| {
        tx.put(Table::Rev, b"a", b"new");
        tx.put(Table::Meta, b"applied", b"2");
    })?;
    source.checkpoint(dir)?;
    commit(&*old, |tx| {
        tx.put(Table::Rev, b"a", b"old");
        tx.put(Table::Lease, b"gone", b"");
    })?;
    let before = old.read()?;
    let new = old.install(dir)?;
    assert_eq!(before.get(Table::Rev, b"a")?.as_deref(), Some(b"old".as_slice()));
    assert_eq!(old.get(Table::Rev, b"a")?.as_deref(), Some(b"old".as_slice()));
    assert_eq!(keys(old.scan(Table::Lease, b"", None)?)?, ["gone"]);
    assert_eq!(new.get(Table::Rev, b"a")?.as_deref(), Some(b"new".as_slice()));
    assert_eq!(new.persisted(Table::Meta, b"applied")?.as_deref(), Some(b"2".as_slice()));
    assert_eq!(new.last(Table::Lease)?, None);
    // What is written from now on goes to one of them only.
    commit(&*new, |tx| tx.put(Table::Rev, b"b", b"1"))?;
    assert_eq!(old.get(Table::Rev, b"b")?, None);
    drop(before);
    drop(old);
    assert!(new.install(&dir.join("nothing")).is_err(), "what is no checkpoint is refused");
    assert_eq!(new.get(Table::Rev, b"b")?.as_deref(), Some(b"1".as_slice()));
    let newer = new.install(dir)?;
    assert_eq!((newer.get(Table::Rev, b"b")?, newer.get(Table::Rev, b"a")?.is_some()), (None, true));
    assert_eq!(source.get(Table::Rev, b"a")?.as_deref(), Some(b"new".as_slice()));
    Ok(())
}

fn commit(backend: &dyn Backend, fill: impl FnOnce(&mut WriteTx)) -> Result<()> {
    let mut tx = backend.begin();
    fill(&mut tx);
    backend.commit(tx)
}

fn all(mut cursor: Box<dyn Cursor + '_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while let Some((key, value)) = cursor.next()? {
        records.push((key.to_vec(), value.to_vec()));
    }
    Ok(records)
}

fn keys(cursor: Box<dyn Cursor + '_>) -> Result<Vec<String>> {
    let records = all(cursor)?.into_iter();
    Ok(records.map(|(key, _)| String::from_utf8(key).expect("the suite's keys are text")).collect())
}

fn a_commit_is_visible_on_return(open: Open<'_>) -> Result<()> {
    let backend = open();
    assert_eq!(backend.get(Table::Rev, b"a")?, None);
    assert_eq!(backend.last(Table::Rev)?, None);
    commit(&*backend, |tx| {
        tx.put(Table::Rev, b"a", b"1");
        tx.put_shared(Table::Rev, b"b", bytes::Bytes::from_static(b"2"));
        tx.put(Table::Rev, b"empty", b"");
    })?;
    assert_eq!(backend.get(Table::Rev, b"a")?.as_deref(), Some(b"1".as_slice()));
    assert_eq!(backend.get(Table::Rev, b"empty")?.as_deref(), Some(b"".as_slice()));
    let many = backend.multi_get(Table::Rev, &[b"a", b"aa", b"b", b"a"])?;
    let many: Vec<Option<&[u8]>> = many.iter().map(Option::as_deref).collect();
    assert_eq!(many, [Some(b"1".as_slice()), None, Some(b"2"), Some(b"1")]);
    let (key, value) = backend.last(Table::Rev)?.expect("there are records");
    assert_eq!((&key[..], &value[..]), (b"empty".as_slice(), b"".as_slice()));
    commit(&*backend, |tx| tx.delete(Table::Rev, b"empty"))?;
    assert_eq!(backend.last(Table::Rev)?.expect("there are records").0, "b");
    assert!(backend.size()?.total_bytes > 0, "what was written takes room");
    Ok(())
}

fn later_operations_of_a_batch_win(open: Open<'_>) -> Result<()> {
    let backend = open();
    commit(&*backend, |tx| {
        tx.put(Table::Meta, b"a", b"1");
        tx.put(Table::Meta, b"a", b"2");
        tx.put(Table::Meta, b"b", b"1");
        tx.delete(Table::Meta, b"b");
        tx.delete(Table::Meta, b"c");
        tx.put(Table::Meta, b"c", b"3");
    })?;
    let records = all(backend.scan(Table::Meta, b"", None)?)?;
    assert_eq!(records, [(b"a".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"3".to_vec())]);
    Ok(())
}

fn tables_do_not_see_each_other(open: Open<'_>) -> Result<()> {
    let backend = open();
    commit(&*backend, |tx| {
        for table in Table::ALL {
            tx.put(table, b"who", table.name().as_bytes());
        }
    })?;
    for table in Table::ALL {
        assert_eq!(backend.get(table, b"who")?.as_deref(), Some(table.name().as_bytes()));
        backend.compact(table)?;
        assert_eq!(keys(backend.scan(table, b"", None)?)?, ["who"]);
    }
    Ok(())
}

fn scans_keep_their_bounds_and_order(open: Open<'_>) -> Result<()> {
    let backend = open();
    commit(&*backend, |tx| {
        for n in (0..500u32).rev() {
            tx.put(Table::Index, format!("{n:03}").as_bytes(), b"");
        }
    })?;
    assert_eq!(all(backend.scan(Table::Index, b"", None)?)?.len(), 500);
    assert_eq!(keys(backend.scan(Table::Index, b"007", Some(b"010"))?)?, ["007", "008", "009"]);
    assert_eq!(keys(backend.scan(Table::Index, b"498x", None)?)?, ["499"]);
    assert_eq!(keys(backend.scan(Table::Index, b"5", None)?)?, [""; 0]);
    assert_eq!(keys(backend.scan(Table::Index, b"010", Some(b"010"))?)?, [""; 0]);
    assert_eq!(keys(backend.scan(Table::Index, b"010", Some(b"007"))?)?, [""; 0]);
    Ok(())
}

fn a_scan_sees_one_moment(open: Open<'_>) -> Result<()> {
    let backend = open();
    let write = |value: &[u8]| {
        commit(&*backend, |tx| (0..200u32).for_each(|n| tx.put(Table::Rev, &n.to_be_bytes(), value)))
    };
    write(b"old")?;
    let mut cursor = backend.scan(Table::Rev, b"", None)?;
    assert_eq!(cursor.next()?.expect("there are 200").1, b"old");
    write(b"new")?;
    commit(&*backend, |tx| tx.delete(Table::Rev, &150u32.to_be_bytes()))?;
    let rest = all(cursor)?;
    assert_eq!(rest.len(), 199);
    assert!(rest.iter().all(|(_, value)| value == b"old"), "a scan does not see later commits");
    assert_eq!(all(backend.scan(Table::Rev, b"", None)?)?.len(), 199);
    Ok(())
}

fn a_read_sees_one_moment_of_all_tables(open: Open<'_>) -> Result<()> {
    let backend = open();
    commit(&*backend, |tx| tx.put(Table::Lease, b"a", b"1"))?;
    let before = backend.read()?;
    commit(&*backend, |tx| {
        tx.put(Table::Lease, b"a", b"2");
        tx.put(Table::Alarm, b"b", b"2");
    })?;
    assert_eq!(before.get(Table::Lease, b"a")?.as_deref(), Some(b"1".as_slice()));
    assert_eq!(before.get(Table::Alarm, b"b")?, None);
    assert_eq!(all(before.scan(Table::Lease, b"", None)?)?, [(b"a".to_vec(), b"1".to_vec())]);
    assert_eq!(all(before.scan(Table::Alarm, b"", None)?)?, []);
    drop(before);
    assert_eq!(backend.read()?.get(Table::Alarm, b"b")?.as_deref(), Some(b"2".as_slice()));
    Ok(())
}

fn cursors_seek_forward(open: Open<'_>) -> Result<()> {
    let backend = open();
    commit(&*backend, |tx| {
        for n in 0..500u32 {
            tx.put(Table::Index, format!("{n:03}").as_bytes(), b"");
        }
    })?;
    let mut cursor = backend.scan(Table::Index, b"100", Some(b"400"))?;
    let mut next_after = |key: Option<&str>| -> Result<Option<String>> {
        if let Some(key) = key {
            cursor.seek(key.as_bytes());
        }
        Ok(cursor.next()?.map(|(key, _)| String::from_utf8_lossy(key).into_owned()))
    };
    assert_eq!(next_after(Some("050"))?.as_deref(), Some("100"));
    assert_eq!(next_after(None)?.as_deref(), Some("101"));
    assert_eq!(next_after(Some("103"))?.as_deref(), Some("103"));
    assert_eq!(next_after(Some("300x"))?.as_deref(), Some("301"));
    assert_eq!(next_after(Some("399"))?.as_deref(), Some("399"));
    assert_eq!(next_after(None)?, None);
    assert_eq!(next_after(Some("450"))?, None);
    Ok(())
}

fn ranges_are_deleted(open: Open<'_>) -> Result<()> {
    let backend = open();
    commit(&*backend, |tx| {
        ["a", "b", "c", "d"].iter().for_each(|key| tx.put(Table::Auth, key.as_bytes(), b""));
    })?;
    commit(&*backend, |tx| {
        tx.delete_range(Table::Auth, b"b", b"d");
        tx.delete_range(Table::Auth, b"d", b"a");
        tx.put(Table::Auth, b"bb", b"");
    })?;
    assert_eq!(keys(backend.scan(Table::Auth, b"", None)?)?, ["a", "bb", "d"]);
    Ok(())
}

fn what_is_flushed_is_persisted(open: Open<'_>) -> Result<()> {
    let backend = open();
    assert_eq!(backend.persisted(Table::Meta, b"applied")?, None);
    commit(&*backend, |tx| tx.put(Table::Meta, b"applied", b"1"))?;
    backend.flush()?;
    assert_eq!(backend.persisted(Table::Meta, b"applied")?.as_deref(), Some(b"1".as_slice()));
    commit(&*backend, |tx| tx.put(Table::Rev, b"a", b"1"))?;
    backend.flush()?;
    assert_eq!(backend.persisted(Table::Rev, b"a")?.as_deref(), Some(b"1".as_slice()));
    Ok(())
}

/// Two writers move a sum between two tables; a reader never sees it torn.
fn writers_and_readers_go_together(open: Open<'_>) -> Result<()> {
    const ROUNDS: u64 = 200;
    let backend = open();
    let number = |bytes: Option<bytes::Bytes>| {
        bytes.map_or(0, |b| u64::from_be_bytes(b[..].try_into().expect("the suite writes 8 bytes")))
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = [b"x", b"y"]
            .into_iter()
            .map(|key| {
                let backend = Arc::clone(&backend);
                scope.spawn(move || {
                    (1..=ROUNDS).try_for_each(|n| {
                        commit(&*backend, |tx| {
                            tx.put(Table::Cluster, key, &n.to_be_bytes());
                            tx.put(Table::Member, key, &(ROUNDS - n).to_be_bytes());
                        })
                    })
                })
            })
            .collect();
        for _ in 0..ROUNDS {
            let view = backend.read()?;
            let up = number(view.get(Table::Cluster, b"x")?);
            let down = number(view.get(Table::Member, b"x")?);
            assert!(up + down == ROUNDS || (up, down) == (0, 0), "torn: {up} and {down}");
        }
        writers.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))
    })?;
    assert_eq!(number(backend.get(Table::Cluster, b"y")?), ROUNDS);
    Ok(())
}
