//! Leads an election, says something, and lets go, while somebody observes.
//!
//! `cargo run -p etcd-rs-examples --example election`, with a member on `ETCD_ENDPOINT` or localhost:2379.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::{Client, ConnectOptions, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::var("ETCD_ENDPOINT").unwrap_or_else(|_| "localhost:2379".to_owned());
    let client = Client::connect(ConnectOptions::new([endpoint])).await?;
    let mut observer = client.observe("example/election");

    let session = client.session(10).await?;
    let mut leadership = session.campaign("example/election", "I lead").await?;
    for kv in observer.next().await?.kvs {
        println!("{:?} says {:?}", kv.key, kv.value);
    }
    leadership.proclaim("still I").await?;
    for kv in observer.next().await?.kvs {
        println!("{:?} says {:?}", kv.key, kv.value);
    }
    leadership.resign().await?;
    session.close().await?;
    Ok(())
}
