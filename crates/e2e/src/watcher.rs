//! One watch stream, with its requests and its answers in order.

use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::watch_request::RequestUnion;
use api::mvccpb::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{Member, PATIENCE, Session};

/// An open watch stream.
#[derive(Debug)]
pub struct Watcher {
    requests: Option<mpsc::Sender<pb::WatchRequest>>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watcher {
    /// Opens a stream with its first create request, since servers answer nothing before it, and takes the reply.
    ///
    /// # Panics
    /// When the stream cannot be opened; all methods here panic when the stream breaks.
    pub async fn open(member: &Member, create: pb::WatchCreateRequest) -> (Self, pb::WatchResponse) {
        Self::open_by(&Session::nobody(member), create).await
    }

    /// The same, by somebody.
    pub async fn open_by(session: &Session, create: pb::WatchCreateRequest) -> (Self, pb::WatchResponse) {
        let (requests, queue) = mpsc::channel(64);
        requests.send(request(RequestUnion::CreateRequest(create))).await.expect("the queue is open");
        let mut client = session.watch().max_decoding_message_size(usize::MAX);
        let responses = client.watch(ReceiverStream::new(queue)).await.expect("watch").into_inner();
        let mut watcher = Self { requests: Some(requests), responses };
        let created = watcher.next().await;
        (watcher, created)
    }

    /// Asks for another watch on the stream and takes the next answer, which is the reply if nothing else is due.
    pub async fn create(&mut self, create: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.send(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    /// Asks for the end of a watch; the reply is one of the next answers.
    pub async fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id })).await;
    }

    /// Asks how far the stream is.
    pub async fn progress(&self) {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    }

    async fn send(&self, union: RequestUnion) {
        let requests = self.requests.as_ref().expect("this side is still open");
        requests.send(request(union)).await.expect("the stream is open");
    }

    /// Ends this side of the stream only.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next answer.
    pub async fn next(&mut self) -> pb::WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.message());
        next.await.expect("an answer in time").expect("an unbroken stream").expect("a stream that goes on")
    }

    /// How the stream ended, or what it answered instead.
    pub async fn end(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("an end in time")
    }

    /// The next `count` events, over as many answers as it takes.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await;
            assert!(!response.canceled, "canceled: {response:?}");
            events.extend(response.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// Insists that nothing comes for a moment. It can only ever miss an error, never invent one.
    pub async fn silent(&mut self, moment: Duration) {
        if let Ok(response) = tokio::time::timeout(moment, self.responses.message()).await {
            panic!("unexpected: {response:?}");
        }
    }
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}
