//! The fuzzers' doors to command lines, and to the lines of transactions and interactive watches.

use super::{Flag, del, find, first_word, flags_of, get, put, tokens, txn, watch};
use crate::flags;

/// A line of a transaction, a compare or an operation, and of an interactive watch.
pub fn line(bytes: &[u8]) {
    drop(txn::compare(bytes));
    let Ok(words) = tokens::split(bytes) else { return };
    assert!(words.iter().map(Vec::len).sum::<usize>() <= bytes.len().saturating_mul(3));
    let quoted: Vec<String> = words.iter().map(|word| crate::go::quote(word)).collect();
    assert_eq!(tokens::split(quoted.join(" ").as_bytes()).as_ref(), Ok(&words), "a quoted word stays a word");
    for command in [&put::COMMAND, &get::COMMAND, &del::COMMAND] {
        let known: Vec<&'static Flag> = command.flags.iter().collect();
        first_word(&known, &words);
        let Ok(parsed) = flags::parse(&known, &words) else { continue };
        assert!(parsed.positionals.len() <= words.len());
        drop(put::request(&parsed, Vec::new));
        drop(get::request(&parsed));
        drop(del::request(&parsed));
    }
    let known: Vec<&'static Flag> = watch::COMMAND.flags.iter().collect();
    if let Ok(parsed) = flags::parse(&known, &words) {
        drop(watch::Plan::new(&parsed, &watch::Named::default()).and_then(|plan| plan.check()));
    }
}

/// A command line, one word a line.
pub fn flags(bytes: &[u8]) {
    let words = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let Ok((path, rest)) = find(words) else { return };
    let Ok(parsed) = flags::parse(&flags_of(&path), &rest) else { return };
    assert!(parsed.positionals.len() <= rest.len());
    assert!(parsed.before_dashes.is_none_or(|before| before <= parsed.positionals.len()));
}
