//! A member in this process, and a client that speaks bare HTTP/2, so that it can also say what no gRPC library would.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::net::SocketAddr;
use std::path::Path;

use bytes::{BufMut as _, Bytes, BytesMut};
use etcd_rs_server::{Config, Server};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use prost::Message;

/// A member's configuration: its data in `dir`, its client port free, its ids those of the default URLs.
pub fn config(dir: &Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".to_owned()],
        listen_peer_urls: vec!["http://127.0.0.1:0".to_owned()],
        ..Config::default()
    }
}

pub async fn start(dir: &Path) -> Server {
    Server::start(config(dir)).await.expect("a member that starts")
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub http: u16,
    pub code: Option<u16>,
    pub text: String,
}

impl Status {
    fn of(response: u16, trailers: &HeaderMap) -> Self {
        let field = |name| trailers.get(name).map(|value| value.to_str().expect("printable").to_owned());
        Self {
            http: response,
            code: field("grpc-status").map(|code| code.parse().expect("a number")),
            text: field("grpc-message").unwrap_or_default(),
        }
    }

    /// What a test expects of a call that was refused.
    pub fn is(&self, status: api::status::Status) -> bool {
        self.code == Some(status.code() as u16) && self.text == status.text()
    }
}

pub struct Client {
    requests: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// One gRPC message on the wire.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().expect("small"));
    frame.put_slice(message);
    frame.freeze()
}

impl Client {
    pub async fn connect(server: &Server) -> Self {
        Self::connect_to(server.client_addresses()[0]).await
    }

    pub async fn connect_to(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpStream::connect(address).await.expect("the port is served");
        let (requests, connection) = h2::client::handshake(socket).await.expect("HTTP/2 is spoken");
        let connection = tokio::spawn(async move {
            // That it ends is seen by whoever uses it.
            drop(connection.await);
        });
        Self { requests, connection }
    }

    /// Opens a call and leaves the rest to the test.
    pub async fn open(&self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.expect("the connection is up");
        requests.send_request(request, false).expect("a well-formed request")
    }

    /// A gRPC call to `path` with these bytes as its whole body.
    pub async fn raw(&self, path: &str, body: Bytes) -> (Status, Bytes) {
        let (response, mut send) = self.open(post(path)).await;
        // The server may have answered before it read everything.
        drop(send.send_data(body, true));
        finish(response.await.expect("an answer")).await
    }

    /// A unary call.
    pub async fn call<M: Message + Default>(&self, path: &str, request: &impl Message) -> Result<M, Status> {
        self.call_encoded(path, &request.encode_to_vec()).await
    }

    pub async fn call_encoded<M: Message + Default>(&self, path: &str, request: &[u8]) -> Result<M, Status> {
        let (status, body) = self.raw(path, frame(request)).await;
        if status.code != Some(0) {
            return Err(status);
        }
        Ok(M::decode(&body[5..]).expect("a message of the expected kind"))
    }

    /// Opens a streaming call and sends its first message.
    pub async fn stream(&self, path: &str, first: &impl Message) -> Stream {
        self.stream_of(post(path), first).await
    }

    pub async fn stream_of(&self, request: Request<()>, first: &impl Message) -> Stream {
        let (response, mut send) = self.open(request).await;
        // A call may be refused before its first message.
        drop(send.send_data(frame(&first.encode_to_vec()), false));
        let response = response.await.expect("an answer");
        Stream {
            head: response.headers().clone(),
            http: response.status().as_u16(),
            send,
            receive: response.into_body(),
            buffer: BytesMut::new(),
        }
    }
}

/// A request as gRPC libraries make them.
pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a well-formed request")
}

pub async fn finish(response: Response<RecvStream>) -> (Status, Bytes) {
    let http = response.status().as_u16();
    let head = response.headers().clone();
    let mut body = response.into_body();
    let mut received = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.expect("the answer is not broken off");
        drop(body.flow_control().release_capacity(data.len()));
        received.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.expect("the answer is not broken off").unwrap_or(head);
    (Status::of(http, &trailers), received.freeze())
}

/// A streaming call under way.
pub struct Stream {
    head: HeaderMap,
    http: u16,
    pub send: SendStream<Bytes>,
    receive: RecvStream,
    buffer: BytesMut,
}

impl Stream {
    pub fn say(&mut self, message: &impl Message) {
        self.send.send_data(frame(&message.encode_to_vec()), false).expect("the stream is open");
    }

    /// The next message, or how the call ended.
    pub async fn next<M: Message + Default>(&mut self) -> Result<M, Status> {
        loop {
            if let Some(prefix) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(prefix.try_into().expect("four bytes")) as usize;
                if self.buffer.len() >= 5 + length {
                    let message = self.buffer.split_to(5 + length);
                    return Ok(M::decode(&message[5..]).expect("a message of the expected kind"));
                }
            }
            let Some(data) = self.receive.data().await else {
                let trailers = self
                    .receive
                    .trailers()
                    .await
                    .expect("not broken off")
                    .unwrap_or_else(|| self.head.clone());
                return Err(Status::of(self.http, &trailers));
            };
            let data = data.expect("the answer is not broken off");
            drop(self.receive.flow_control().release_capacity(data.len()));
            self.buffer.extend_from_slice(&data);
        }
    }
}
