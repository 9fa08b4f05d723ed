//! Registers a service under a lease: the key lives while it is kept alive, and goes when that stops.
//!
//! `cargo run -p etcd-rs-examples --example lease_keep_alive`, with a member on `ETCD_ENDPOINT` or localhost:2379.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::{Client, ConnectOptions, LeaseId, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::var("ETCD_ENDPOINT").unwrap_or_else(|_| "localhost:2379".to_owned());
    let client = Client::connect(ConnectOptions::new([endpoint])).await?;

    let lease = LeaseId::new(client.lease_grant(2).await?.id);
    client.put("service/a", "10.0.0.1:80").lease(lease).await?;
    let mut gone = client.watch("service/a").await?;

    // Renews in the background for as long as it is held; reading the answers is for those who want to know.
    let mut keeper = client.lease_keep_alive(lease);
    for _ in 0..3 {
        if let Some(renewed) = keeper.next().await {
            println!("lease {lease} renewed for {} s", renewed?.ttl);
        }
    }
    println!("no longer kept alive");
    drop(keeper);

    if let Some(response) = gone.next().await {
        println!("service/a is gone, at revision {}", response?.header.unwrap_or_default().revision);
    }
    Ok(())
}
