//! Passwords: bcrypt on threads of its own, and a memory of those that were right.
//!
//! bcrypt is slow on purpose: some fifty milliseconds of one core at the usual cost. So it runs neither where requests are served
//! nor where entries are applied, but on a few threads behind a queue that is bounded: who finds it full is turned away at once,
//! rather than being answered when nobody waits any more. A login storm would still keep those threads busy with the same few
//! passwords; so what was right once is [remembered](verified) and right again without them.
//!
//! An unknown user costs as much time as a wrong password, so that the time does not tell one from the other.

mod verified;

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bcrypt::Version;
use futures_channel::oneshot;

use self::verified::Verified;
use crate::{Error, Result};

/// bcrypt's cost when none is given, or none that bcrypt knows.
pub const DEFAULT_BCRYPT_COST: u32 = 10;

/// What bcrypt takes; more would be cut off without a word.
const PASSWORD_BYTES_MAX: usize = 72;

/// How many passwords may wait for each thread.
const QUEUED_PER_THREAD: usize = 32;

/// Hashes and verifies passwords. Cloning it shares the threads, which end with the last clone.
#[derive(Clone)]
pub struct Passwords {
    cost: u32,
    jobs: SyncSender<Job>,
    /// A hash that nothing matches, of the usual cost; made by the first who needs it, on the threads.
    decoy: Arc<Mutex<Option<Arc<str>>>>,
    verified: Arc<Mutex<Verified>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Passwords {
    /// Starts the threads, at least one and at most half as many as there are cores. A cost outside 4 to 31 is taken for
    /// [`DEFAULT_BCRYPT_COST`].
    ///
    /// # Errors
    /// The operating system has no random numbers, or no more threads.
    pub fn new(cost: u32) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::with(cost, (cores / 2).max(1), QUEUED_PER_THREAD)
    }

    fn with(cost: u32, threads: usize, queued_per_thread: usize) -> Result<Self> {
        let cost = if (4..=31).contains(&cost) { cost } else { DEFAULT_BCRYPT_COST };
        let (jobs, queue) = sync_channel(threads * queued_per_thread);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let thread = thread::Builder::new().name("bcrypt".to_owned());
            thread.spawn(move || work(&queue)).map_err(|_| Error::Crypto("start a thread for passwords"))?;
        }
        let verified = Arc::new(Mutex::new(Verified::new()?));
        Ok(Self { cost, jobs, decoy: Arc::default(), verified })
    }

    /// The cost that new hashes have.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// A new hash of this password, with a salt of its own.
    ///
    /// # Errors
    /// [`Error::PasswordTooLong`] beyond 72 bytes; [`Error::TooManyRequests`].
    pub async fn hash(&self, password: &str) -> Result<String> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Error::PasswordTooLong);
        }
        let (cost, password) = (self.cost, password.to_owned());
        self.run(move || hash(&password, cost)).await?
    }

    /// Whether this is the user's password; `stored` is the hash in its record, `None` for an unknown user. An empty hash and no
    /// hash at all match nothing, and take as long as a wrong password.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`].
    pub async fn verify(&self, username: &str, stored: Option<&[u8]>, password: &str) -> Result<bool> {
        let stored = stored.and_then(|hash| str::from_utf8(hash).ok()).filter(|hash| !hash.is_empty());
        let Some(stored) = stored else {
            let (cost, password, decoy) = (self.cost, password.to_owned(), Arc::clone(&self.decoy));
            self.run(move || verify_decoy(&password, cost, &decoy)).await??;
            return Ok(false);
        };
        let tag = lock(&self.verified).tag(username, stored, password);
        if lock(&self.verified).contains(&tag) {
            return Ok(true);
        }
        let (stored, password) = (stored.to_owned(), password.to_owned());
        let right = self.run(move || bcrypt::verify(password, &stored).unwrap_or(false)).await?;
        if right {
            lock(&self.verified).insert(tag);
        }
        Ok(right)
    }

    /// Runs a job on the threads. Whoever does not wait for it any more has it skipped when its turn comes.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            if !answer.is_canceled() {
                // Nobody waits any more if this fails.
                drop(answer.send(job()));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => answered.await.map_err(|oneshot::Canceled| Error::Crypto("hash a password")),
            Err(TrySendError::Full(_)) => Err(Error::TooManyRequests),
            Err(TrySendError::Disconnected(_)) => Err(Error::Crypto("hash a password: its threads are gone")),
        }
    }
}

/// Says nothing of any password.
impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// The lock is held while waiting for a job, not while doing it.
fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = lock(queue).recv();
        let Ok(job) = next else { return };
        job();
    }
}

/// As Go's bcrypt writes it, so that etcd reads it.
fn hash(password: &str, cost: u32) -> Result<String> {
    let hash = bcrypt::hash_with_result(password, cost).map_err(|_| Error::Crypto("draw a random salt"))?;
    Ok(hash.format_for_version(Version::TwoA))
}

fn verify_decoy(password: &str, cost: u32, decoy: &Mutex<Option<Arc<str>>>) -> Result<()> {
    let known = lock(decoy).clone();
    let decoy = match known {
        Some(decoy) => decoy,
        None => Arc::clone(lock(decoy).insert(hash("", cost)?.into())),
    };
    // The outcome does not matter, only the time it takes.
    drop(bcrypt::verify(password, &decoy));
    Ok(())
}

/// What is guarded here is changed by single calls, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
