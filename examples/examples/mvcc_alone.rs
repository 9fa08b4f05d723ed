//! The keyspace without a server: revisions, reads in the past, a compaction, and a restart that finds everything.
//!
//! `cargo run --example mvcc_alone`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use api::LeaseId;
use api::mvccpb::KeyValue;
use backend::{Backend, DiskBackend};
use mvcc::{RangeOptions, Store};
use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    {
        let disk: Arc<dyn Backend> = Arc::new(DiskBackend::open(dir.path(), backend::Options::default())?);
        let mut store = Store::open(Arc::clone(&disk))?;
        for value in ["red", "green", "blue"] {
            let mut txn = store.write();
            txn.put("colour".into(), value.into(), LeaseId::NONE)?;
            let revision = txn.end_request();
            txn.commit()?;
            println!("revision {revision}: colour = {value}");
        }

        let reader = store.reader();
        let mut before = RangeOptions::new("colour", "");
        before.revision = 3;
        println!(
            "at revision 3 it was {}",
            KeyValue::decode(reader.range(&before)?.kvs[0].clone())?.value.escape_ascii()
        );

        let mut txn = store.write();
        let compaction = txn.compact(4)?;
        txn.commit()?;
        while compaction.run_chunk(1000)? {}
        println!("after compacting at 4: {}", reader.range(&before).expect_err("revision 3 is gone"));
        disk.flush()?;
    }

    let disk: Arc<dyn Backend> = Arc::new(DiskBackend::open(dir.path(), backend::Options::default())?);
    let reader = Store::open(disk)?.reader();
    println!("reopened at revision {} with {} key", reader.revision(), reader.keys());
    Ok(())
}
