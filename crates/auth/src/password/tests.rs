use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};

use super::*;

/// Runs a future on this thread, which sleeps meanwhile.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn passwords() -> Passwords {
    Passwords::with(4, 1, 2).unwrap()
}

#[test]
fn a_password_is_right_for_its_hash_and_no_other() {
    let passwords = passwords();
    let hash = block_on(passwords.hash("secret")).unwrap();
    assert!(hash.starts_with("$2a$04$"), "{hash}");
    let right = |name, stored: Option<&str>, password| {
        block_on(passwords.verify(name, stored.map(str::as_bytes), password)).unwrap()
    };
    for _ in 0..2 {
        assert!(right("u", Some(&hash), "secret"));
        assert!(!right("u", Some(&hash), "Secret"));
        assert!(!right("u", Some(&hash), ""));
        assert!(!right("u", None, ""));
        assert!(!right("u", Some(""), ""));
        assert!(!right("u", Some("no hash"), "secret"));
    }
    let other = block_on(passwords.hash("secret")).unwrap();
    assert_ne!(hash, other, "every hash has a salt of its own");
}

#[test]
fn an_empty_password_is_a_password() {
    let passwords = passwords();
    let hash = block_on(passwords.hash("")).unwrap();
    assert!(block_on(passwords.verify("u", Some(hash.as_bytes()), "")).unwrap());
    assert!(!block_on(passwords.verify("u", Some(hash.as_bytes()), "x")).unwrap());
}

#[test]
fn hashes_that_go_made_are_understood() {
    // golang.org/x/crypto/bcrypt, its own tests.
    let hash = b"$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga";
    assert!(block_on(passwords().verify("u", Some(hash), "allmine")).unwrap());
    assert!(!block_on(passwords().verify("u", Some(hash), "allyours")).unwrap());
}

#[test]
fn a_password_of_more_than_72_bytes_is_refused() {
    let passwords = passwords();
    block_on(passwords.hash(&"x".repeat(72))).unwrap();
    assert!(matches!(block_on(passwords.hash(&"x".repeat(73))), Err(Error::PasswordTooLong)));
}

#[test]
fn a_right_password_is_right_again_without_the_threads() {
    let passwords = passwords();
    let hash = block_on(passwords.hash("secret")).unwrap();
    assert!(block_on(passwords.verify("u", Some(hash.as_bytes()), "secret")).unwrap());
    let busy = Busy::make(&passwords);
    assert!(block_on(passwords.verify("u", Some(hash.as_bytes()), "secret")).unwrap());
    let refused = |name, stored, password| {
        let answer = block_on(passwords.verify(name, Some(stored), password));
        assert!(matches!(answer, Err(Error::TooManyRequests)), "{answer:?}");
    };
    refused("u", hash.as_bytes(), "wrong");
    refused("v", hash.as_bytes(), "secret");
    refused("u", b"$2a$04$another", "secret");
    busy.done();
}

#[test]
fn a_full_queue_turns_away_at_once() {
    let passwords = passwords();
    let busy = Busy::make(&passwords);
    assert!(matches!(block_on(passwords.hash("x")), Err(Error::TooManyRequests)));
    assert!(matches!(block_on(passwords.verify("u", None, "x")), Err(Error::TooManyRequests)));
    busy.done();
}

#[test]
fn a_cost_that_bcrypt_does_not_know_is_10() {
    assert_eq!(
        [0, 3, 4, 31, 32].map(|cost| Passwords::with(cost, 1, 1).unwrap().cost()),
        [10, 10, 4, 31, 10]
    );
}

#[test]
fn nothing_secret_is_shown() {
    let passwords = passwords();
    let hash = block_on(passwords.hash("secret")).unwrap();
    block_on(passwords.verify("u", Some(hash.as_bytes()), "secret")).unwrap();
    assert_eq!(format!("{passwords:?}"), "Passwords { cost: 4, .. }");
}

/// Keeps the one thread and the two places in the queue taken.
struct Busy(mpsc::Sender<()>);

impl Busy {
    fn make(passwords: &Passwords) -> Self {
        let (release, released) = mpsc::channel();
        let (started, starts) = mpsc::channel();
        let job = move || {
            started.send(()).unwrap();
            released.recv().unwrap();
        };
        passwords.jobs.send(Box::new(job)).unwrap();
        starts.recv().unwrap();
        for _ in 0..2 {
            passwords.jobs.try_send(Box::new(|| {})).unwrap();
        }
        Self(release)
    }

    fn done(self) {
        self.0.send(()).unwrap();
    }
}
