//! One way of one connection: bytes come in, and go out when the weather lets them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Link, REPEAT, Shared, State};

/// Pieces on their way; with more, whoever sends must wait, as with a full window.
const ON_THEIR_WAY: usize = 256;
const PIECE: usize = 16 << 10;

/// What was read, and when it arrives.
struct Piece {
    bytes: Vec<u8>,
    due: Instant,
}

/// Carries bytes until the connection ends or is cut.
pub(super) async fn run(shared: &Shared, link: Link, from: OwnedReadHalf, to: OwnedWriteHalf) {
    let state = shared.look(link);
    let (sender, receiver) = mpsc::channel(ON_THEIR_WAY);
    tokio::select! {
        // When it is cut and healed at once, what was held must not get through.
        biased;
        () = cut(state.clone()) => {}
        () = async {
            tokio::join!(take(shared, state.clone(), from, sender), give(state.clone(), receiver, to));
        } => {}
    }
}

async fn cut(mut state: watch::Receiver<State>) {
    let before = state.borrow_and_update().cuts;
    // Without a network there is no link.
    drop(state.wait_for(|state| state.cuts > before).await);
}

async fn take(
    shared: &Shared,
    state: watch::Receiver<State>,
    mut from: OwnedReadHalf,
    sender: mpsc::Sender<Piece>,
) {
    loop {
        let mut bytes = vec![0; PIECE];
        // Whether it was ended or broken, it is over.
        let Ok(length @ 1..) = from.read(&mut bytes).await else { return };
        bytes.truncate(length);
        let weather = state.borrow().weather;
        let again = if shared.loses(weather.lost_percent) { REPEAT } else { Duration::ZERO };
        let due = Instant::now() + weather.delay + again;
        if sender.send(Piece { bytes, due }).await.is_err() {
            return;
        }
    }
}

async fn give(mut state: watch::Receiver<State>, mut pieces: mpsc::Receiver<Piece>, mut to: OwnedWriteHalf) {
    while let Some(piece) = pieces.recv().await {
        tokio::time::sleep_until(piece.due).await;
        let open = state.wait_for(|state| !state.weather.blocked).await.is_ok();
        if !open || to.write_all(&piece.bytes).await.is_err() {
            return;
        }
    }
}
