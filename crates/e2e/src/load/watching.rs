//! One watcher of a load: it follows all keys of the load, from member to member, and remembers what it was told.

use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::watch_client::WatchClient;
use api::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::{ALL, Members, Shared, below, messages};
use crate::linear::{Event, Moment};
use crate::prefix_end;
use crate::random::Source;

/// After such a silence another member is tried: this one may be cut off.
const SILENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// One answer of a watch that had events.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) at: Moment,
    pub(super) events: Vec<Event>,
}

/// All that a watcher was told, in its order.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) deliveries: Vec<Delivery>,
    /// How many streams it took.
    pub(super) streams: usize,
}

impl Seen {
    /// The revision of the last event.
    fn last(&self) -> i64 {
        self.deliveries.last().and_then(|delivery| delivery.events.last()).map_or(0, |event| event.revision)
    }
}

pub(super) async fn run(shared: Arc<Shared>, number: usize, mut source: Source) -> Seen {
    let mut seen = Seen { name: format!("w{number}"), deliveries: Vec::new(), streams: 0 };
    let mut members = Members::new(shared.clone(), number);
    // The last event of the history ends it, which is the one of the key that was written for this.
    while seen.last() < shared.last() {
        // Some insist on a leader, and some leave a stream that is well, as clients do that restart.
        let insists = number.is_multiple_of(2);
        let enough = if number % 4 < 2 { usize::MAX } else { 20 + below(&mut source, 50) };
        follow(&shared, members.channel(), &mut seen, insists, enough).await;
        members.next();
        tokio::time::sleep(PAUSE).await;
    }
    seen
}

/// Follows one stream until it ends, is silent, or has brought enough answers.
async fn follow(shared: &Shared, channel: Channel, seen: &mut Seen, insists: bool, enough: usize) {
    let Some((_open, mut stream)) = open(channel, seen.last() + 1, insists).await else { return };
    seen.streams += 1;
    for _ in 0..enough {
        let Ok(Ok(Some(response))) = tokio::time::timeout(SILENCE, stream.message()).await else { return };
        if response.canceled {
            return;
        }
        if !response.events.is_empty() {
            let events = response.events.iter().map(messages::event).collect();
            seen.deliveries.push(Delivery { at: shared.now(), events });
        }
        if seen.last() >= shared.last() {
            return;
        }
    }
}

/// A stream, open for as long as the sender is kept.
type Stream = (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>);

async fn open(channel: Channel, start_revision: i64, insists: bool) -> Option<Stream> {
    let create = pb::WatchCreateRequest {
        key: ALL.into(),
        range_end: prefix_end(ALL),
        start_revision,
        ..Default::default()
    };
    let (sender, requests) = mpsc::channel(1);
    let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    sender.send(first).await.ok()?;
    let mut request = Request::new(ReceiverStream::new(requests));
    if insists {
        request.metadata_mut().insert("hasleader", "true".parse().expect("plain text"));
    }
    let mut client = WatchClient::new(channel);
    let response = tokio::time::timeout(SILENCE, client.watch(request)).await.ok()?.ok()?;
    Some((sender, response.into_inner()))
}
