//! Flags as etcdctl takes them.
//!
//! etcdctl is built on pflag, and scripts lean on its grammar and its words: flags stand anywhere among the arguments,
//! booleans are written `--b` or `--b=false`, `-wjson` and `-w=json` are one, keys are bytes that need not be text, and
//! each mistake has its exact line on stderr. clap, which the rest of this project would take, knows another grammar and
//! other words, and bending it costs more than these few functions; so flags are a table here, read by this parser.
//!
//! The same parser reads the operations of a transaction and the lines of an interactive watch.

use std::collections::BTreeMap;

use crate::go;

/// One flag, all there is to know about it.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    /// What it is worth when not given, as one would type it.
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
}

/// What a flag's value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Duration,
    String,
    /// Comma-separated; given again it adds to the list.
    List,
}

impl Flag {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, short: None, kind, default, help }
    }

    pub(crate) const fn bool(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Bool, "false", help)
    }

    pub(crate) const fn int(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Int, "0", help)
    }

    pub(crate) const fn string(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::String, default, help)
    }

    pub(crate) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// Whether `value` is of the flag's kind; the error is Go's text.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Bool => go::parse_bool(value).map(drop),
            Kind::Int => go::parse_flag_int(value).map(drop),
            Kind::Duration => go::Duration::parse(value).map(drop),
            Kind::String | Kind::List => Ok(()),
        }
    }

    fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.name),
            None => format!("--{}", self.name),
        }
    }
}

/// What was typed, read with a set of flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    /// Each flag that was given, with its last value; of a list, with all of them.
    values: BTreeMap<&'static str, String>,
    pub(crate) positionals: Vec<Vec<u8>>,
    /// How many positionals stood before `--`, if that was there.
    pub(crate) before_dashes: Option<usize>,
}

/// Reads arguments. The error is pflag's text.
pub(crate) fn parse(flags: &[&'static Flag], args: &[Vec<u8>]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_slice() {
            b"--" => {
                parsed.before_dashes = Some(parsed.positionals.len());
                parsed.positionals.extend(args.by_ref().cloned());
            }
            [b'-', b'-', long @ ..] => parsed.long(flags, &text(long), &mut args)?,
            [b'-', shorts @ ..] if !shorts.is_empty() => parsed.shorts(flags, &text(shorts), &mut args)?,
            _ => parsed.positionals.push(arg.clone()),
        }
    }
    Ok(parsed)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

type Rest<'a> = std::slice::Iter<'a, Vec<u8>>;

impl Parsed {
    fn long(&mut self, flags: &[&'static Flag], arg: &str, rest: &mut Rest<'_>) -> Result<(), String> {
        if arg.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: --{arg}"));
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg, None),
        };
        let flag =
            flags.iter().find(|flag| flag.name == name).ok_or_else(|| format!("unknown flag: --{name}"))?;
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => match rest.next() {
                Some(value) => text(value),
                None => return Err(format!("flag needs an argument: --{name}")),
            },
        };
        self.set(flag, value)
    }

    /// Reads `-abc`: booleans in a row, or one flag with its value.
    fn shorts(&mut self, flags: &[&'static Flag], arg: &str, rest: &mut Rest<'_>) -> Result<(), String> {
        let mut letters = arg.chars();
        while let Some(letter) = letters.next() {
            let flag = flags
                .iter()
                .find(|flag| flag.short == Some(letter))
                .ok_or_else(|| format!("unknown shorthand flag: {} in -{arg}", go::quote_char(letter)))?;
            let after = letters.as_str();
            if let Some(value) = after.strip_prefix('=') {
                return self.set(flag, value.to_owned());
            }
            if flag.kind == Kind::Bool {
                self.set(flag, "true".to_owned())?;
                continue;
            }
            if !after.is_empty() {
                return self.set(flag, after.to_owned());
            }
            let value = rest
                .next()
                .ok_or_else(|| format!("flag needs an argument: {} in -{arg}", go::quote_char(letter)))?;
            return self.set(flag, text(value));
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), String> {
        flag.check(&value).map_err(|why| {
            let (value, name) = (go::quote(value.as_bytes()), go::quote(flag.shown().as_bytes()));
            format!("invalid argument {value} for {name} flag: {why}")
        })?;
        match self.values.get_mut(flag.name) {
            Some(list) if flag.kind == Kind::List => {
                list.push(',');
                list.push_str(&value);
            }
            _ => {
                self.values.insert(flag.name, value);
            }
        }
        Ok(())
    }

    /// Gives a flag a value that did not come from the command line.
    pub(crate) fn adopt(&mut self, flag: &'static Flag, value: String) {
        self.values.insert(flag.name, value);
    }

    /// Whether the flag was given.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The flag's text, if it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether a boolean flag is on; one that was not given is off.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| go::parse_bool(value) == Ok(true))
    }

    /// The number of an integer flag; one that was not given is 0.
    pub(crate) fn int(&self, name: &str) -> i64 {
        self.get(name).and_then(|value| go::parse_flag_int(value).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PREFIX: Flag = Flag::bool("prefix", "");
    static INTERACTIVE: Flag = Flag::bool("interactive", "").short('i');
    static REV: Flag = Flag::int("rev", "");
    static WRITE_OUT: Flag = Flag::string("write-out", "simple", "").short('w');
    static ENDPOINTS: Flag = Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "");
    static TIMEOUT: Flag = Flag::new("dial-timeout", Kind::Duration, "2s", "");
    static FLAGS: [&Flag; 6] = [&PREFIX, &INTERACTIVE, &REV, &WRITE_OUT, &ENDPOINTS, &TIMEOUT];

    fn read(line: &str) -> Result<Parsed, String> {
        let args: Vec<Vec<u8>> = line.split(' ').map(|arg| arg.as_bytes().to_vec()).collect();
        parse(&FLAGS, &args)
    }

    fn positionals(parsed: &Parsed) -> String {
        parsed.positionals.iter().map(|arg| text(arg)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_stand_anywhere_until_two_dashes() {
        let parsed = read("a --prefix b --rev 5 -- --rev c").unwrap();
        assert_eq!(positionals(&parsed), "a b --rev c");
        assert_eq!(parsed.before_dashes, Some(2));
        assert!(parsed.on("prefix"));
        assert_eq!(parsed.int("rev"), 5);
    }

    #[test]
    fn booleans_take_a_value_only_after_an_equals_sign() {
        assert!(!read("--prefix=false").unwrap().on("prefix"));
        let parsed = read("--prefix false").unwrap();
        assert!(parsed.on("prefix"));
        assert_eq!(positionals(&parsed), "false");
    }

    #[test]
    fn short_flags_take_their_value_in_every_form() {
        for line in ["-w json", "-w=json", "-wjson", "-iw json", "--write-out=json"] {
            assert_eq!(read(line).unwrap().get("write-out"), Some("json"), "{line}");
        }
        assert!(read("-i=false -w x").is_ok_and(|parsed| !parsed.on("interactive")));
    }

    #[test]
    fn a_list_grows_when_given_again() {
        assert_eq!(read("--endpoints a,b --endpoints c").unwrap().get("endpoints"), Some("a,b,c"));
    }

    #[test]
    fn a_single_dash_is_an_argument() {
        assert_eq!(positionals(&read("- x").unwrap()), "- x");
    }

    #[test]
    fn mistakes_are_told_in_pflags_words() {
        let cases = [
            ("--bad", "unknown flag: --bad"),
            ("--bad=1", "unknown flag: --bad"),
            ("k -1", "unknown shorthand flag: '1' in -1"),
            ("-ix", "unknown shorthand flag: 'x' in -ix"),
            ("--rev", "flag needs an argument: --rev"),
            ("-w", "flag needs an argument: 'w' in -w"),
            ("--=x", "bad flag syntax: --=x"),
            ("---x", "bad flag syntax: ---x"),
            (
                "--rev x",
                "invalid argument \"x\" for \"--rev\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "--prefix=maybe",
                "invalid argument \"maybe\" for \"--prefix\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                "-i=maybe",
                "invalid argument \"maybe\" for \"-i, --interactive\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                "--dial-timeout bad",
                "invalid argument \"bad\" for \"--dial-timeout\" flag: time: invalid duration \"bad\"",
            ),
        ];
        for (line, error) in cases {
            assert_eq!(read(line).unwrap_err(), error, "{line}");
        }
    }
}
