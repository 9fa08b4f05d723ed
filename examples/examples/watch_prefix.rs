//! Watches every key under a prefix while another task writes there.
//!
//! `cargo run -p etcd-rs-examples --example watch_prefix`, with a member on `ETCD_ENDPOINT` or localhost:2379.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::api::mvccpb::event::EventType;
use client::{Client, ConnectOptions, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::var("ETCD_ENDPOINT").unwrap_or_else(|_| "localhost:2379".to_owned());
    let client = Client::connect(ConnectOptions::new([endpoint])).await?;

    // The watch is in place when this returns: nothing written from here on is missed.
    let mut watch = client.watch("job/").prefix().prev_kv().await?;

    let writer = client.clone();
    let writing = tokio::spawn(async move {
        writer.put("job/1", "queued").await?;
        writer.put("job/1", "running").await?;
        writer.delete("job/1").await
    });

    'watching: while let Some(response) = watch.next().await {
        for event in response?.events {
            let (kind, before) = (event.r#type(), event.prev_kv.unwrap_or_default().value);
            let now = event.kv.unwrap_or_default();
            println!("revision {}: {kind:?} {:?}: {before:?} -> {:?}", now.mod_revision, now.key, now.value);
            if kind == EventType::Delete {
                break 'watching;
            }
        }
    }
    writing.await.expect("the writer does not panic")?;
    Ok(())
}
