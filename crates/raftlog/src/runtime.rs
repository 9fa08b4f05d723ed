//! The runtime openraft runs on: tokio's, with two differences.
//!
//! openraft collects completed writes for a microsecond before it looks at them, whenever two of them follow
//! each other closely. Tokio's timer counts in milliseconds, so that microsecond becomes one of them, five
//! times as long as the write itself. Here a wait too short for the timer lets the other tasks run once instead.
//!
//! openraft gives a heartbeat up after one heartbeat interval and a vote after the shortest election timeout, and
//! takes no other limit. Members that are farther apart than that would never have a leader, although an election timeout
//! leaves time for it. Nothing else of openraft waits with a time-out that short, so here none ends before
//! [`answers_take`] has been allowed for.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::rt::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioRuntime};

/// How long an answer of another member may take, in milliseconds. One figure for the process: the largest of its nodes'.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// Allows other members' answers to take so long.
pub(crate) fn answers_take(at_most: Duration) {
    PATIENCE.fetch_max(u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// A wait shorter than this is not worth a timer.
const SHORT: Duration = Duration::from_micros(200);

pub(crate) struct Runtime(TokioRuntime);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A wait for some time.
#[derive(Debug)]
pub(crate) enum Sleep {
    /// Too short for a timer, and not polled yet.
    Short,
    /// Over at the next poll.
    Over,
    Timer(Pin<Box<tokio::time::Sleep>>),
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::Short => {
                context.waker().wake_by_ref();
                *self = Self::Over;
                Poll::Pending
            }
            Self::Over => Poll::Ready(()),
            Self::Timer(timer) => timer.as_mut().poll(context),
        }
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        if duration < SHORT { Sleep::Short } else { Sleep::Timer(Box::pin(TokioRuntime::sleep(duration))) }
    }

    fn sleep_until(deadline: TokioInstant) -> Sleep {
        if deadline < TokioInstant::now() + SHORT {
            Sleep::Short
        } else {
            Sleep::Timer(Box::pin(TokioRuntime::sleep_until(deadline)))
        }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        let patience = Duration::from_millis(PATIENCE.load(Ordering::Relaxed));
        TokioRuntime::timeout(duration.max(patience), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: TokioInstant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    async fn spawn_blocking<F, T>(f: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        tokio::task::spawn_blocking(f).await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_microsecond_does_not_become_a_tick_of_the_timer() {
        let start = tokio::time::Instant::now();
        Runtime::sleep(Duration::from_micros(1)).await;
        Runtime::sleep_until(TokioInstant::now() + Duration::from_micros(1)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        Runtime::sleep(Duration::from_millis(5)).await;
        assert!(start.elapsed() >= Duration::from_millis(5));
    }
}
