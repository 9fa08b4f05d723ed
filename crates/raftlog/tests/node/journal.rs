//! An application to test with: it keeps all it is told.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use raftlog::{Application, ApplicationError, Applied, Config, Entry, LogId, Node};

/// Applying this panics.
pub(crate) const PANIC: &str = "panic!";

/// What an application was told, to be looked at from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    batches: usize,
    applied: Applied,
    /// What a crash would leave.
    flushed: Applied,
    fails_at: Option<Bytes>,
}

impl Journal {
    /// The data of all entries that have any.
    pub(crate) fn data(&self) -> Vec<Bytes> {
        let state = self.0.lock().unwrap();
        state.entries.iter().map(|entry| entry.data.clone()).filter(|data| !data.is_empty()).collect()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.clone()
    }

    pub(crate) fn batches(&self) -> usize {
        self.0.lock().unwrap().batches
    }

    pub(crate) fn flushed(&self) -> Applied {
        self.0.lock().unwrap().flushed.clone()
    }

    /// From now on applying this fails.
    pub(crate) fn fail_at(&self, data: &'static str) {
        self.0.lock().unwrap().fails_at = Some(Bytes::from_static(data.as_bytes()));
    }

    /// The application as a crash would leave it: back to what was flushed.
    pub(crate) fn crashed(&self) -> Self {
        let state = self.0.lock().unwrap();
        let kept = state
            .flushed
            .last
            .map_or(0, |last| state.entries.iter().take_while(|entry| entry.index <= last.index).count());
        Self(Arc::new(Mutex::new(State {
            entries: state.entries[..kept].to_vec(),
            applied: state.flushed.clone(),
            flushed: state.flushed.clone(),
            ..State::default()
        })))
    }
}

impl Application for Journal {
    fn applied(&self) -> Applied {
        self.0.lock().unwrap().applied.clone()
    }

    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
        let mut state = self.0.lock().unwrap();
        state.batches += 1;
        for entry in batch {
            assert_ne!(entry.data, PANIC);
            if state.fails_at.as_ref().is_some_and(|data| *data == entry.data) {
                return Err("asked to fail".into());
            }
            let expected = state.applied.last.map_or(0, |last| last.index + 1);
            assert_eq!(entry.index, expected, "entries come in order, without gaps, once");
            state.applied.last = Some(entry.log_id());
            state.applied.membership = entry.membership.clone().or(state.applied.membership.take());
            state.entries.push(entry.clone());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Applied, ApplicationError> {
        let mut state = self.0.lock().unwrap();
        state.flushed = state.applied.clone();
        Ok(state.flushed.clone())
    }

    /// One file of entries, each as three numbers and its bytes, the lengths before them.
    fn snapshot(&mut self, dir: &Path) -> Result<(), ApplicationError> {
        let mut file = Vec::new();
        for entry in &self.0.lock().unwrap().entries {
            let membership = entry.membership.as_deref().unwrap_or_default();
            for number in [entry.term, entry.index, entry.data.len() as u64, membership.len() as u64] {
                file.extend(number.to_be_bytes());
            }
            file.extend_from_slice(&entry.data);
            file.extend_from_slice(membership);
        }
        Ok(fs::write(dir.join("entries"), file)?)
    }

    fn install(&mut self, dir: &Path) -> Result<Applied, ApplicationError> {
        let mut file = Bytes::from(fs::read(dir.join("entries"))?);
        let mut state = self.0.lock().unwrap();
        state.entries.clear();
        while !file.is_empty() {
            let (term, index) = (file.get_u64(), file.get_u64());
            let (data, membership) = (file.get_u64(), file.get_u64());
            let data = file.split_to(usize::try_from(data)?);
            let membership = file.split_to(usize::try_from(membership)?);
            let membership = (!membership.is_empty()).then_some(membership);
            state.applied.last = Some(LogId { term, index });
            state.applied.membership = membership.clone().or(state.applied.membership.take());
            state.entries.push(Entry { term, index, data, membership });
        }
        state.flushed = state.applied.clone();
        Ok(state.applied.clone())
    }
}

/// A member on its own. Elections by timeout would take an hour, so whatever happens does not wait for one.
pub(crate) fn config(dir: &Path) -> Config {
    Config { election_timeout: Duration::from_secs(3600), ..Config::single(1, 7, dir) }
}

pub(crate) async fn open(dir: &Path, journal: &Journal) -> Node {
    Node::open(config(dir), journal.clone()).await.unwrap()
}

pub(crate) async fn leads(node: &Node) {
    let mut leadership = node.leadership();
    let led = leadership.wait_for(|leadership| leadership.is_leader);
    tokio::time::timeout(Duration::from_secs(60), led).await.expect("nobody was elected").unwrap();
}
