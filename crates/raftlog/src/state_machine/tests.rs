use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::queue::{ApplyQueue, Command, Job};
use super::worker::{FlushPolicy, Worker};
use crate::application::{Application, ApplicationError, Applied, Entry, LogId};
use crate::failure::Failure;
use crate::log_store::durable::Durable;
use crate::metrics::ApplyMetrics;
use crate::types::{CommittedLeaderId, LogEntry, Payload};

/// Remembers the batches it was given, by their indexes.
#[derive(Clone, Default)]
struct Batches(Arc<Mutex<Vec<Vec<u64>>>>);

impl Application for Batches {
    fn applied(&self) -> Applied {
        Applied::default()
    }

    fn apply(&mut self, batch: &[Entry]) -> Result<(), ApplicationError> {
        self.0.lock().unwrap().push(batch.iter().map(|entry| entry.index).collect());
        Ok(())
    }

    fn flush(&mut self) -> Result<Applied, ApplicationError> {
        Ok(Applied::default())
    }
}

struct Fixture {
    queue: Arc<ApplyQueue>,
    durable: Arc<Durable>,
    applied: watch::Receiver<Option<LogId>>,
    batches: Batches,
}

impl Fixture {
    fn new(durable: u64) -> Self {
        let (published, applied) = watch::channel(None);
        let (queue, durable) = (Arc::new(ApplyQueue::default()), Arc::new(Durable::new(durable)));
        let batches = Batches::default();
        let worker = Worker {
            application: batches.clone(),
            queue: Arc::clone(&queue),
            durable: Arc::clone(&durable),
            failure: Failure::new(),
            applied: Applied::default(),
            published,
            metrics: Arc::new(ApplyMetrics::default()),
            flush_policy: FlushPolicy::new(u64::MAX).0,
        };
        worker.spawn().unwrap();
        Self { queue, durable, applied, batches }
    }

    fn push(&self, indexes: std::ops::Range<u64>) {
        self.queue.push(indexes.map(|index| {
            let entry = LogEntry { leader: CommittedLeaderId::new(1), index, payload: Payload::default() };
            Job::Entry(entry, None)
        }));
    }

    async fn applied(&mut self, index: u64) {
        self.applied.wait_for(|last| last.is_some_and(|last| last.index == index)).await.unwrap();
    }

    fn batches(&self) -> Vec<Vec<u64>> {
        self.batches.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn an_entry_is_applied_only_once_it_is_durable() {
    let mut fixture = Fixture::new(1);
    fixture.push(0..5);
    // Without the gate all five would be one batch.
    fixture.applied(0).await;
    fixture.durable.advance(0, 3);
    fixture.applied(2).await;
    fixture.durable.advance(0, 5);
    fixture.applied(4).await;
    assert_eq!(fixture.batches(), [vec![0], vec![1, 2], vec![3, 4]]);
}

#[tokio::test]
async fn what_comes_together_is_applied_together() {
    let mut fixture = Fixture::new(1);
    fixture.push(0..2);
    fixture.applied(0).await;
    // The thread waits for entry 1 now; what is queued meanwhile is the next batch.
    for index in 2..50 {
        fixture.push(index..index + 1);
    }
    fixture.durable.advance(0, 50);
    fixture.applied(49).await;
    assert_eq!(fixture.batches(), [vec![0], vec![1], (2..50).collect()]);
}

#[tokio::test]
async fn a_question_is_answered_after_what_was_queued_before_it() {
    let fixture = Fixture::new(10);
    let (reply, answer) = tokio::sync::oneshot::channel();
    fixture.push(0..3);
    fixture.queue.push([Job::Command(Command::Applied { reply })]);
    fixture.push(3..6);
    assert_eq!(answer.await.unwrap().unwrap().last, Some(LogId { term: 1, index: 2 }));
}
