//! Two who want the same lock: one waits for the other, and each writes only while it holds it.
//!
//! `cargo run -p etcd-rs-examples --example lock`, with a member on `ETCD_ENDPOINT` or localhost:2379.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::{Client, Compare, ConnectOptions, Put, Result, Txn};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::var("ETCD_ENDPOINT").unwrap_or_else(|_| "localhost:2379".to_owned());
    let client = Client::connect(ConnectOptions::new([endpoint])).await?;
    let (one, other) = tokio::join!(work(&client, "one"), work(&client, "the other"));
    one.and(other)
}

async fn work(client: &Client, name: &'static str) -> Result<()> {
    let session = client.session(10).await?;
    let lock = session.lock("example/lock").await?;
    println!("{name} holds the lock");

    // A lease may end while its owner sleeps; the comparison makes sure that the lock is held when the write happens.
    let held = Compare::create_revision(lock.key()).equal(lock.revision());
    let written = client.txn(Txn::new().when([held]).then([Put::new("example/by", name)])).await?;
    println!("{name} has written: {}", written.succeeded);

    lock.unlock().await?;
    session.close().await?;
    Ok(())
}
