//! Doors for fuzzers to the decoders of what clients send and users type: bytes in, and a panic if they break a promise.

pub use crate::flags::fuzzing::flags;
pub use crate::rpc::fuzzing::{frame, request};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_damaged_seeds_break_no_promise() {
        smoke::run("server_frame", frame);
        smoke::run("server_request", request);
        smoke::run("server_flags", flags);
    }
}
