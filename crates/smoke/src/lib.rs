//! Runs fuzz targets for a moment, from ordinary tests.
//!
//! A target is a function from bytes to a panic or none. `fuzz/` runs targets for as long as one likes and lets libFuzzer
//! look for inputs; this runs the same functions in every `cargo test`, on the checked-in seeds and on damaged forms of them,
//! always the same ones. It finds what breaks easily, at once, with nothing to install; and it keeps seeds, targets and
//! tests from losing each other.
//!
//! ```
//! fn number(bytes: &[u8]) {
//!     if let Some(number) = bytes.first_chunk() {
//!         assert_eq!(u64::from_be_bytes(*number).to_be_bytes(), *number);
//!     }
//! }
//!
//! etcd_rs_smoke::damage(&[b"12345678".to_vec()], "a name to begin with", number);
//! ```

mod damage;

use std::fs;
use std::path::Path;

pub use damage::damage;

/// What fuzzers call: it panics if the bytes break a promise.
pub type Target = fn(&[u8]);

/// Feeds the target its seeds, those of `fuzz/corpus/NAME`, and damaged forms of them.
///
/// # Panics
///
/// If the target does, if it has no seeds, or if there is no `fuzz/fuzz_targets/NAME.rs` for the real fuzzer.
pub fn run(name: &str, target: Target) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let program = fuzz.join("fuzz_targets").join(name).with_extension("rs");
    assert!(program.exists(), "{} is missing", program.display());
    let corpus = fuzz.join("corpus").join(name);
    let mut seeds: Vec<Vec<u8>> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| fs::read(entry.expect("a folder can be listed").path()).expect("a seed can be read"))
        .collect();
    assert!(!seeds.is_empty(), "{} holds no seed", corpus.display());
    // Folders have no order of their own.
    seeds.sort_unstable();
    damage(&seeds, name, target);
}
