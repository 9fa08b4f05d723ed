//! When a call is made again.
//!
//! A request that was never sent, because its endpoint refused the connection, goes to the next endpoint whatever it is.
//! Once sent, only a read is sent again, and only when the answer was Unavailable: a write that was cut off may have
//! taken effect, and only the caller knows whether doing it twice is harmless. A call refused for its token is made once
//! more with a new one, if there is a user to log in.

use std::time::Duration;

use api::status;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::channel::Stub;
use crate::core::Core;
use crate::error::{bare, effective_code, never_sent};
use crate::{Error, Result};

/// With the pauses of [`Backoff`] about ten seconds: an election and a half.
const READ_ATTEMPTS: u32 = 20;

/// Whether doing a request twice is the same as doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Harmless,
    Unsafe,
}

/// Pauses that grow from 25 ms to half a second.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(25))
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    fn step(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(Duration::from_millis(500));
        now
    }
}

/// What a failed attempt asks for.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    NextEndpoint,
    NewToken,
    Again,
    GiveUp,
}

/// Whether a refusal with this text, as it is or as Go prints it, may be none with a new token. A client that connected before authentication was turned
/// on has none yet.
pub(crate) fn asks_for_login(text: &str) -> bool {
    [status::INVALID_AUTH_TOKEN, status::AUTH_OLD_REVISION, status::USER_EMPTY]
        .iter()
        .any(|known| known.text() == bare(text))
}

fn judge(status: &Status, repeat: Repeat) -> Verdict {
    if never_sent(status) {
        return Verdict::NextEndpoint;
    }
    if asks_for_login(status.message()) {
        return Verdict::NewToken;
    }
    if repeat == Repeat::Harmless && effective_code(status) == Code::Unavailable {
        return Verdict::Again;
    }
    Verdict::GiveUp
}

impl Core {
    /// Makes a unary call within the request timeout.
    pub(crate) async fn unary<Q, A, F, Fut>(&self, repeat: Repeat, request: Q, send: F) -> Result<A>
    where
        Q: Clone + prost::Message,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        self.check_size(&request)?;
        let attempts = self.attempts(repeat, request, send);
        match self.options.request_timeout {
            Some(limit) => {
                tokio::time::timeout(limit, attempts).await.map_err(|_| Error::DeadlineExceeded)?
            }
            None => attempts.await,
        }
    }

    async fn attempts<Q, A, F, Fut>(&self, repeat: Repeat, request: Q, send: F) -> Result<A>
    where
        Q: Clone,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::new();
        let mut logged_in = false;
        let mut left = READ_ATTEMPTS;
        loop {
            let connection = self.pool.pick();
            let failure = match send(connection.stub(), self.sign(request.clone())).await {
                Ok(response) => {
                    connection.mark_up();
                    return Ok(response.into_inner());
                }
                Err(failure) => failure,
            };
            match judge(&failure, repeat) {
                Verdict::NextEndpoint => {
                    connection.mark_down();
                    self.still_waiting(started, &failure)?;
                    if self.pool.all_down() {
                        backoff.pause().await;
                    }
                }
                Verdict::NewToken if self.options.credentials.is_some() && !logged_in => {
                    logged_in = true;
                    self.log_in().await?;
                }
                Verdict::Again if left > 0 => {
                    left -= 1;
                    backoff.pause().await;
                }
                Verdict::Again | Verdict::NewToken | Verdict::GiveUp => return Err(failure.into()),
            }
        }
    }

    /// Fails once nobody has been reachable for the ready timeout.
    pub(crate) fn still_waiting(&self, started: Instant, last: &Status) -> Result<()> {
        match self.options.ready_timeout {
            Some(limit) if started.elapsed() >= limit => {
                Err(Error::Unreachable { reason: last.message().to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Refuses here what gRPC clients refuse to send, in their words.
    fn check_size(&self, request: &impl prost::Message) -> Result<()> {
        let size = request.encoded_len();
        match self.options.max_send_bytes {
            Some(limit) if size > limit => Err(Error::Rpc {
                code: Code::ResourceExhausted,
                message: format!("trying to send message larger than max ({size} vs. {limit})"),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::ConnectError;

    use super::*;

    #[test]
    fn only_reads_are_sent_again_and_only_when_unavailable() {
        let unavailable = || Status::unavailable("etcdserver: no leader");
        assert_eq!(judge(&unavailable(), Repeat::Harmless), Verdict::Again);
        assert_eq!(judge(&unavailable(), Repeat::Unsafe), Verdict::GiveUp);
        assert_eq!(judge(&Status::internal("x"), Repeat::Harmless), Verdict::GiveUp);

        let cut_off = || Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(judge(&cut_off(), Repeat::Harmless), Verdict::Again);
        assert_eq!(judge(&cut_off(), Repeat::Unsafe), Verdict::GiveUp);
    }

    #[test]
    fn what_was_never_sent_goes_to_the_next_endpoint_even_a_write() {
        let refused = Status::from_error(Box::new(ConnectError("refused".into())));
        assert_eq!(judge(&refused, Repeat::Unsafe), Verdict::NextEndpoint);
    }

    #[test]
    fn pauses_grow_to_half_a_second() {
        let mut backoff = Backoff::new();
        let steps: Vec<u128> = (0..7).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(steps, [25, 50, 100, 200, 400, 500, 500]);
    }
}
