#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raftlog::fuzzing::wal(bytes));
