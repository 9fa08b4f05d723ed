//! A server's memory, as its metrics tell it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) const METRIC: &str = "process_resident_memory_bytes";

/// The metric at an endpoint without TLS; the error is a line to be shown.
pub(super) async fn resident_bytes(endpoint: &str) -> Result<f64, String> {
    let host = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    if host.contains("://") {
        return Err(format!(
            "fetch error: metrics of {endpoint} cannot be read; give an http endpoint first"
        ));
    }
    let text = fetch(host).await.map_err(|error| format!("fetch error: {error}"))?;
    parse(&text)
}

async fn fetch(host: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(host).await?;
    // The old version of HTTP: the answer ends with the connection, and comes in one piece.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn parse(text: &str) -> Result<f64, String> {
    let value = text.lines().find_map(|line| line.strip_prefix(METRIC)?.strip_prefix(' '));
    let value = value.ok_or_else(|| format!("could not find: {METRIC}"))?;
    value.trim().parse().map_err(|error| format!("parse error: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metric_is_found_among_others() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE process_resident_memory_bytes gauge\n\
                    process_resident_memory_bytes_max 1\nprocess_resident_memory_bytes 2.5e+07\n";
        assert_eq!(parse(text), Ok(25_000_000.0));
        assert_eq!(parse("x 1"), Err("could not find: process_resident_memory_bytes".into()));
        assert!(parse("process_resident_memory_bytes x").unwrap_err().starts_with("parse error: "));
    }
}
