//! A key that stands for a session among the keys below a name, and waiting until it is the oldest.
//!
//! Who comes later waits for the key that was made just before its own to go away, so that each that goes wakes one waiter, and
//! turns come in the order of creation.

use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{ResponseHeader, TxnResponse};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::Session;
use crate::{Client, Compare, Delete, Get, Put, Result, SortOrder, SortTarget, Txn};

/// A key of a session. One that is dropped before it is [kept](Self::keep) is deleted, so that nobody waits for it.
#[derive(Debug)]
pub(super) struct Candidate {
    client: Client,
    pub(super) key: Bytes,
    /// The revision at which the key was created, which tells it from any other that may come to have its name.
    pub(super) revision: i64,
    pub(super) header: ResponseHeader,
    kept: bool,
}

/// What the keys below a name begin with.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a session below a name: its lease as Go writes the number, a negative one with its sign.
fn key(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [name, format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

impl Candidate {
    /// Puts the session's key up, or finds it there; then also tells what it holds.
    pub(super) async fn stand(
        session: &Session,
        name: &[u8],
        value: Bytes,
    ) -> Result<(Self, Option<KeyValue>)> {
        let client = session.client().clone();
        let key = key(name, session.lease().get());
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone()).equal(0)])
            .then([Put::new(key.clone(), value).lease(session.lease())])
            .otherwise([Get::new(key.clone())]);
        let response = client.txn(txn).await?;
        let header = response.header.unwrap_or_default();
        let found = if response.succeeded { None } else { first(response) };
        let revision = found.as_ref().map_or(header.revision, |kv| kv.create_revision);
        let kept = found.is_some();
        Ok((Self { client, key, revision, header, kept }, found))
    }

    /// Waits until no key below `name` is older; returns whether there was one.
    pub(super) async fn wait(&mut self, name: &[u8]) -> Result<bool> {
        let mut waited = false;
        loop {
            let older = self
                .client
                .get(prefix(name))
                .prefix()
                .sort(SortTarget::Create, SortOrder::Descend)
                .limit(1)
                .max_create_revision(self.revision - 1);
            let found = older.await?;
            let Some(before) = found.kvs.into_iter().next() else { return Ok(waited) };
            // From now on giving up is leaving the line.
            (self.kept, waited) = (false, true);
            let revision = found.header.map_or(0, |header| header.revision);
            deleted(&self.client, before.key, revision).await?;
        }
    }

    /// What the key holds now, if it is still this one.
    pub(super) async fn look(&mut self) -> Result<Option<KeyValue>> {
        let found = self.client.get(self.key.clone()).await?;
        self.header = found.header.unwrap_or_default();
        Ok(found.kvs.into_iter().find(|kv| kv.create_revision == self.revision))
    }

    /// Gives the key another value, if it is still this one.
    pub(super) async fn say(&mut self, session: &Session, value: Bytes) -> Result<bool> {
        let txn = Txn::new()
            .when([Compare::create_revision(self.key.clone()).equal(self.revision)])
            .then([Put::new(self.key.clone(), value).lease(session.lease())]);
        let response = self.client.txn(txn).await?;
        if response.succeeded {
            self.header = response.header.unwrap_or_default();
        }
        Ok(response.succeeded)
    }

    /// Leaves the key where it is when this is dropped.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Deletes the key, if it is still this one.
    pub(super) async fn withdraw(mut self) -> Result<TxnResponse> {
        self.kept = true;
        remove(&self.client, self.key.clone(), self.revision).await
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (client, key, revision) = (self.client.clone(), std::mem::take(&mut self.key), self.revision);
        // If this fails, the end of the lease will do it.
        runtime.spawn(async move { drop(remove(&client, key, revision).await) });
    }
}

fn first(response: TxnResponse) -> Option<KeyValue> {
    match response.responses.into_iter().next()?.response? {
        Response::ResponseRange(range) => range.kvs.into_iter().next(),
        _ => None,
    }
}

async fn remove(client: &Client, key: Bytes, revision: i64) -> Result<TxnResponse> {
    let unchanged = Compare::create_revision(key.clone()).equal(revision);
    client.txn(Txn::new().when([unchanged]).then([Delete::new(key)])).await
}

/// Waits until a key that was there at `revision` is gone, or may be.
async fn deleted(client: &Client, key: Bytes, revision: i64) -> Result<()> {
    let gone = async {
        let mut events = client.watch(key).start_revision(revision).await?;
        while let Some(response) = events.next().await {
            if response?.events.iter().any(|event| event.r#type() == EventType::Delete) {
                return Ok(());
            }
        }
        Err(crate::Error::Closed)
    };
    match gone.await {
        // What happened since is not to be had any more; another look tells the outcome.
        Err(error) if error.compact_revision().is_some() => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_written_into_its_key_as_go_writes_it() {
        assert_eq!(key(b"l", 0x694d_a203_842f_e33d), "l/694da203842fe33d");
        assert_eq!(key(b"l", -10), "l/-a");
        assert_eq!(prefix(b"l"), "l/");
    }
}
