//! Golden scripts: blocks of commands, `---`, and what they print. `UPDATE_SCRIPTS=1` writes the files anew, to be reviewed.

use std::fmt::Write as _;
use std::path::Path;

/// Runs every script of `tests/scripts`, each in a fresh world, and compares what the commands print.
pub(crate) fn run<W>(new: impl Fn() -> W, mut command: impl FnMut(&mut W, &str) -> String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        let text = std::fs::read_to_string(&script).unwrap();
        let mut world = new();
        let mut actual = String::new();
        let mut printed = String::new();
        let mut expected = false;
        for line in text.lines().chain([""]) {
            match line {
                "---" => {
                    write!(actual, "---\n{}", if printed.is_empty() { "ok\n" } else { &printed }).unwrap();
                    (printed, expected) = (String::new(), true);
                }
                "" => {
                    assert!(printed.is_empty(), "{script:?}: a block without ---: {printed}");
                    expected = false;
                    actual.push('\n');
                }
                _ if expected => {}
                _ => {
                    writeln!(actual, "{line}").unwrap();
                    if !line.starts_with('#') {
                        printed += &command(&mut world, line);
                    }
                }
            }
        }
        let actual = format!("{}\n", actual.trim_end());
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&script, actual).unwrap();
        } else {
            assert_eq!(text, actual, "{}", script.display());
        }
    }
}
