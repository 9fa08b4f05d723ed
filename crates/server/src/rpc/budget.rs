//! A budget in bytes for answers: those that are being made, and those that have not left yet.
//!
//! A client may ask for all there is, and a hundred may do so at once. Each large answer first waits until the budget has room for
//! it, and gives its share back as it leaves; so clients that ask for much at once are served one after the other, instead of
//! together by a member without memory.
//!
//! ```text
//! weigh ──► reserve (waits, in order) ──► read, encode ──► shrink to what it is ──► pieces to the connection ──► given back
//! ```
//!
//! An answer waits once, before it holds anything, so there is no deadlock; one that is larger than the whole budget waits for all
//! of it. Who waits longest is next. An answer whose client takes nothing for a while, although others wait, is broken off: a
//! client that stands still must not hold what the others need. Small answers do not count.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use api::status;
use bytes::{Buf as _, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;

/// Answers below this size do not count.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;
/// The budget is kept in units of this size.
const UNIT_BYTES: usize = 4096;
/// What is given to the connection at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a client may take nothing while others wait.
const STANDSTILL: Duration = Duration::from_secs(20);

/// The budget of a member.
#[derive(Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
    waiting: AtomicUsize,
    /// Guards the list of answers that are leaving; held only to look or change.
    leaving: Mutex<Vec<Weak<Leaving>>>,
}

/// A share of the budget, given back when it is dropped. Empty for what does not count.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let units_max = units(bytes).max(1);
        Arc::new(Self {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            waiting: AtomicUsize::new(0),
            leaving: Mutex::default(),
        })
    }

    /// Waits until there is room for an answer of so many bytes.
    pub(crate) async fn reserve(&self, bytes: usize) -> Share {
        if bytes < SMALL_BYTES {
            return Share::default();
        }
        let wanted = units(bytes).min(self.units_max);
        let units = Arc::clone(&self.units);
        let permit = match Arc::clone(&units).try_acquire_many_owned(wanted) {
            Ok(permit) => Ok(permit),
            Err(_) => {
                let _waits = Waits::new(&self.waiting);
                units.acquire_many_owned(wanted).await
            }
        };
        Share(Some(permit.expect("the budget is never closed")))
    }

    /// What to reserve for an answer that cannot be weighed: so much that there are not many of them.
    pub(crate) fn guess(&self) -> usize {
        self.units_max as usize * UNIT_BYTES / 8
    }

    /// Lets a made answer leave in pieces.
    pub(crate) fn leave(&self, frame: Bytes) -> Pieces {
        let rest = Rest { frame, taken: Instant::now(), broken_off: false };
        let leaving = Arc::new(Leaving(Mutex::new(rest)));
        let mut all = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&leaving));
        drop(all);
        Pieces(leaving)
    }

    /// Looks after answers that stand still, for as long as the member runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(STANDSTILL / 10).await;
            self.look(Instant::now());
        }
    }

    /// Breaks off answers that stand still at `now`, if anybody waits.
    fn look(&self, now: Instant) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let leaving: Vec<Weak<Leaving>> = self.leaving.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for leaving in leaving.iter().filter_map(Weak::upgrade) {
            let mut rest = leaving.rest();
            if !rest.frame.is_empty() && now.saturating_duration_since(rest.taken) >= STANDSTILL {
                tracing::warn!(
                    bytes = rest.frame.len(),
                    "breaking off an answer whose client takes nothing while others wait"
                );
                rest.frame = Bytes::new();
                rest.broken_off = true;
            }
        }
    }
}

/// Counts one who waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// How much an answer may be; what does not count may be small.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(SMALL_BYTES, |permit| permit.num_permits().saturating_mul(UNIT_BYTES))
    }

    /// Whether there is nothing more to be had.
    pub(crate) fn is_whole(&self, budget: &Budget) -> bool {
        self.0.as_ref().is_some_and(|permit| permit.num_permits() >= budget.units_max as usize)
    }

    /// The same bytes, which hold on to the share until the last of them is dropped. What is not needed for them is given back.
    pub(crate) fn hold(mut self, frame: Bytes) -> Bytes {
        let Some(permit) = &mut self.0 else { return frame };
        let surplus = permit.num_permits().saturating_sub(units(frame.len()) as usize);
        drop(permit.split(surplus));
        Bytes::from_owner(Held { frame, _share: self })
    }
}

/// Bytes and the share that they take.
struct Held {
    frame: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

/// An answer on its way out.
struct Leaving(Mutex<Rest>);

struct Rest {
    frame: Bytes,
    /// When the connection last asked for a piece.
    taken: Instant,
    broken_off: bool,
}

impl Leaving {
    /// Taken by the connection for each piece, and by the budget now and then; never for long.
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaving").finish_non_exhaustive()
    }
}

/// An answer that is given to the connection in pieces, each a copy of its own, so that what has left is free.
#[derive(Debug)]
pub(crate) struct Pieces(Arc<Leaving>);

impl Pieces {
    /// The next piece, `None` when there is nothing left.
    ///
    /// # Errors
    /// The answer has been broken off.
    pub(crate) fn next(&self) -> Result<Option<Bytes>, Failure> {
        let mut rest = self.0.rest();
        rest.taken = Instant::now();
        if rest.broken_off {
            return Err(status::REQUEST_TOO_MANY_REQUESTS.into());
        }
        let length = rest.frame.len().min(PIECE_BYTES);
        if length == 0 {
            return Ok(None);
        }
        let piece = Bytes::copy_from_slice(&rest.frame[..length]);
        rest.frame.advance(length);
        if rest.frame.is_empty() {
            // Not even an empty slice may hold on to the whole.
            rest.frame = Bytes::new();
        }
        Ok(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn all(pieces: &Pieces) -> Result<usize, Failure> {
        let mut bytes = 0;
        while let Some(piece) = pieces.next()? {
            assert!(piece.len() <= PIECE_BYTES);
            bytes += piece.len();
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_in_order_and_small_answers_do_not() {
        let budget = Budget::new(4 * MIB);
        let first = budget.reserve(3 * MIB).await;
        let mut second = Box::pin(budget.reserve(2 * MIB));
        let mut third = Box::pin(budget.reserve(MIB));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none(), "there would be room, but another was first");
        assert!(budget.reserve(1000).now_or_never().is_some());
        // The answer was smaller than expected, and gives back the rest at once.
        let pieces = budget.leave(first.hold(vec![0; MIB].into()));
        let second = second.await;
        assert_eq!(second.bytes(), 2 * MIB);
        assert!(third.as_mut().now_or_never().is_some());
        assert_eq!(all(&pieces), Ok(MIB));
    }

    #[tokio::test]
    async fn an_answer_larger_than_the_budget_has_it_all_to_itself() {
        let budget = Budget::new(MIB);
        let small = budget.reserve(SMALL_BYTES).await;
        let mut huge = Box::pin(budget.reserve(100 * MIB));
        assert!(huge.as_mut().now_or_never().is_none());
        drop(small);
        let huge = huge.await;
        let mut next = Box::pin(budget.reserve(SMALL_BYTES));
        assert!(next.as_mut().now_or_never().is_none());
        let pieces = budget.leave(huge.hold(vec![0; 3 * MIB].into()));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(all(&pieces), Ok(3 * MIB));
        next.await;
    }

    #[tokio::test]
    async fn a_client_that_goes_gives_back_what_it_held() {
        let budget = Budget::new(MIB);
        let pieces = budget.leave(budget.reserve(MIB).await.hold(vec![0; MIB].into()));
        pieces.next().unwrap();
        let mut next = Box::pin(budget.reserve(MIB));
        assert!(next.as_mut().now_or_never().is_none());
        drop(pieces);
        next.await;
    }

    #[tokio::test]
    async fn who_stands_still_while_others_wait_is_broken_off() {
        let budget = Budget::new(MIB);
        let pieces = budget.leave(budget.reserve(MIB).await.hold(vec![0; MIB].into()));
        let began = Instant::now();
        budget.look(began + 5 * STANDSTILL);
        assert!(pieces.next().unwrap().is_some(), "nobody waited");
        let mut next = Box::pin(budget.reserve(MIB));
        assert!(next.as_mut().now_or_never().is_none());
        budget.look(began + STANDSTILL / 2);
        assert!(next.as_mut().now_or_never().is_none(), "it has not stood still for long");
        assert!(pieces.next().unwrap().is_some());
        budget.look(Instant::now() + STANDSTILL);
        next.await;
        assert_eq!(all(&pieces), Err(status::REQUEST_TOO_MANY_REQUESTS.into()));
    }
}
