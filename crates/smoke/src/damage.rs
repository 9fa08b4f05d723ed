//! Damaged forms of good inputs, the same ones in every run.

use crate::Target;

/// Inputs for each target.
const ROUNDS: usize = 4_000;
/// Longer inputs say nothing that shorter ones do not, and take their time.
const BYTES_MAX: usize = 4_096;
/// Bytes at the edges of numbers, varints and texts.
const EDGES: [u8; 14] = [0, 1, 2, 8, 10, 16, 0x7f, 0x80, 0xff, b'"', b'\\', b'-', b' ', b'\n'];

/// Feeds the target each seed as it is, and damaged forms of all; `name` chooses the damage.
///
/// # Panics
///
/// If the target does; the input is then told on standard error.
pub fn damage(seeds: &[Vec<u8>], name: &str, target: Target) {
    for seed in seeds {
        feed(seed, target);
    }
    let mut dice = Dice(name.bytes().fold(0, |sum, byte| sum.rotate_left(8) ^ u64::from(byte)));
    for _ in 0..ROUNDS {
        let mut input = seeds[dice.below(seeds.len())].clone();
        for _ in 0..=dice.below(4) {
            let other = &seeds[dice.below(seeds.len())];
            break_something(&mut input, other, &mut dice);
        }
        input.truncate(BYTES_MAX);
        feed(&input, target);
    }
}

fn feed(input: &[u8], target: Target) {
    let culprit = Culprit(input);
    target(culprit.0);
}

/// Tells the input when it goes down with a panic.
struct Culprit<'a>(&'a [u8]);

impl Drop for Culprit<'_> {
    #[expect(clippy::print_stderr, reason = "tests speak there")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn break_something(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    let len = dice.below(8).min(input.len() - at);
    let edge = EDGES[dice.below(EDGES.len())];
    match dice.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..at + len)),
        2 => input.insert(at, edge),
        3 => drop(input.splice(at..at + len, [edge; 9])),
        // A part of it twice.
        4 => input.extend_from_within(at..at + len),
        // The beginning of one and the end of another.
        5 => {
            input.truncate(at);
            input.extend_from_slice(&other[dice.below(other.len() + 1)..]);
        }
        6 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = edge;
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
    }
}

/// splitmix64: any state will do, and the next number is three lines.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_reaches_what_one_byte_decides() {
        let reached = std::panic::catch_unwind(|| {
            damage(&[b"\x01seed".to_vec()], "any", |bytes| assert_ne!(bytes.first(), Some(&0xff)));
        });
        assert!(reached.is_err());
    }

    #[test]
    fn damage_is_the_same_in_every_run() {
        let numbers = || {
            let mut dice = Dice(7);
            [dice.next(), dice.next(), dice.next()]
        };
        assert_eq!(numbers(), numbers());
        assert_ne!(numbers()[0], numbers()[1]);
    }
}
