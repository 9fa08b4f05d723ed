//! Reading and writing keys.
//!
//! Each request is a builder that serves twice: made by the client it is awaited, made by itself it becomes an operation of a
//! transaction.
//!
//! ```no_run
//! # async fn example(client: etcd_rs_client::Client) -> etcd_rs_client::Result<()> {
//! use etcd_rs_client::{Get, Op, Put};
//!
//! let users = client.get("user/").prefix().limit(100).await?;
//! let ops: [Op; 2] = [Put::new("a", "1").into(), Get::new("user/").prefix().into()];
//! # Ok(()) }
//! ```

use std::future::IntoFuture;
use std::pin::Pin;

use api::LeaseId;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use bytes::Bytes;

use crate::retry::Repeat;
use crate::{Client, Result};

/// What a request awaits.
pub(crate) type Call<'c, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>;

/// The range that starts with every key, and the end that never comes.
const FIRST_KEY: Bytes = Bytes::from_static(&[0]);
const NO_END: Bytes = Bytes::from_static(&[0]);

impl Client {
    /// Reads a key; [`Get::prefix`] and the like make it a range.
    pub fn get(&self, key: impl Into<Bytes>) -> Get<&Self> {
        Get { client: self, streamed: false, request: range(key.into()) }
    }

    /// Stores a value under a key.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put<&Self> {
        Put { client: self, request: put(key.into(), value.into()) }
    }

    /// Deletes a key; [`Delete::prefix`] and the like make it a range.
    pub fn delete(&self, key: impl Into<Bytes>) -> Delete<&Self> {
        Delete { client: self, request: delete_range(key.into()) }
    }

    /// Discards the history before a revision.
    pub fn compact(&self, revision: i64) -> Compact<'_> {
        Compact { client: self, request: CompactionRequest { revision, physical: false } }
    }
}

/// A read. Awaited if it came from [`Client::get`], an operation of a transaction if from [`Get::new`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Get<C = ()> {
    client: C,
    streamed: bool,
    pub(crate) request: RangeRequest,
}

impl Get {
    /// A read for a transaction.
    pub fn new(key: impl Into<Bytes>) -> Self {
        Self { client: (), streamed: false, request: range(key.into()) }
    }
}

impl Get {
    /// The same request, to be awaited.
    pub fn on(self, client: &Client) -> Get<&Client> {
        Get { client, streamed: false, request: self.request }
    }
}

impl<C> Get<C> {
    /// Read from the key up to this one, which is left out.
    pub fn range_end(mut self, end: impl Into<Bytes>) -> Self {
        self.request.range_end = end.into();
        self
    }

    /// Read every key that starts with the key; with an empty key, every key.
    pub fn prefix(mut self) -> Self {
        (self.request.key, self.request.range_end) = prefix_range(self.request.key);
        self
    }

    /// Read every key from the key on; with an empty key, every key.
    pub fn from_key(mut self) -> Self {
        (self.request.key, self.request.range_end) = from_key_range(self.request.key);
        self
    }

    /// Read as of this revision.
    pub fn revision(mut self, revision: i64) -> Self {
        self.request.revision = revision;
        self
    }

    /// At most so many keys; 0 for all.
    pub fn limit(mut self, limit: i64) -> Self {
        self.request.limit = limit;
        self
    }

    /// Order the keys of a range.
    pub fn sort(mut self, target: SortTarget, order: SortOrder) -> Self {
        self.request.sort_target = target.into();
        self.request.sort_order = order.into();
        self
    }

    /// Take the answering member's word for it, without asking the others: faster, works without a leader, may be old.
    pub fn serializable(mut self) -> Self {
        self.request.serializable = true;
        self
    }

    /// Leave the values out.
    pub fn keys_only(mut self) -> Self {
        self.request.keys_only = true;
        self
    }

    /// Only count.
    pub fn count_only(mut self) -> Self {
        self.request.count_only = true;
        self
    }

    /// Only keys last modified at this revision or later; 0 for no bound, likewise in the three below.
    pub fn min_mod_revision(mut self, revision: i64) -> Self {
        self.request.min_mod_revision = revision;
        self
    }

    /// Only keys last modified at this revision or earlier.
    pub fn max_mod_revision(mut self, revision: i64) -> Self {
        self.request.max_mod_revision = revision;
        self
    }

    /// Only keys created at this revision or later.
    pub fn min_create_revision(mut self, revision: i64) -> Self {
        self.request.min_create_revision = revision;
        self
    }

    /// Only keys created at this revision or earlier.
    pub fn max_create_revision(mut self, revision: i64) -> Self {
        self.request.max_create_revision = revision;
        self
    }
}

impl Get<&Client> {
    /// Have the server send the answer in pieces (etcd 3.7), so that a large one is never whole in its memory. The result
    /// is the same.
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }
}

impl<'c> IntoFuture for Get<&'c Client> {
    type Output = Result<RangeResponse>;
    type IntoFuture = Call<'c, RangeResponse>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, streamed, request } = self;
        if streamed {
            return Box::pin(range_in_pieces(client, request));
        }
        Box::pin(
            client.core.unary(Repeat::Harmless, request, |stub, request| async move {
                stub.kv().range(request).await
            }),
        )
    }
}

async fn range_in_pieces(client: &Client, request: RangeRequest) -> Result<RangeResponse> {
    let call = client.core.unary(Repeat::Harmless, request, |stub, request| async move {
        stub.kv().range_stream(request).await
    });
    let mut pieces = call.await?;
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.message().await? {
        let piece = piece.range_response.unwrap_or_default();
        whole.header = piece.header.or(whole.header);
        whole.kvs.extend(piece.kvs);
        whole.more |= piece.more;
        whole.count = whole.count.max(piece.count);
    }
    Ok(whole)
}

/// A write of one key. Awaited if it came from [`Client::put`], an operation of a transaction if from [`Put::new`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Put<C = ()> {
    client: C,
    pub(crate) request: PutRequest,
}

impl Put {
    /// A write for a transaction.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { client: (), request: put(key.into(), value.into()) }
    }
}

impl Put {
    /// The same request, to be awaited.
    pub fn on(self, client: &Client) -> Put<&Client> {
        Put { client, request: self.request }
    }
}

impl<C> Put<C> {
    /// Attach the key to this lease: it goes when the lease goes.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.request.lease = lease.get();
        self
    }

    /// Answer with what the key held before.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }

    /// Keep the value (it must be given empty); the key must exist.
    pub fn ignore_value(mut self) -> Self {
        self.request.ignore_value = true;
        self
    }

    /// Keep the lease; the key must exist.
    pub fn ignore_lease(mut self) -> Self {
        self.request.ignore_lease = true;
        self
    }
}

impl<'c> IntoFuture for Put<&'c Client> {
    type Output = Result<PutResponse>;
    type IntoFuture = Call<'c, PutResponse>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, request } = self;
        Box::pin(
            client
                .core
                .unary(Repeat::Unsafe, request, |stub, request| async move { stub.kv().put(request).await }),
        )
    }
}

/// A deletion. Awaited if it came from [`Client::delete`], an operation of a transaction if from [`Delete::new`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Delete<C = ()> {
    client: C,
    pub(crate) request: DeleteRangeRequest,
}

impl Delete {
    /// A deletion for a transaction.
    pub fn new(key: impl Into<Bytes>) -> Self {
        Self { client: (), request: delete_range(key.into()) }
    }
}

impl Delete {
    /// The same request, to be awaited.
    pub fn on(self, client: &Client) -> Delete<&Client> {
        Delete { client, request: self.request }
    }
}

impl<C> Delete<C> {
    /// Delete from the key up to this one, which stays.
    pub fn range_end(mut self, end: impl Into<Bytes>) -> Self {
        self.request.range_end = end.into();
        self
    }

    /// Delete every key that starts with the key; with an empty key, every key.
    pub fn prefix(mut self) -> Self {
        (self.request.key, self.request.range_end) = prefix_range(self.request.key);
        self
    }

    /// Delete every key from the key on; with an empty key, every key.
    pub fn from_key(mut self) -> Self {
        (self.request.key, self.request.range_end) = from_key_range(self.request.key);
        self
    }

    /// Answer with what was deleted.
    pub fn prev_kv(mut self) -> Self {
        self.request.prev_kv = true;
        self
    }
}

impl<'c> IntoFuture for Delete<&'c Client> {
    type Output = Result<DeleteRangeResponse>;
    type IntoFuture = Call<'c, DeleteRangeResponse>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, request } = self;
        Box::pin(client.core.unary(Repeat::Unsafe, request, |stub, request| async move {
            stub.kv().delete_range(request).await
        }))
    }
}

/// A compaction, from [`Client::compact`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Compact<'c> {
    client: &'c Client,
    request: CompactionRequest,
}

impl Compact<'_> {
    /// Wait until the old records are gone from the server's store.
    pub fn physical(mut self) -> Self {
        self.request.physical = true;
        self
    }
}

impl<'c> IntoFuture for Compact<'c> {
    type Output = Result<CompactionResponse>;
    type IntoFuture = Call<'c, CompactionResponse>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, request } = self;
        Box::pin(
            client.core.unary(Repeat::Unsafe, request, |stub, request| async move {
                stub.kv().compact(request).await
            }),
        )
    }
}

fn range(key: Bytes) -> RangeRequest {
    RangeRequest { key, ..Default::default() }
}

fn put(key: Bytes, value: Bytes) -> PutRequest {
    PutRequest { key, value, ..Default::default() }
}

fn delete_range(key: Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest { key, ..Default::default() }
}

/// The key and range end that stand for every key starting with `prefix`.
///
/// The end is the prefix with its last byte that can grow grown by one: after all of `a…` comes `b`. An empty prefix, and
/// one of 0xff bytes alone, have no such end.
pub(crate) fn prefix_range(prefix: Bytes) -> (Bytes, Bytes) {
    if prefix.is_empty() {
        return (FIRST_KEY, NO_END);
    }
    let Some(last) = prefix.iter().rposition(|&byte| byte < 0xff) else {
        return (prefix, NO_END);
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    (prefix, end.into())
}

/// The key and range end that stand for every key from `key` on.
pub(crate) fn from_key_range(key: Bytes) -> (Bytes, Bytes) {
    (if key.is_empty() { FIRST_KEY } else { key }, NO_END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_growing_byte_grows() {
        let end = |prefix: &'static [u8]| prefix_range(Bytes::from_static(prefix));
        let pair =
            |key: &'static [u8], end: &'static [u8]| (Bytes::from_static(key), Bytes::from_static(end));
        assert_eq!(end(b"foo"), pair(b"foo", b"fop"));
        assert_eq!(end(b"a\xff\xff"), pair(b"a\xff\xff", b"b"));
        assert_eq!(end(b"\xff\xff"), pair(b"\xff\xff", b"\0"));
        assert_eq!(end(b""), pair(b"\0", b"\0"));
        assert_eq!(from_key_range(Bytes::from_static(b"x")), pair(b"x", b"\0"));
        assert_eq!(from_key_range(Bytes::new()), pair(b"\0", b"\0"));
    }
}
