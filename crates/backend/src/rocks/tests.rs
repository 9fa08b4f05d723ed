use std::fs;
use std::sync::Arc;

use super::*;

fn open(path: &Path) -> DiskBackend {
    DiskBackend::open(path, Options::default()).unwrap()
}

fn put(backend: &DiskBackend, key: &[u8], value: &[u8]) {
    let mut tx = backend.begin();
    tx.put(Table::Rev, key, value);
    tx.put(Table::Meta, b"last", key);
    backend.commit(tx).unwrap();
}

/// What a crash would leave: the files as they are now, without what is in memory.
fn crashed(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let opened = std::cell::Cell::new(0);
    crate::testing::suite(|| {
        opened.set(opened.get() + 1);
        Arc::new(open(&dir.path().join(opened.get().to_string())))
    });
}

#[test]
fn a_crash_leaves_what_was_flushed_in_all_tables() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let backend = open(&live);
    put(&backend, b"1", b"one");
    backend.flush().unwrap();
    put(&backend, b"2", b"two");
    assert_eq!(backend.get(Table::Meta, b"last").unwrap().unwrap(), "2");
    assert_eq!(backend.persisted(Table::Meta, b"last").unwrap().unwrap(), "1");

    crashed(&live, &copy);
    let found = open(&copy);
    assert_eq!(found.get(Table::Meta, b"last").unwrap().unwrap(), "1");
    assert_eq!(found.get(Table::Rev, b"1").unwrap().unwrap(), "one");
    assert_eq!(found.get(Table::Rev, b"2").unwrap(), None);
}

#[test]
fn closing_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    put(&backend, b"1", b"one");
    drop(backend);
    assert_eq!(open(dir.path()).get(Table::Rev, b"1").unwrap().unwrap(), "one");
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    let error = DiskBackend::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(&error, Error::InUse { path } if path == dir.path()), "{error}");
    drop(backend);
    open(dir.path());
}

#[test]
fn corruption_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    for n in 0..1000u32 {
        put(&backend, &n.to_be_bytes(), &[7; 100]);
    }
    backend.flush().unwrap();
    drop(backend);
    let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[2000] ^= 0xff;
    fs::write(&file, bytes).unwrap();

    let backend = open(dir.path());
    let mut records = backend.scan(Table::Rev, b"", None).unwrap();
    let error = loop {
        match records.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the scan passed over a corrupt block"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == file), "{error}");
}

#[test]
fn a_missing_file_is_an_error_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    put(&backend, b"1", b"one");
    backend.flush().unwrap();
    drop(backend);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            fs::remove_file(path).unwrap();
        }
    }
    let error = DiskBackend::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. } | Error::Engine { .. }), "{error}");
}

#[test]
fn a_checkpoint_holds_everything_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let backend = open(&live);
    put(&backend, b"1", b"one");
    backend.checkpoint(&copy).unwrap();
    put(&backend, b"2", b"two");
    assert!(backend.checkpoint(&copy).is_err(), "a checkpoint overwrites nothing");
    let found = open(&copy);
    assert_eq!(found.get(Table::Rev, b"1").unwrap().unwrap(), "one");
    assert_eq!(found.get(Table::Rev, b"2").unwrap(), None);
}

#[test]
fn compaction_gives_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path());
    for n in 0..2000u32 {
        put(&backend, &n.to_be_bytes(), &[7; 1000]);
    }
    backend.flush().unwrap();
    let before = backend.size().unwrap().total_bytes;
    let mut tx = backend.begin();
    (0..1900u32).for_each(|n| tx.delete(Table::Rev, &n.to_be_bytes()));
    backend.commit(tx).unwrap();
    backend.compact(Table::Rev).unwrap();
    let after = backend.size().unwrap().total_bytes;
    assert!(after * 4 < before, "{before} bytes became {after}");
    assert!(backend.get(Table::Rev, &1950u32.to_be_bytes()).unwrap().is_some());
}

#[test]
fn after_a_failed_flush_nothing_more_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (here, elsewhere) = (dir.path().join("here"), dir.path().join("elsewhere"));
    let backend = open(&here);
    put(&backend, b"1", b"one");
    // No file can be made any more, as on a disk that has failed.
    fs::rename(&here, &elsewhere).unwrap();
    let error = backend.flush().unwrap_err();
    assert!(matches!(&error, Error::Engine { operation: "flush", .. }), "{error}");
    let mut tx = backend.begin();
    tx.put(Table::Rev, b"2", b"two");
    assert!(matches!(backend.commit(tx), Err(Error::Failed { .. })));
    assert!(matches!(backend.flush(), Err(Error::Failed { .. })));
    assert_eq!(backend.get(Table::Rev, b"1").unwrap().unwrap(), "one", "reads go on");
}

#[test]
fn many_keys_come_in_the_order_they_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let backend = DiskBackend::open(dir.path(), Options::default()).unwrap();
    let mut tx = backend.begin();
    for number in (0..1000_u32).step_by(2) {
        tx.put(Table::Rev, &number.to_be_bytes(), &number.to_le_bytes());
    }
    backend.commit(tx).unwrap();
    for order in [(0..1000).collect::<Vec<u32>>(), (0..1000).rev().collect()] {
        let keys: Vec<[u8; 4]> = order.iter().map(|number| number.to_be_bytes()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(<[u8; 4]>::as_slice).collect();
        let found = backend.multi_get(Table::Rev, &keys).unwrap();
        for (number, value) in order.iter().zip(found) {
            let expected = (number % 2 == 0).then(|| number.to_le_bytes());
            assert_eq!(value.as_deref(), expected.as_ref().map(<[u8; 4]>::as_slice), "{number}");
        }
    }
}

/// A copy of a directory with what is in it, as a crash at this moment would leave it.
fn copied(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copied(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_replaces_everything() {
    let dir = tempfile::tempdir().unwrap();
    let opened = std::cell::Cell::new(0);
    let next = || {
        opened.set(opened.get() + 1);
        Arc::new(open(&dir.path().join(opened.get().to_string()))) as Arc<dyn Backend>
    };
    crate::testing::replacement(next, &dir.path().join("checkpoint"));
}

/// Whatever step the switch is broken off at, the next open finds the old state whole, or the new one.
#[test]
fn a_crash_while_a_checkpoint_is_installed_leaves_the_old_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let source = open(&at("source"));
    for n in 0..100_u32 {
        put(&source, &n.to_be_bytes(), b"new");
    }
    let mut live = open(&at("live"));
    // The first switch leaves the directory itself, the second a numbered one.
    for (round, last) in [99_u32, 100].into_iter().enumerate() {
        put(&source, &last.to_be_bytes(), b"new");
        let checkpoint = at(&format!("checkpoint-{round}"));
        source.checkpoint(&checkpoint).unwrap();
        let old = if round == 0 { "old".to_owned() } else { "older".to_owned() };
        put(&live, b"mine", old.as_bytes());
        live.flush().unwrap();
        let mut steps = Vec::new();
        let installed = live
            .install_stepwise(&checkpoint, &mut |step| {
                let crashed = at(&format!("crash-{round}-{}", steps.len()));
                copied(&at("live"), &crashed);
                steps.push((step, crashed));
            })
            .unwrap();
        for (step, crashed) in &steps {
            for _ in 0..2 {
                let found = open(crashed);
                let mine = found.get(Table::Rev, b"mine").unwrap();
                let newest = found.get(Table::Rev, &last.to_be_bytes()).unwrap();
                match step {
                    Step::Switched => assert_eq!((mine, newest.as_deref()), (None, Some(&b"new"[..]))),
                    _ => assert_eq!(mine.as_deref(), Some(old.as_bytes()), "{step:?}"),
                }
            }
            let directories = fs::read_dir(crashed).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
            assert!(directories.count() <= 1, "what does not count is gone after {step:?}");
        }
        let seen: Vec<Step> = steps.iter().map(|(step, _)| *step).filter(|s| *s != Step::Copied).collect();
        assert_eq!(seen, [Step::Synced, Step::Opened, Step::Pointed, Step::Switched]);
        live = installed;
    }
    drop(live);
    let names: Vec<_> = fs::read_dir(at("live")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the pointer and one generation: {names:?}");
}

#[test]
fn what_was_replaced_goes_with_its_last_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (live, checkpoint) = (dir.path().join("live"), dir.path().join("checkpoint"));
    let old = open(&live);
    put(&old, b"1", b"one");
    old.checkpoint(&checkpoint).unwrap();
    put(&old, b"1", b"two");
    let new = old.install(&checkpoint).unwrap();
    assert_eq!(old.get(Table::Rev, b"1").unwrap().unwrap(), "two");
    assert!(live.join("CURRENT").exists());
    drop(old);
    assert!(!live.join("CURRENT").exists());
    let newer = new.install(&checkpoint).unwrap();
    assert_eq!(new.get(Table::Rev, b"1").unwrap().unwrap(), "one");
    drop(new);
    assert!(!live.join("generation-1").exists());
    put_any(&*newer, b"1", b"three");
    drop(newer);
    assert_eq!(open(&live).get(Table::Rev, b"1").unwrap().unwrap(), "three");
}

fn put_any(backend: &dyn Backend, key: &[u8], value: &[u8]) {
    let mut tx = backend.begin();
    tx.put(Table::Rev, key, value);
    backend.commit(tx).unwrap();
}

#[test]
fn a_checkpoint_that_is_not_whole_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (live, checkpoint) = (dir.path().join("live"), dir.path().join("checkpoint"));
    let backend = open(&live);
    put(&backend, b"1", b"one");
    backend.checkpoint(&checkpoint).unwrap();
    for entry in fs::read_dir(&checkpoint).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            fs::remove_file(path).unwrap();
        }
    }
    backend.install(&checkpoint).unwrap_err();
    put(&backend, b"2", b"two");
    drop(backend);
    assert_eq!(open(&live).get(Table::Rev, b"2").unwrap().unwrap(), "two");
}
