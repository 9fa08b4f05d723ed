//! What a request must be allowed to do: asked when it arrives, and again, alike on every member, when it is applied.

use ::auth::{Access, Identity, Result, Rules};
use api::LeaseId;
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use lease::Lessor;

/// Somebody, and the rules of one moment. Each question is answered with etcd's refusal, in etcd's order.
#[derive(Clone, Copy)]
pub(crate) struct Permit<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) lessor: &'a Lessor,
}

impl Permit<'_> {
    fn check(&self, access: Access, key: &[u8], range_end: &[u8]) -> Result<()> {
        self.rules.check(self.identity, access, key, range_end)
    }

    /// To be any user.
    pub(crate) fn user(&self) -> Result<()> {
        self.rules.check_user(self.identity)
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<()> {
        self.check(Access::Read, &request.key, &request.range_end)
    }

    pub(crate) fn put(&self, request: &PutRequest) -> Result<()> {
        self.check(Access::Write, &request.key, &[])?;
        if request.lease != 0 {
            // Whoever puts a key on a lease could else have others' keys deleted with it.
            self.lease(Access::Write, request.lease)?;
        }
        if request.prev_kv { self.check(Access::Read, &request.key, &[]) } else { Ok(()) }
    }

    pub(crate) fn delete_range(&self, request: &DeleteRangeRequest) -> Result<()> {
        self.check(Access::Write, &request.key, &request.range_end)?;
        if request.prev_kv { self.check(Access::Read, &request.key, &request.range_end) } else { Ok(()) }
    }

    /// All comparisons and both branches, whichever will be taken.
    pub(crate) fn txn(&self, request: &TxnRequest) -> Result<()> {
        for compare in &request.compare {
            self.check(Access::Read, &compare.key, &compare.range_end)?;
        }
        request.success.iter().chain(&request.failure).try_for_each(|op| self.op(op))
    }

    fn op(&self, op: &RequestOp) -> Result<()> {
        match &op.request {
            Some(Request::RequestRange(request)) => self.range(request),
            Some(Request::RequestPut(request)) => self.put(request),
            Some(Request::RequestDeleteRange(request)) => self.delete_range(request),
            Some(Request::RequestTxn(request)) => self.txn(request),
            None => Ok(()),
        }
    }

    /// Every key of a lease. One that does not exist has none.
    pub(crate) fn lease(&self, access: Access, id: i64) -> Result<()> {
        if !self.rules.enabled() || self.rules.check_root(self.identity).is_ok() {
            return Ok(());
        }
        let keys = self.lessor.keys(LeaseId::new(id)).unwrap_or_default();
        keys.iter().try_for_each(|key| self.check(access, key, &[]))
    }
}
