//! What the client does when servers fail: they are made here, to fail as told.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::etcdserverpb::kv_server::{Kv, KvServer};
use api::etcdserverpb::watch_request::RequestUnion;
use api::etcdserverpb::watch_server::{Watch, WatchServer};
use api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse, WatchRequest,
    WatchResponse,
};
use api::mvccpb::{Event, KeyValue};
use etcd_rs_client::{Client, Code, ConnectOptions, Error};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A server whose reads and writes fail so many times, and whose first watch streams break after one event.
#[derive(Clone, Default)]
struct Fake {
    failures_left: Arc<AtomicU32>,
    calls: Arc<AtomicU32>,
    streams: Arc<AtomicU32>,
    /// The start revision of every watch created.
    created: Option<mpsc::UnboundedSender<i64>>,
}

impl Fake {
    fn failing(times: u32) -> Self {
        Self { failures_left: Arc::new(AtomicU32::new(times)), ..Self::default() }
    }

    async fn start(&self) -> SocketAddr {
        serve(KvServer::new(self.clone())).await
    }

    fn answer<T: Default>(&self) -> Result<Response<T>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let left =
            self.failures_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(Status::unavailable("etcdserver: no leader")),
            Err(_) => Ok(Response::new(T::default())),
        }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    type RangeStreamStream = Answers<RangeStreamResponse>;

    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.answer()
    }

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let piece = |range: RangeResponse| Ok(RangeStreamResponse { range_response: Some(range) });
        let keys = |names: &[&'static str]| {
            names.iter().map(|name| KeyValue { key: (*name).into(), ..Default::default() }).collect()
        };
        let header = Some(ResponseHeader { revision: 9, ..Default::default() });
        let pieces = [
            piece(RangeResponse { kvs: keys(&["a", "b"]), ..Default::default() }),
            piece(RangeResponse { header, kvs: keys(&["c"]), more: true, count: 5 }),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.answer()
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.answer()
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.answer()
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.answer()
    }
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let revision = i64::from(self.streams.fetch_add(1, Ordering::SeqCst)) + 10;
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(8);
        let created = self.created.clone();
        tokio::spawn(async move {
            while let Some(Ok(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })) =
                requests.next().await
            {
                created.as_ref().unwrap().send(create.start_revision).unwrap();
                let header = Some(ResponseHeader { revision, ..Default::default() });
                let confirmed = WatchResponse { header, created: true, ..Default::default() };
                let kv = Some(KeyValue { mod_revision: revision, ..Default::default() });
                let events = vec![Event { kv, ..Default::default() }];
                let event = WatchResponse { header, events, ..Default::default() };
                let broken = Status::unavailable("etcdserver: server stopped");
                for answer in [Ok(confirmed), Ok(event), Err(broken)] {
                    answers.send(answer).await.unwrap_or(());
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

async fn serve<S>(service: S) -> SocketAddr
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// An address where nobody listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn connect(addresses: &[SocketAddr]) -> Client {
    let options = ConnectOptions::new(addresses.iter().map(ToString::to_string));
    Client::connect(options).await.unwrap()
}

#[tokio::test]
async fn a_read_is_sent_again_while_the_server_is_unavailable() {
    let fake = Fake::failing(3);
    let client = connect(&[fake.start().await]).await;
    client.get("k").await.unwrap();
    assert_eq!(fake.calls(), 4);
}

#[tokio::test]
async fn a_write_is_sent_once_even_if_the_server_is_unavailable() {
    let fake = Fake::failing(1);
    let client = connect(&[fake.start().await]).await;
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(error.is(api::status::NO_LEADER), "{error}");
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn a_dead_endpoint_among_others_is_no_failure_not_even_for_writes() {
    let fake = Fake::failing(0);
    let client = connect(&[nowhere().await, fake.start().await]).await;
    for _ in 0..4 {
        client.put("k", "v").await.unwrap();
    }
    assert_eq!(fake.calls(), 4);
}

#[tokio::test]
async fn endpoints_take_turns() {
    let fakes = [Fake::failing(0), Fake::failing(0)];
    let client = connect(&[fakes[0].start().await, fakes[1].start().await]).await;
    for _ in 0..6 {
        client.get("k").await.unwrap();
    }
    assert_eq!(fakes.map(|fake| fake.calls()), [3, 3]);
}

#[tokio::test]
async fn nobody_listening_is_told_when_the_ready_timeout_has_passed() {
    let options = ConnectOptions::new([nowhere().await.to_string()]).ready_timeout(Duration::from_millis(50));
    let client = Client::connect(options).await.unwrap();
    let error = client.put("k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_request_timeout_bounds_retries_too() {
    let fake = Fake::failing(u32::MAX);
    let options =
        ConnectOptions::new([fake.start().await.to_string()]).request_timeout(Duration::from_millis(60));
    let error = Client::connect(options).await.unwrap().get("k").await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded), "{error}");
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_not_sent() {
    let fake = Fake::failing(0);
    let options = ConnectOptions::new([fake.start().await.to_string()]).max_send_bytes(100);
    let client = Client::connect(options).await.unwrap();
    let error = client.put("k", vec![0; 100]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max (105 vs. 100)"
    );
    assert_eq!(fake.calls(), 0);
}

#[tokio::test]
async fn the_pieces_of_a_streamed_read_make_one_answer() {
    let client = connect(&[Fake::failing(0).start().await]).await;
    let whole = client.get("a").prefix().streamed().await.unwrap();
    let keys: Vec<&[u8]> = whole.kvs.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(keys, [b"a", b"b", b"c"]);
    assert_eq!((whole.header.unwrap().revision, whole.more, whole.count), (9, true, 5));
}

#[tokio::test]
async fn a_watch_goes_on_after_its_stream_has_broken_without_loss_or_repetition() {
    let (created, mut starts) = mpsc::unbounded_channel();
    let fake = Fake { created: Some(created), ..Fake::default() };
    let client = connect(&[serve(WatchServer::new(fake)).await]).await;

    let mut watch = client.watch("k").await.unwrap();
    assert_eq!(watch.created().revision, 10);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let response = watch.next().await.unwrap().unwrap();
        seen.extend(response.events.into_iter().map(|event| event.kv.unwrap().mod_revision));
    }
    assert_eq!(seen, [10, 11, 12]);
    // From now; then each time one after the last event seen.
    for start in [0, 11, 12] {
        assert_eq!(starts.recv().await, Some(start));
    }
}
