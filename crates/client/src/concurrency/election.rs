//! Leadership: who stands first leads, and says what it likes to those who observe.

use api::etcdserverpb::{RangeResponse, ResponseHeader, TxnResponse};
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use bytes::Bytes;

use super::Session;
use super::candidate::{Candidate, prefix};
use crate::{Client, Error, Result, SortOrder, SortTarget, WatchStream};

impl Session {
    /// Stands in the election of this name and waits until this session leads.
    ///
    /// Dropping the future while it waits is standing no more.
    ///
    /// # Errors
    /// Any of [`Error`]; [`Error::LeaseExpired`] when the session ended while it waited.
    pub async fn campaign(&self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Leadership<'_>> {
        let (name, value) = (name.into(), value.into());
        let (mut candidate, found) = Candidate::stand(self, &name, value.clone()).await?;
        if let Err(error) = self.win(&mut candidate, &name, value, found).await {
            // What matters is why it does not lead.
            drop(candidate.withdraw().await);
            return Err(error);
        }
        candidate.keep();
        Ok(Leadership { session: self, candidate })
    }

    async fn win(
        &self,
        candidate: &mut Candidate,
        name: &[u8],
        value: Bytes,
        found: Option<KeyValue>,
    ) -> Result<()> {
        let expired = || Error::LeaseExpired { id: self.lease() };
        if found.is_some_and(|kv| kv.value != value) && !candidate.say(self, value).await? {
            return Err(expired());
        }
        if candidate.wait(name).await? && candidate.look().await?.is_none() {
            return Err(expired());
        }
        Ok(())
    }
}

/// A session that leads. Dropped, it goes on leading until the session ends.
#[derive(Debug)]
pub struct Leadership<'s> {
    session: &'s Session,
    candidate: Candidate,
}

impl Leadership<'_> {
    /// The key that stands for the leadership while it lasts.
    #[must_use]
    pub fn key(&self) -> Bytes {
        self.candidate.key.clone()
    }

    /// The revision at which the key was created: compare with it in transactions made as the leader.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.candidate.revision
    }

    /// The header of the latest answer about the leadership.
    #[must_use]
    pub fn header(&self) -> ResponseHeader {
        self.candidate.header
    }

    /// Says something else to those who observe.
    ///
    /// # Errors
    /// Any of [`Error`]; [`Error::LeaseExpired`] when it does not lead any more.
    pub async fn proclaim(&mut self, value: impl Into<Bytes>) -> Result<()> {
        match self.candidate.say(self.session, value.into()).await? {
            true => Ok(()),
            false => Err(Error::LeaseExpired { id: self.session.lease() }),
        }
    }

    /// Lets the next one lead.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn resign(self) -> Result<TxnResponse> {
        self.candidate.withdraw().await
    }
}

impl Client {
    /// Who leads in the election of this name, and what it says: one pair, or none.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn leader(&self, name: impl AsRef<[u8]>) -> Result<RangeResponse> {
        let oldest = self.get(prefix(name.as_ref())).prefix();
        oldest.sort(SortTarget::Create, SortOrder::Ascend).limit(1).await
    }

    /// Observes an election.
    #[must_use]
    pub fn observe(&self, name: impl Into<Bytes>) -> Observer {
        Observer { client: self.clone(), name: name.into(), state: State::Looking }
    }
}

/// Tells of each leader of an election, and of all it says.
#[derive(Debug)]
pub struct Observer {
    client: Client,
    name: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Whoever leads now is to be found.
    Looking,
    /// Nobody led; the first who stands will.
    Waiting(WatchStream),
    /// A leader was told of, at this revision.
    Found {
        leader: Bytes,
        revision: i64,
        count: i64,
    },
    Following {
        events: WatchStream,
        news: std::collections::VecDeque<Told>,
        count: i64,
    },
}

/// An event of the leader's key; `None` for its end.
type Told = Option<RangeResponse>;

impl Observer {
    /// The next leader, or the next thing it says: an answer with one pair. To be called again only when it has returned.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn next(&mut self) -> Result<RangeResponse> {
        loop {
            let step = match std::mem::replace(&mut self.state, State::Looking) {
                State::Looking => self.look().await,
                State::Waiting(events) => self.first(events).await,
                State::Found { leader, revision, count } => self.follow(leader, revision, count).await,
                State::Following { events, news, count } => self.hear(events, news, count).await,
            };
            match step {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                // What was to be watched is gone from history; another look tells.
                Err(error) if error.compact_revision().is_some() => self.state = State::Looking,
                Err(error) => return Err(error),
            }
        }
    }

    async fn look(&mut self) -> Result<Option<RangeResponse>> {
        let found = self.client.leader(&self.name).await?;
        let revision = found.header.map_or(0, |header| header.revision);
        let Some(kv) = found.kvs.into_iter().next() else {
            let events = self.client.watch(prefix(&self.name)).prefix().start_revision(revision);
            self.state = State::Waiting(events.await?);
            return Ok(None);
        };
        self.state = State::Found { leader: kv.key.clone(), revision, count: found.count };
        Ok(Some(told(found.header, kv, 0)))
    }

    async fn first(&mut self, mut events: WatchStream) -> Result<Option<RangeResponse>> {
        let response = events.next().await.ok_or(Error::Closed)??;
        let put = response.events.into_iter().find(|event| event.r#type() == EventType::Put);
        let Some(kv) = put.and_then(|event| event.kv) else {
            self.state = State::Waiting(events);
            return Ok(None);
        };
        let header = response.header.map(|header| ResponseHeader { revision: kv.mod_revision, ..header });
        self.state = State::Found { leader: kv.key.clone(), revision: kv.mod_revision, count: 0 };
        Ok(Some(told(header, kv, 0)))
    }

    async fn follow(&mut self, leader: Bytes, revision: i64, count: i64) -> Result<Option<RangeResponse>> {
        let events = self.client.watch(leader).start_revision(revision + 1).await?;
        self.state = State::Following { events, news: std::collections::VecDeque::new(), count };
        Ok(None)
    }

    async fn hear(
        &mut self,
        mut events: WatchStream,
        mut news: std::collections::VecDeque<Told>,
        count: i64,
    ) -> Result<Option<RangeResponse>> {
        if news.is_empty() {
            let response = events.next().await.ok_or(Error::Closed)??;
            for event in response.events {
                let put = event.r#type() == EventType::Put;
                news.push_back(event.kv.filter(|_| put).map(|kv| told(response.header, kv, count)));
            }
        }
        match news.pop_front() {
            // Without its key it leads no more.
            Some(None) => Ok(None),
            said => {
                self.state = State::Following { events, news, count };
                Ok(said.flatten())
            }
        }
    }
}

fn told(header: Option<ResponseHeader>, kv: KeyValue, count: i64) -> RangeResponse {
    RangeResponse { header, kvs: vec![kv], more: false, count }
}
