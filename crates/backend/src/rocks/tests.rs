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
