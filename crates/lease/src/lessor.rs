//! The lessor: all leases of a member, and their time while the member is primary.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use api::LeaseId;
use backend::{Backend, Table, WriteTx};
use bytes::Bytes;
use prost::Message as _;

use crate::expiry_queue::ExpiryQueue;
use crate::lease::{Keys, Lease};
use crate::record::Record;
use crate::{Error, Result};

/// The longest time to live that is granted, in seconds (285 years).
pub const MAX_TTL_SECONDS: i64 = 9_000_000_000;

/// From this many leases on, a new primary spreads the expiries.
const SPREAD_FROM: usize = 1000;

/// So many leases may run out within one second after a spreading.
const SPREAD_PER_SECOND: usize = 750;

/// What the server decides about its leases.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shorter times to live are raised to this, rounded up to whole seconds. It should leave room for an election.
    pub min_ttl: Duration,
    /// How long after being handed out as expired a lease that still exists is handed out again.
    pub revoke_retry: Duration,
    /// Leases with more than this left get a checkpoint of their remaining time this often; `None` for no checkpoints.
    pub checkpoint_interval: Option<Duration>,
}

/// etcd's figures for default election and heartbeat times, and checkpoints every five minutes.
impl Default for Options {
    fn default() -> Self {
        Self {
            min_ttl: Duration::from_secs(2),
            revoke_retry: Duration::from_secs(7),
            checkpoint_interval: Some(Duration::from_secs(300)),
        }
    }
}

/// What a primary knows of one lease's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds left; below 0 when the lease has run out and waits for its revocation.
    pub remaining_ttl: i64,
    /// Seconds as granted.
    pub granted_ttl: i64,
    /// The attached keys, ascending; empty unless asked for.
    pub keys: Vec<Bytes>,
}

/// The remaining time of one lease, to be committed so that a next primary does not start from the full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The lease.
    pub id: LeaseId,
    /// Seconds left, rounded up; 0 takes the checkpoint away.
    pub remaining_ttl: i64,
}

/// All leases of one member.
///
/// Every method takes `&self` and is short: one mutex guards everything, nothing is called and no disk is touched while it is
/// held (records go into the caller's [`WriteTx`]). Replicated calls (`grant`, `revoke`, `checkpoint`, `attach`, `detach`)
/// come from the one applier, in log order, and have the same outcome on every member whatever `now` is; time shows only in
/// what a primary hands out.
#[derive(Debug)]
pub struct Lessor {
    options: Options,
    /// Guards the leases together with the queues that order them. No other lock is taken under it.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    primary: bool,
    leases: HashMap<LeaseId, Lease>,
    /// Holds each lease exactly once while primary, else nothing.
    expiries: ExpiryQueue,
    /// Holds leases with much time left while primary, else nothing.
    checkpoints: ExpiryQueue,
}

impl Lessor {
    /// Reads the leases back. The member is not primary, and the keys are yet to be attached.
    ///
    /// # Errors
    /// The backend failed, or holds something that is no lease.
    pub fn open(backend: &dyn Backend, options: Options) -> Result<Self> {
        let leases = load(backend, min_seconds(&options))?;
        Ok(Self { options, inner: Mutex::new(Inner { leases, ..Inner::default() }) })
    }

    /// Starts over from what the backend holds now, and these attached keys, as after installing a snapshot. The member is not
    /// primary. Nobody sees leases without their keys.
    ///
    /// # Errors
    /// As [`Lessor::open`], or [`Error::NotFound`] for a key whose lease is missing; nothing has changed then.
    pub fn reset<K: AsRef<[u8]>>(
        &self,
        backend: &dyn Backend,
        keys: impl IntoIterator<Item = (LeaseId, K)>,
    ) -> Result<()> {
        let leases = load(backend, min_seconds(&self.options))?;
        let mut inner = Inner { leases, ..Inner::default() };
        inner.attach(keys)?;
        *self.lock() = inner;
        Ok(())
    }

    /// Grants a lease and returns the time to live it really has, in seconds.
    ///
    /// # Errors
    /// [`Error::TtlTooLarge`], [`Error::Exists`], or [`Error::NotFound`] for the id 0, which names no lease.
    pub fn grant(&self, tx: &mut WriteTx, id: LeaseId, ttl_seconds: i64, now: Duration) -> Result<i64> {
        if id.is_none() {
            return Err(Error::NotFound(id));
        }
        if ttl_seconds > MAX_TTL_SECONDS {
            return Err(Error::TtlTooLarge(ttl_seconds));
        }
        let ttl = ttl_seconds.max(min_seconds(&self.options));
        let inner = &mut *self.lock();
        let Entry::Vacant(vacant) = inner.leases.entry(id) else { return Err(Error::Exists(id)) };
        let lease = vacant.insert(Lease::new(ttl, 0));
        save(tx, id, lease);
        if inner.primary {
            let expiry = now + lease.duration();
            lease.expiry = Some(expiry);
            inner.expiries.place(&mut lease.wake, expiry, id);
            inner.checkpoints.schedule(lease, id, now, self.options.checkpoint_interval);
        }
        inner.check();
        Ok(ttl)
    }

    /// Ends a lease. The caller deletes the returned keys (ascending) in the same transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn revoke(&self, tx: &mut WriteTx, id: LeaseId) -> Result<Vec<Bytes>> {
        let inner = &mut *self.lock();
        let mut lease = inner.leases.remove(&id).ok_or(Error::NotFound(id))?;
        inner.expiries.remove(&mut lease.wake, id);
        inner.checkpoints.remove(&mut lease.checkpoint_due, id);
        inner.check();
        tx.delete(Table::Lease, &Record::key(id));
        Ok(lease.keys.into_vec())
    }

    /// Whether the lease has been granted and not revoked: what a put needs to know.
    #[must_use]
    pub fn contains(&self, id: LeaseId) -> bool {
        self.lock().leases.contains_key(&id)
    }

    /// Ties a key to a lease; the key's former lease must be [detached](Self::detach) by the caller, who has it from the
    /// store. The key is copied.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn attach(&self, id: LeaseId, key: &[u8]) -> Result<()> {
        let inner = &mut *self.lock();
        inner.leases.get_mut(&id).ok_or(Error::NotFound(id))?.keys.insert(key);
        Ok(())
    }

    /// Ties many keys to their leases under one lock, as at boot.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the first lease that is missing; what came before it is attached.
    pub fn attach_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = (LeaseId, K)>) -> Result<()> {
        self.lock().attach(keys)
    }

    /// Unties a key from a lease. Nothing happens when there is no such lease or it does not hold the key.
    pub fn detach(&self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.lock().leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// The keys of a lease, ascending; `None` when there is no such lease. Works on every member.
    #[must_use]
    pub fn keys(&self, id: LeaseId) -> Option<Vec<Bytes>> {
        self.lock().leases.get(&id).map(|lease| lease.keys.to_vec())
    }

    /// Gives a lease its full time again, and returns that in seconds. This is the hot call: a look into a hash map and a
    /// store, under the lock.
    ///
    /// # Errors
    /// [`Error::NotPrimary`]; [`Error::NotFound`]; [`Error::Expired`] when it is too late, even if the revocation has yet to
    /// come; [`Error::Checkpointed`] when a checkpoint of 0 must be committed before.
    pub fn renew(&self, id: LeaseId, now: Duration) -> Result<i64> {
        let inner = &mut *self.lock();
        if !inner.primary {
            return Err(Error::NotPrimary);
        }
        let lease = inner.leases.get_mut(&id).ok_or(Error::NotFound(id))?;
        if lease.is_expired(now) {
            return Err(Error::Expired(id));
        }
        if lease.remaining_ttl > 0 {
            return Err(Error::Checkpointed(id));
        }
        let expiry = now + lease.duration();
        lease.expiry = Some(expiry);
        // Only after a promotion, which may give more than the full time, does a renewal bring the turn forward.
        if lease.wake.is_none_or(|wake| expiry < wake) {
            inner.expiries.place(&mut lease.wake, expiry, id);
        }
        if lease.checkpoint_due.is_none() {
            inner.checkpoints.schedule(lease, id, now, self.options.checkpoint_interval);
        }
        Ok(lease.ttl)
    }

    /// Starts keeping time: this member leads. Each lease gets the time it is owed (what the last checkpoint says, else all
    /// of it) and `extend` on top, for the time that nobody led. From 1000 leases on, expiries are put off so far that no
    /// more than 750 fall into any second.
    pub fn promote(&self, now: Duration, extend: Duration) {
        let inner = &mut *self.lock();
        inner.demote();
        inner.primary = true;
        let mut turns: Vec<(Duration, LeaseId)> =
            inner.leases.iter().map(|(id, lease)| (now + extend + lease.owed(), *id)).collect();
        turns.sort_unstable();
        spread(&mut turns);
        for (expiry, id) in &turns {
            let lease = inner.leases.get_mut(id).expect("the ids come from this map");
            lease.expiry = Some(*expiry);
            lease.wake = Some(*expiry);
            inner.checkpoints.schedule(lease, *id, now, self.options.checkpoint_interval);
        }
        inner.expiries.fill(turns.into_iter());
        inner.check();
    }

    /// Stops keeping time: this member leads no more. Leases live on, without an end, until told otherwise.
    pub fn demote(&self) {
        self.lock().demote();
    }

    /// Whether this member keeps the leases' time.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.lock().primary
    }

    /// Up to `limit` leases that have run out, longest ago first, to be revoked through the log. A lease is handed out again
    /// only after [`Options::revoke_retry`], should it still be here then. Costs O(log n) for each lease handed out.
    #[must_use]
    pub fn expired(&self, now: Duration, limit: usize) -> Vec<LeaseId> {
        let Inner { leases, expiries, .. } = &mut *self.lock();
        let mut expired = Vec::new();
        while expired.len() < limit
            && let Some(id) = expiries.due(now)
        {
            let lease = leases.get_mut(&id).expect("a queued lease exists");
            let expiry = lease.expiry.expect("a queued lease has an expiry");
            // Renewed since it was queued: its turn is later, be it still due, so that the order is right.
            let next = if lease.wake.is_some_and(|wake| wake < expiry) {
                expiry
            } else {
                expired.push(id);
                now + self.options.revoke_retry.max(Duration::from_nanos(1))
            };
            expiries.place(&mut lease.wake, next, id);
        }
        expired
    }

    /// When to call [`expired`](Self::expired) next; nothing runs out before that.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.lock().expiries.next()
    }

    /// Up to `limit` checkpoints whose turn has come, to be committed and handed to [`checkpoint`](Self::checkpoint).
    #[must_use]
    pub fn checkpoints_due(&self, now: Duration, limit: usize) -> Vec<Checkpoint> {
        let Inner { leases, checkpoints, .. } = &mut *self.lock();
        let Some(interval) = self.options.checkpoint_interval else { return Vec::new() };
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(id) = checkpoints.due(now)
        {
            let lease = leases.get_mut(&id).expect("a queued lease exists");
            let left = lease.expiry.expect("a queued lease has an expiry").saturating_sub(now);
            let remaining_ttl = ceil_seconds(left);
            // A lease that was just renewed has nothing to tell, and neither has one that is about to be revoked.
            if remaining_ttl > 0 && remaining_ttl < lease.ttl {
                due.push(Checkpoint { id, remaining_ttl });
            }
            if left > interval {
                checkpoints.place(&mut lease.checkpoint_due, now + interval, id);
            } else {
                checkpoints.remove(&mut lease.checkpoint_due, id);
            }
        }
        due
    }

    /// When to call [`checkpoints_due`](Self::checkpoints_due) next.
    #[must_use]
    pub fn next_checkpoint(&self) -> Option<Duration> {
        self.lock().checkpoints.next()
    }

    /// Records how much time a lease has left, or with 0 that it has all of it. A lease revoked meanwhile is passed over.
    pub fn checkpoint(&self, tx: &mut WriteTx, checkpoint: Checkpoint, now: Duration) {
        let inner = &mut *self.lock();
        let Some(lease) = inner.leases.get_mut(&checkpoint.id) else { return };
        lease.remaining_ttl = checkpoint.remaining_ttl.clamp(0, lease.ttl);
        save(tx, checkpoint.id, lease);
        if inner.primary && lease.checkpoint_due.is_none() {
            inner.checkpoints.schedule(lease, checkpoint.id, now, self.options.checkpoint_interval);
        }
    }

    /// A lease's times, and its keys if wanted.
    ///
    /// # Errors
    /// [`Error::NotPrimary`]; [`Error::NotFound`].
    pub fn time_to_live(&self, id: LeaseId, now: Duration, with_keys: bool) -> Result<TimeToLive> {
        let inner = self.lock();
        if !inner.primary {
            return Err(Error::NotPrimary);
        }
        let lease = inner.leases.get(&id).ok_or(Error::NotFound(id))?;
        let expiry = lease.expiry.expect("a primary gives every lease an expiry");
        let remaining_ttl =
            if expiry >= now { floor_seconds(expiry - now) } else { -floor_seconds(now - expiry) };
        let keys = if with_keys { lease.keys.to_vec() } else { Vec::new() };
        Ok(TimeToLive { remaining_ttl, granted_ttl: lease.ttl, keys })
    }

    /// All leases, the one with the least time left first; on members that are not primary by id.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseId> {
        let mut leases: Vec<_> = self.lock().leases.iter().map(|(id, lease)| (lease.expiry, *id)).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().leases.len()
    }

    /// Whether there is no lease.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys a lease holds.
    #[must_use]
    pub fn key_count(&self, id: LeaseId) -> usize {
        self.lock().leases.get(&id).map_or(0, |lease| lease.keys.len())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panicked while changing leases")
    }
}

impl Inner {
    fn attach<K: AsRef<[u8]>>(&mut self, keys: impl IntoIterator<Item = (LeaseId, K)>) -> Result<()> {
        for (id, key) in keys {
            self.leases.get_mut(&id).ok_or(Error::NotFound(id))?.keys.insert(key.as_ref());
        }
        Ok(())
    }

    fn demote(&mut self) {
        self.primary = false;
        self.expiries.clear();
        self.checkpoints.clear();
        self.leases.values_mut().for_each(|lease| {
            lease.expiry = None;
            lease.wake = None;
            lease.checkpoint_due = None;
        });
    }

    /// What holds between calls, as far as it is cheap to tell.
    fn check(&self) {
        let timed = if self.primary { self.leases.len() } else { 0 };
        assert_eq!(self.expiries.len(), timed, "a primary queues every lease once, others none");
        assert!(self.checkpoints.len() <= timed, "{} checkpoints for {timed} leases", self.checkpoints.len());
    }
}

impl ExpiryQueue {
    /// Gives a lease that is owed more than one interval its first or next checkpoint.
    fn schedule(&mut self, lease: &mut Lease, id: LeaseId, now: Duration, interval: Option<Duration>) {
        if let Some(interval) = interval
            && lease.owed() > interval
        {
            self.place(&mut lease.checkpoint_due, now + interval, id);
        }
    }
}

/// Puts off expiries, given in ascending order, until no second holds too many of them.
fn spread(turns: &mut [(Duration, LeaseId)]) {
    if turns.len() < SPREAD_FROM {
        return;
    }
    for i in SPREAD_PER_SECOND..turns.len() {
        let earliest = turns[i - SPREAD_PER_SECOND].0 + Duration::from_secs(1);
        turns[i].0 = turns[i].0.max(earliest);
    }
}

fn load(backend: &dyn Backend, min_ttl: i64) -> Result<HashMap<LeaseId, Lease>> {
    let mut leases = HashMap::new();
    let mut cursor = backend.scan(Table::Lease, &[], None)?;
    while let Some((key, value)) = cursor.next()? {
        let (id, record) = Record::parse(key, value)?;
        let ttl = record.ttl.clamp(min_ttl, MAX_TTL_SECONDS.max(min_ttl));
        leases.insert(id, Lease { keys: Keys::new(), ..Lease::new(ttl, record.remaining_ttl.clamp(0, ttl)) });
    }
    Ok(leases)
}

fn save(tx: &mut WriteTx, id: LeaseId, lease: &Lease) {
    let record = Record { id: id.get(), ttl: lease.ttl, remaining_ttl: lease.remaining_ttl };
    tx.put(Table::Lease, &Record::key(id), &record.encode_to_vec());
}

fn min_seconds(options: &Options) -> i64 {
    ceil_seconds(options.min_ttl)
}

fn floor_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn ceil_seconds(time: Duration) -> i64 {
    floor_seconds(time).saturating_add(i64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(at: impl Iterator<Item = u64>) -> Vec<(Duration, LeaseId)> {
        at.zip(1..).map(|(ms, id)| (Duration::from_millis(ms), LeaseId::new(id))).collect()
    }

    #[test]
    fn few_leases_are_not_spread() {
        let mut few = turns((0..999).map(|_| 5000));
        spread(&mut few);
        assert!(few.iter().all(|(at, _)| *at == Duration::from_secs(5)));
    }

    #[test]
    fn no_second_holds_more_than_750_expiries_and_none_comes_sooner() {
        let patterns: [Box<dyn Fn(u64) -> u64>; 4] =
            [Box::new(|_| 60_000), Box::new(|i| i), Box::new(|i| i / 900 * 1000), Box::new(|i| i * 10)];
        for pattern in patterns {
            let before = turns((0..5000).map(pattern));
            let mut after = before.clone();
            spread(&mut after);
            assert!(after.is_sorted());
            assert!(before.iter().zip(&after).all(|(b, a)| a.0 >= b.0 && a.1 == b.1));
            for window in after.windows(SPREAD_PER_SECOND + 1) {
                assert!(window[SPREAD_PER_SECOND].0 - window[0].0 >= Duration::from_secs(1));
            }
        }
    }

    #[test]
    fn leases_that_are_far_apart_keep_their_time() {
        let before = turns((0..2000).map(|i| i * 2));
        let mut after = before.clone();
        spread(&mut after);
        assert_eq!(before, after, "500 a second is few enough");
    }
}
