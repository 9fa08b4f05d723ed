//! Puts keys, reads them back, one by one and as a range, now and as they were.
//!
//! `cargo run -p etcd-rs-examples --example put_get`, with a member on `ETCD_ENDPOINT` or localhost:2379.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::{Client, ConnectOptions, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::var("ETCD_ENDPOINT").unwrap_or_else(|_| "localhost:2379".to_owned());
    let client = Client::connect(ConnectOptions::new([endpoint])).await?;

    client.put("example/color", "red").await?;
    let before = client.put("example/shape", "round").await?.header.unwrap_or_default().revision;
    let replaced = client.put("example/color", "blue").prev_kv().await?;
    println!("color was {:?}", replaced.prev_kv.unwrap_or_default().value);

    for kv in client.get("example/").prefix().await?.kvs {
        println!("{:?} = {:?} (version {}, revision {})", kv.key, kv.value, kv.version, kv.mod_revision);
    }
    for kv in client.get("example/color").revision(before).await?.kvs {
        println!("at revision {before} color was {:?}", kv.value);
    }

    let deleted = client.delete("example/").prefix().await?.deleted;
    println!("deleted {deleted} keys");
    Ok(())
}
