//! A whole member inside your own program: start it, use it through its port, stop it.
//!
//! `cargo run --example embed_server`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use client::{Client, ConnectOptions};
use server::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        data_dir: dir.path().join("my.etcd"),
        listen_client_urls: vec!["http://127.0.0.1:0".to_owned()],
        listen_peer_urls: vec!["http://127.0.0.1:0".to_owned()],
        ..Config::default()
    };
    let member = Server::start(config).await?;
    let endpoint = format!("http://{}", member.client_addresses()[0]);

    let client = Client::connect(ConnectOptions::new([endpoint])).await?;
    client.put("greeting", "hello").await?;
    let found = client.get("greeting").await?;
    println!("{}", found.kvs[0].value.escape_ascii());

    drop(client);
    member.shutdown().await?;
    Ok(())
}
