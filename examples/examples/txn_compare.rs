//! Adds to a counter without a lock: read, then write only if nobody else has written meanwhile, else try again.
//!
//! `cargo run -p etcd-rs-examples --example txn_compare`, with a member on `ETCD_ENDPOINT` or localhost:2379.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::{Client, Compare, ConnectOptions, Put, Result, Txn};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::var("ETCD_ENDPOINT").unwrap_or_else(|_| "localhost:2379".to_owned());
    let client = Client::connect(ConnectOptions::new([endpoint])).await?;

    client.delete("counter").await?;
    let workers =
        [add(client.clone(), 10), add(client.clone(), 10), add(client.clone(), 10)].map(tokio::spawn);
    for worker in workers {
        worker.await.expect("workers do not panic")?;
    }
    println!("counted to {}", read(&client).await?.0);
    Ok(())
}

async fn add(client: Client, times: u32) -> Result<()> {
    let mut done = 0;
    while done < times {
        let (count, revision) = read(&client).await?;
        let unchanged = Compare::mod_revision("counter").equal(revision);
        let txn = Txn::new().when([unchanged]).then([Put::new("counter", (count + 1).to_string())]);
        if client.txn(txn).await?.succeeded {
            done += 1;
        }
    }
    Ok(())
}

/// The count and the revision that wrote it; both 0 if there is none yet.
async fn read(client: &Client) -> Result<(u64, i64)> {
    let response = client.get("counter").await?;
    Ok(response.kvs.first().map_or((0, 0), |kv| {
        let count = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
        (count.unwrap_or(0), kv.mod_revision)
    }))
}
