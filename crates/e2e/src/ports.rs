//! Ports for servers that cannot be told to find one themselves.

use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range from which the kernel takes ports of outgoing connections, so that none of those gets in between.
const FIRST: u16 = 10_000;
const LAST: u16 = 30_000;

/// The port to try next. Test programs start at different places, so that several can run at once.
static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// A port of the loopback that is free now and that this process has not handed out lately.
///
/// # Panics
/// When there is none.
pub fn free() -> u16 {
    let mut next = NEXT.lock().expect("nothing panics while holding this lock");
    let span = LAST - FIRST;
    let start = u16::try_from(std::process::id() * 61 % u32::from(span)).expect("smaller than the span");
    for _ in 0..span {
        let port = next.unwrap_or(FIRST + start);
        *next = Some(if port + 1 < LAST { port + 1 } else { FIRST });
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
