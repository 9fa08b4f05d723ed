//! Watching keys.
//!
//! ```no_run
//! # async fn example(client: etcd_rs_client::Client) -> etcd_rs_client::Result<()> {
//! let mut watch = client.watch("config/").prefix().prev_kv().await?;
//! while let Some(response) = watch.next().await {
//!     for event in response?.events {
//!         println!("{:?} {:?}", event.r#type(), event.kv);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! All watches of a client share one gRPC stream. When it breaks, every watch is created anew, on the next endpoint, one
//! revision after the last it was told of: nothing is lost and nothing comes twice. What breaks a watch for good is in
//! [`Error::WatchCanceled`], above all that history was compacted beyond it.
//!
//! Events wait in memory for a reader that does not read; a reader that may fall far behind does better to drop its watch
//! and read anew.

pub(crate) mod worker;

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use api::etcdserverpb::watch_create_request::FilterType;
use api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::kv::{Call, from_key_range, prefix_range};
use crate::watch::worker::{Command, WatchKey};
use crate::{Client, Error, Result};

impl Client {
    /// Watches a key; [`Watch::prefix`] and the like make it a range. Awaiting the builder waits until the server has
    /// confirmed the watch: every later change will be seen.
    pub fn watch(&self, key: impl Into<Bytes>) -> Watch<'_> {
        Watch { client: self, request: WatchCreateRequest { key: key.into(), ..Default::default() } }
    }

    /// As [`WatchStream::request_progress`], for whoever has handed the streams away.
    pub fn request_watch_progress(&self) {
        self.watch_commands().send(Command::Progress).unwrap_or(());
    }
}

/// A watch to be created, from [`Client::watch`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Watch<'c> {
    client: &'c Client,
    request: WatchCreateRequest,
}

impl Watch<'_> {
    /// Watch from the key up to this one, which is left out.
    pub fn range_end(mut self, end: impl Into<Bytes>) -> Self {
        self.request.range_end = end.into();
        self
    }

    /// Watch every key that starts with the key; with an empty key, every key.
    pub fn prefix(mut self) -> Self {
        (self.request.key, self.request.range_end) = prefix_range(self.request.key);
        self
    }

    /// Watch every key from the key on; with an empty key, every key.
    pub fn from_key(mut self) -> Self {
        (self.request.key, self.request.range_end) = from_key_range(self.request.key);
        self
    }

    /// Begin with the events of this revision; 0 for whatever comes from now on.
    pub fn start_revision(mut self, revision: i64) -> Self {
        self.request.start_revision = revision;
        self
    }

    /// Have each event carry what the key held before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    /// Have the server say now and then how far the watch is, when nothing happens.
    pub fn progress_notify(mut self) -> Self {
        self.request.progress_notify = true;
        self
    }

    /// Leave out events of this kind.
    pub fn filter(mut self, filter: FilterType) -> Self {
        self.request.filters.push(filter.into());
        self
    }

    /// Have the server send large answers in pieces; they are put together again here.
    pub fn fragment(mut self) -> Self {
        self.request.fragment = true;
        self
    }
}

impl<'c> IntoFuture for Watch<'c> {
    type Output = Result<WatchStream>;
    type IntoFuture = Call<'c, WatchStream>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(create(self))
    }
}

async fn create(watch: Watch<'_>) -> Result<WatchStream> {
    static NEXT_KEY: AtomicU64 = AtomicU64::new(0);
    let commands = watch.client.watch_commands().clone();
    let key = WatchKey(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
    let (sender, events) = mpsc::unbounded_channel();
    commands
        .send(Command::Create { key, request: watch.request, events: sender })
        .map_err(|_| Error::Closed)?;
    // From here on dropping the stream withdraws the watch, also when this future is given up half way.
    let mut stream = WatchStream { key, events, commands, created: ResponseHeader::default() };
    let confirmed = match watch.client.core.options.ready_timeout {
        Some(limit) => tokio::time::timeout(limit, stream.next())
            .await
            .map_err(|_| Error::Unreachable { reason: "the watch was not confirmed in time".to_owned() })?,
        None => stream.next().await,
    };
    stream.created = confirmed.ok_or(Error::Closed)??.header.unwrap_or_default();
    Ok(stream)
}

/// The responses of one watch, in order. Dropping it cancels the watch.
#[derive(Debug)]
pub struct WatchStream {
    key: WatchKey,
    events: mpsc::UnboundedReceiver<Result<WatchResponse>>,
    commands: mpsc::UnboundedSender<Command>,
    created: ResponseHeader,
}

impl WatchStream {
    /// The next response: events of one or more revisions, or none at all when it only tells progress. `None` after an
    /// error, which is always the last item.
    pub async fn next(&mut self) -> Option<Result<WatchResponse>> {
        self.events.recv().await
    }

    /// The header of the server's confirmation. Without a start revision, events after its revision are seen.
    #[must_use]
    pub fn created(&self) -> &ResponseHeader {
        &self.created
    }

    /// Asks the server how far the watches of this client are. The answer, a response without events, comes to all of them
    /// when all have been told everything up to its revision; a server that cannot say so yet does not answer.
    pub fn request_progress(&self) {
        // A worker that is gone has ended this stream already, with an error to be read from it.
        self.commands.send(Command::Progress).unwrap_or(());
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        // A worker that is gone has nothing left to cancel.
        self.commands.send(Command::Cancel { key: self.key }).unwrap_or(());
    }
}
