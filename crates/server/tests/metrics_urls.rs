//! A port for metrics and health alone.

mod common;

use std::net::{SocketAddr, TcpListener};

use common::config;
use etcd_rs_server::{Config, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Asks for a path, and returns all that is answered.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("the port is served");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("it is read");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("text");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_are_served_on_a_port_of_their_own_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen_metrics_urls = vec![format!("http://{address}")];
    let server = Server::start(Config { listen_metrics_urls, ..config(dir.path()) }).await.unwrap();
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("\netcd_server_has_leader 1\n"));
    let health = get(address, "/health").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains(r#""health":"true""#), "{health}");
    assert!(get(address, "/version").await.starts_with("HTTP/1.1 404"));
    assert!(get(server.client_addresses()[0], "/metrics").await.starts_with("HTTP/1.1 200"));
    server.shutdown().await.unwrap();
}
