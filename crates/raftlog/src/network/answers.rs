//! How long a single answer on a stream of entries may take.
//!
//! A connection that is dead is found by HTTP/2's pings. A member that lives, takes entries and never says what became of them is
//! not, and openraft would wait for it for ever. So a stream ends when its oldest unanswered request has waited too long;
//! then a new one is opened, and begins by asking how far the member's log goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

/// When each request was sent that has no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    sent: Mutex<VecDeque<Instant>>,
    /// The first of them was sent.
    begun: Notify,
}

impl Unanswered {
    fn sent(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is on its way.
    pub(crate) fn push(&self) {
        self.sent().push_back(Instant::now());
        self.begun.notify_one();
    }

    fn oldest(&self) -> Option<Instant> {
        self.sent().front().copied()
    }

    /// Waits until the oldest request has waited for so long.
    async fn overdue(&self, patience: Duration) {
        loop {
            match self.oldest() {
                Some(oldest) if oldest.elapsed() >= patience => return,
                Some(oldest) => tokio::time::sleep_until(oldest + patience).await,
                None => self.begun.notified().await,
            }
        }
    }
}

/// Passes answers on, of which each belongs to the oldest unanswered request. When one is overdue, the stream ends with an error.
pub(crate) fn in_time<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    unanswered: Arc<Unanswered>,
    patience: Duration,
) -> BoxStream<'static, Result<T, Status>> {
    let begin = Some((answers.boxed(), unanswered));
    let answers = stream::unfold(begin, move |state| async move {
        let (mut answers, unanswered) = state?;
        let answer = tokio::select! {
            biased;
            answer = answers.next() => answer?,
            () = unanswered.overdue(patience) => {
                let late = format!("entries were taken and not answered within {patience:?}");
                return Some((Err(Status::deadline_exceeded(late)), None));
            }
        };
        unanswered.sent().pop_front();
        Some((answer, Some((answers, unanswered))))
    });
    answers.boxed()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;
    use tonic::Code;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A stream, where its answers come from, and where its requests are noted.
    fn open() -> (BoxStream<'static, Result<u32, Status>>, mpsc::UnboundedSender<u32>, Arc<Unanswered>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let unanswered = Arc::<Unanswered>::default();
        let answers = UnboundedReceiverStream::new(receiver).map(Ok);
        (in_time(answers, Arc::clone(&unanswered), PATIENCE), sender, unanswered)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_requests_may_be_silent_and_one_that_is_answered_goes_on() {
        let (mut stream, answer, unanswered) = open();
        let silent = tokio::time::timeout(20 * PATIENCE, stream.next());
        silent.await.expect_err("nothing was asked");
        for n in 0..10 {
            unanswered.push();
            tokio::time::sleep(PATIENCE / 2).await;
            answer.send(n).unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap(), n);
        }
        drop(answer);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_ends_the_stream_although_later_ones_were_sent() {
        let (mut stream, answer, unanswered) = open();
        let start = Instant::now();
        let asking = async {
            for _ in 0..10 {
                unanswered.push();
                tokio::time::sleep(PATIENCE / 4).await;
            }
        };
        answer.send(0).unwrap();
        let reading = async {
            stream.next().await.unwrap().unwrap();
            let late = stream.next().await.unwrap().unwrap_err();
            (late.code(), start.elapsed(), stream.next().await.is_none())
        };
        let ((), ended) = tokio::join!(asking, reading);
        assert_eq!(ended, (Code::DeadlineExceeded, PATIENCE + PATIENCE / 4, true), "it waits for the second");
    }
}
