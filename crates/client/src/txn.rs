//! Transactions: compare, then do one thing or the other, all at once.
//!
//! ```no_run
//! # async fn example(client: etcd_rs_client::Client) -> etcd_rs_client::Result<()> {
//! use etcd_rs_client::{Compare, Get, Put, Txn};
//!
//! let txn = Txn::new()
//!     .when([Compare::version("lock").equal(0)])
//!     .then([Put::new("lock", "mine")])
//!     .otherwise([Get::new("lock")]);
//! let taken = client.txn(txn).await?.succeeded;
//! # Ok(()) }
//! ```

use std::fmt;

use api::LeaseId;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{Compare as CompareMessage, RequestOp, TxnRequest, TxnResponse};
use bytes::Bytes;

use crate::kv::{from_key_range, prefix_range};
use crate::retry::Repeat;
use crate::{Client, Delete, Get, Put, Result};

impl Client {
    /// Runs a transaction.
    ///
    /// # Errors
    /// Any of [`Error`](crate::Error); compares that do not hold are no error but an answer.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let repeat = if txn.only_reads() { Repeat::Harmless } else { Repeat::Unsafe };
        let call =
            self.core.unary(repeat, txn.request, |stub, request| async move { stub.kv().txn(request).await });
        call.await
    }
}

/// A transaction: if all compares of `when` hold, the operations of `then` are done, else those of `otherwise`.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Txn {
    request: TxnRequest,
}

impl Txn {
    /// A transaction that compares nothing and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds compares; all must hold.
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Self {
        self.request.compare.extend(compares.into_iter().map(|compare| compare.0));
        self
    }

    /// Adds operations for when the compares hold.
    pub fn then<O: Into<Op>>(mut self, ops: impl IntoIterator<Item = O>) -> Self {
        self.request.success.extend(ops.into_iter().map(|op| op.into().0));
        self
    }

    /// Adds operations for when they do not.
    pub fn otherwise<O: Into<Op>>(mut self, ops: impl IntoIterator<Item = O>) -> Self {
        self.request.failure.extend(ops.into_iter().map(|op| op.into().0));
        self
    }

    fn only_reads(&self) -> bool {
        let mut ops = self.request.success.iter().chain(&self.request.failure);
        ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
    }
}

/// One operation of a transaction: a [`Get`], [`Put`], [`Delete`] or another [`Txn`].
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Op(RequestOp);

impl From<Request> for Op {
    fn from(request: Request) -> Self {
        Self(RequestOp { request: Some(request) })
    }
}

impl From<Get> for Op {
    fn from(get: Get) -> Self {
        Request::RequestRange(get.request).into()
    }
}

impl From<Put> for Op {
    fn from(put: Put) -> Self {
        Request::RequestPut(put.request).into()
    }
}

impl From<Delete> for Op {
    fn from(delete: Delete) -> Self {
        Request::RequestDeleteRange(delete.request).into()
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Self {
        Request::RequestTxn(txn.request).into()
    }
}

/// A condition on a key, or on every key of a range, as it is before the transaction.
///
/// A key that does not exist has version, revisions and lease 0, and no value: comparing its value never holds.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Compare(CompareMessage);

impl Compare {
    /// Compares how often the key was written since it was created; 0 when it does not exist.
    pub fn version(key: impl Into<Bytes>) -> Comparand<i64> {
        Comparand::new(key, CompareTarget::Version, TargetUnion::Version)
    }

    /// Compares the revision that created the key.
    pub fn create_revision(key: impl Into<Bytes>) -> Comparand<i64> {
        Comparand::new(key, CompareTarget::Create, TargetUnion::CreateRevision)
    }

    /// Compares the revision that last modified the key.
    pub fn mod_revision(key: impl Into<Bytes>) -> Comparand<i64> {
        Comparand::new(key, CompareTarget::Mod, TargetUnion::ModRevision)
    }

    /// Compares the value, byte by byte.
    pub fn value(key: impl Into<Bytes>) -> Comparand<Bytes> {
        Comparand::new(key, CompareTarget::Value, TargetUnion::Value)
    }

    /// Compares the lease the key is attached to.
    pub fn lease(key: impl Into<Bytes>) -> Comparand<LeaseId> {
        Comparand::new(key, CompareTarget::Lease, |lease: LeaseId| TargetUnion::Lease(lease.get()))
    }

    /// Compares every key from the given one up to this one, which is left out.
    pub fn range_end(mut self, end: impl Into<Bytes>) -> Self {
        self.0.range_end = end.into();
        self
    }

    /// Compares every key that starts with the given one.
    pub fn prefix(mut self) -> Self {
        (self.0.key, self.0.range_end) = prefix_range(self.0.key);
        self
    }

    /// Compares every key from the given one on.
    pub fn from_key(mut self) -> Self {
        (self.0.key, self.0.range_end) = from_key_range(self.0.key);
        self
    }
}

/// What of a key is compared; the method says with what, and makes it a [`Compare`].
#[must_use]
pub struct Comparand<T> {
    message: CompareMessage,
    wrap: fn(T) -> TargetUnion,
}

impl<T> fmt::Debug for Comparand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparand").field("message", &self.message).finish_non_exhaustive()
    }
}

impl<T> Comparand<T> {
    fn new(key: impl Into<Bytes>, target: CompareTarget, wrap: fn(T) -> TargetUnion) -> Self {
        Self {
            message: CompareMessage { key: key.into(), target: target.into(), ..Default::default() },
            wrap,
        }
    }

    fn with(mut self, result: CompareResult, value: T) -> Compare {
        self.message.result = result.into();
        self.message.target_union = Some((self.wrap)(value));
        Compare(self.message)
    }

    /// Holds when they are equal.
    pub fn equal(self, value: impl Into<T>) -> Compare {
        self.with(CompareResult::Equal, value.into())
    }

    /// Holds when they differ.
    pub fn not_equal(self, value: impl Into<T>) -> Compare {
        self.with(CompareResult::NotEqual, value.into())
    }

    /// Holds when the key's is greater.
    pub fn greater(self, value: impl Into<T>) -> Compare {
        self.with(CompareResult::Greater, value.into())
    }

    /// Holds when the key's is less.
    pub fn less(self, value: impl Into<T>) -> Compare {
        self.with(CompareResult::Less, value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compare_names_its_target_and_carries_its_value() {
        let Compare(message) = Compare::value("k").not_equal("v").prefix();
        assert_eq!(message.result(), CompareResult::NotEqual);
        assert_eq!(message.target(), CompareTarget::Value);
        assert_eq!(message.target_union, Some(TargetUnion::Value("v".into())));
        assert_eq!((message.key, message.range_end), ("k".into(), "l".into()));
    }

    #[test]
    fn only_a_transaction_of_reads_may_be_sent_twice() {
        assert!(Txn::new().then([Get::new("a")]).otherwise([Get::new("b")]).only_reads());
        assert!(!Txn::new().then([Get::new("a")]).otherwise([Put::new("b", "1")]).only_reads());
        assert!(!Txn::new().then([Txn::new()]).only_reads());
    }
}
