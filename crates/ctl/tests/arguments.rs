//! What the built program says to wrong arguments, without any server: stderr, stdout and the exit code.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn ctl(args: &[&str], environment: &[(&str, &str)], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-rs-ctl"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCDCTL_")) {
        command.env_remove(name);
    }
    let mut child = command
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails before it reads has closed the pipe.
    child.stdin.take().unwrap().write_all(stdin).unwrap_or(());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs with these arguments; they must end with this code and say this on stderr.
fn check(args: &str, code: i32, stderr: &str) {
    let words: Vec<&str> = args.split_whitespace().map(|word| if word == "''" { "" } else { word }).collect();
    let output = ctl(&words, &[], b"");
    assert_eq!(text(&output.stderr), format!("{stderr}\n"), "{args}");
    assert_eq!(output.status.code(), Some(code), "{args}");
    assert_eq!(text(&output.stdout), "", "{args}");
}

#[test]
fn wrong_arguments_have_their_exact_words_and_codes() {
    let prefix_and_from_key = "Error: `--prefix` and `--from-key` cannot be set at the same time, choose one";
    let too_many =
        "Error: too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
    let get = "Error: get command needs one argument as key and an optional argument as range_end";
    let put = "Error: put command needs 1 argument and input from stdin or 2 arguments";
    let del = "Error: del command needs one argument as key and an optional argument as range_end";
    let hex = "strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex";
    let cases: &[(&str, i32, &str)] = &[
        ("get", 128, get),
        ("get --prefix --from-key a", 128, prefix_and_from_key),
        (
            "get --keys-only --count-only a",
            128,
            "Error: `--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ),
        ("get --consistency x a", 4, "Error: unknown consistency flag \"x\""),
        ("get --prefix a b", 128, too_many),
        ("get --order up a", 4, "Error: bad sort order up"),
        ("get --sort-by x a", 4, "Error: bad sort target x"),
        (
            "get --min-create-rev 5 --max-create-rev 3 a",
            4,
            "Error: getMinCreateRev(=5) > getMaxCreateRev(=3)",
        ),
        ("get --min-mod-rev 5 --max-mod-rev 3 a", 4, "Error: getMinModRev(=5) > getMaxModRev(=3)"),
        ("put", 128, put),
        ("put a", 128, put),
        (
            "put a b --ignore-value",
            128,
            "Error: put command needs only 1 argument when 'ignore-value' is set",
        ),
        ("put a b --lease zz", 128, &format!("Error: bad lease ID ({hex}")),
        ("del", 128, del),
        ("del a b c", 128, del),
        ("del --prefix --from-key a", 128, prefix_and_from_key),
        ("del --prefix a b", 128, too_many),
        ("txn x", 128, "Error: txn command does not accept argument"),
        ("txn", 3, "Error: EOF"),
        ("watch", 128, "Error: bad number of arguments"),
        ("watch a --", 128, "Error: bad number of arguments (found separator --, but no commands)"),
        ("watch a b --prefix", 128, "Error: `range_end` and `--prefix` are mutually exclusive"),
        ("watch -i", 3, "Error: error reading watch request line: EOF"),
        ("compaction", 128, "Error: compaction command needs 1 argument"),
        ("compact x", 1, "Error: strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("lease grant", 128, "Error: lease grant command needs TTL argument"),
        ("lease grant x", 128, "Error: bad TTL (strconv.ParseInt: parsing \"x\": invalid syntax)"),
        ("lease revoke", 128, "Error: lease revoke command needs 1 argument"),
        ("lease revoke zz", 128, &format!("Error: bad lease ID arg ({hex}")),
        ("lease timetolive", 128, "Error: lease timetolive command needs lease ID as argument"),
        ("lease keep-alive", 128, "Error: lease keep-alive command needs lease ID as argument"),
        ("lease keep-alive zz", 128, &format!("Error: bad lease ID arg ({hex}")),
        ("member list --consistency x", 4, "Error: unknown consistency flag \"l\""),
        ("alarm list x", 128, "Error: alarm list command accepts no arguments"),
        ("alarm disarm x", 128, "Error: alarm disarm command accepts no arguments"),
        ("get a -w xml", 4, "Error: unsupported output format"),
        ("get a --cert ''", 128, "Error: empty string is passed to --cert option"),
        ("get a --cacert /x", 128, "Error: open /x: no such file or directory"),
        (
            "get a --cert /x --endpoints http://127.0.0.1:1",
            128,
            "Error: KeyFile and CertFile must both be present[key: , cert: /x]",
        ),
        ("member add", 128, "Error: member name not provided"),
        ("member add a", 128, "Error: member peer urls not provided"),
        (
            "member add a http://b:1 HTTP://c:1",
            128,
            "Error: too many arguments, did you mean --peer-urls=http://b:1, did you mean --peer-urls=HTTP://c:1",
        ),
        ("member add a --peer-urls x", 1, "Error: URL scheme must be http, https, unix, or unixs: x"),
        ("member remove", 128, "Error: member ID is not provided"),
        ("member promote a b", 128, "Error: member ID is not provided"),
        (
            "member remove zz",
            128,
            "Error: bad member ID arg (strconv.ParseUint: parsing \"zz\": invalid syntax), expecting ID in Hex",
        ),
        ("member update 1", 128, "Error: member peer urls not provided"),
        ("move-leader", 128, "Error: move-leader command needs 1 argument"),
        ("move-leader zz", 128, "Error: strconv.ParseUint: parsing \"zz\": invalid syntax"),
        ("get a --endpoints ''", 2, "Error: etcdclient: no available endpoints"),
        (
            "get a --max-recv-bytes 10 --max-request-bytes 20",
            2,
            "Error: gRPC message recv limit (10 bytes) must be greater than send limit (20 bytes)",
        ),
    ];
    for (args, code, stderr) in cases {
        check(args, *code, stderr);
    }
}

#[test]
fn wrong_arguments_about_users_roles_locks_and_versions_have_theirs() {
    let user_name = "command requires user name as its argument";
    let role_name = "command requires role name as its argument";
    let role_grant =
        "Error: role grant command requires role name, permission type, and key [endkey] as its argument";
    let mutually = "Error: --from-key and --prefix flags are mutually exclusive";
    let elect = "Error: elect takes one election name argument and an optional proposal argument";
    let cases: &[(&str, i32, &str)] = &[
        ("auth enable x", 128, "Error: auth enable command does not accept any arguments"),
        ("auth disable x", 128, "Error: auth disable command does not accept any arguments"),
        ("auth status x", 128, "Error: auth status command does not accept any arguments"),
        ("user add", 128, &format!("Error: user add {user_name}")),
        ("user add :pw", 128, "Error: empty user name is not allowed"),
        ("user delete", 128, &format!("Error: user delete {user_name}")),
        ("user get a b", 128, &format!("Error: user get {user_name}")),
        ("user passwd", 128, &format!("Error: user passwd {user_name}")),
        ("user list x", 128, "Error: user list command requires no arguments"),
        (
            "user grant-role a",
            128,
            "Error: user grant command requires user name and role name as its argument",
        ),
        (
            "user revoke-role a",
            128,
            "Error: user revoke-role requires user name and role name as its argument",
        ),
        ("role add", 128, &format!("Error: role add {role_name}")),
        ("role delete", 128, &format!("Error: role delete {role_name}")),
        ("role get", 128, &format!("Error: role get {role_name}")),
        ("role list x", 128, "Error: role list command requires no arguments"),
        ("role grant-permission r read", 128, role_grant),
        ("role grant-permission r bad k", 128, "Error: invalid permission type: bad"),
        ("role grant-permission r read k --prefix --from-key", 128, mutually),
        (
            "role revoke-permission r",
            128,
            "Error: role revoke-permission command requires role name and key [endkey] as its argument",
        ),
        ("lock", 128, "Error: lock takes a lock name argument and an optional command to execute"),
        ("elect", 128, elect),
        ("elect a b c", 128, elect),
        ("elect a", 128, "Error: no proposal argument but -l not set"),
        ("elect a b -l", 128, "Error: proposal given but -l is set"),
        ("downgrade validate", 128, "Error: TARGET_VERSION not provided"),
        ("downgrade enable 3.6 3.5", 128, "Error: too many arguments"),
        ("downgrade enable ''", 128, "Error: target version not provided"),
        ("completion", 1, "Error: accepts 1 arg(s), received 0"),
    ];
    for (args, code, stderr) in cases {
        check(args, *code, stderr);
    }
}

#[test]
fn a_new_password_is_asked_for_twice() {
    let cases: &[(&[u8], &str)] =
        &[(b"a\nb\n", "given passwords are different"), (b"\n", "empty password"), (b"", "empty password")];
    for args in [["user", "add", "alice"], ["user", "passwd", "alice"]] {
        for (stdin, message) in cases {
            let output = ctl(&args, &[], stdin);
            assert_eq!(text(&output.stderr), format!("Error: {message}\n"));
            assert_eq!(output.status.code(), Some(128));
        }
        let both = "Password of alice: \nType password of alice again for confirmation: \n";
        assert_eq!(text(&ctl(&args, &[], b"a\nb\n").stdout), both);
    }
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = ctl(&["completion", shell], &[], b"");
        assert!(text(&output.stdout).contains("grant-permission"), "{shell}");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shell}");
    }
    let output = ctl(&["completion", "foo"], &[], b"");
    assert!(
        text(&output.stderr).starts_with("Error: invalid argument \"foo\" for \"etcd-rs-ctl completion\"\n")
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn unknown_commands_point_to_help_and_suggest_what_is_close() {
    check(
        "foo",
        1,
        "Error: unknown command \"foo\" for \"etcd-rs-ctl\"\nRun 'etcd-rs-ctl --help' for usage.",
    );
    check(
        "gett k",
        1,
        "Error: unknown command \"gett\" for \"etcd-rs-ctl\"\n\nDid you mean this?\n\tget\n\n\
         Run 'etcd-rs-ctl --help' for usage.",
    );
}

#[test]
fn wrong_flags_are_followed_by_the_usage_on_stderr() {
    let cases = [
        ("get --bad", "unknown flag: --bad"),
        ("put k -1", "unknown shorthand flag: '1' in -1"),
        ("get k --dial-timeout", "flag needs an argument: --dial-timeout"),
        (
            "get k --dial-timeout bad",
            "invalid argument \"bad\" for \"--dial-timeout\" flag: time: invalid duration \"bad\"",
        ),
    ];
    for (args, message) in cases {
        let output = ctl(&args.split(' ').collect::<Vec<_>>(), &[], b"");
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with(&format!("Error: {message}\nNAME:\n\t")), "{args}: {stderr}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args}");
    }
}

#[test]
fn malformed_transactions_end_before_anything_is_sent() {
    let cases: &[(&str, i32, &str)] = &[
        ("ver(\"foo\") > \"0\"\n", 3, "EOF"),
        ("ver(\"foo\")\n\n\n\n", 3, "malformed comparison: ver(\"foo\"); got ver(\"foo\")  \"\""),
        ("\nget \"a\\q\"\n\n\n", 3, "invalid syntax"),
        ("\nfoo a\n\n\n", 3, "invalid txn request: foo a"),
        ("\nput a\n\n\n", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
    ];
    for (stdin, code, message) in cases {
        let output = ctl(&["txn"], &[], stdin.as_bytes());
        assert_eq!(text(&output.stderr), format!("Error: {message}\n"), "{stdin}");
        assert_eq!(output.status.code(), Some(*code), "{stdin}");
    }
}

#[test]
fn the_sections_of_an_interactive_transaction_are_asked_for() {
    let output = ctl(&["txn", "-i"], &[], b"\n\n");
    assert_eq!(
        text(&output.stdout),
        "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n"
    );
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_flag_and_its_variable_together_are_fatal() {
    let output = ctl(&["get", "a", "--endpoints", "b:1"], &[("ETCDCTL_ENDPOINTS", "")], b"");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("conflicting environment variable is shadowed"), "{stderr}");
    assert!(stderr.contains("\"environment-variable\":\"ETCDCTL_ENDPOINTS\""), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn unknown_variables_are_pointed_out_but_not_the_api_of_three() {
    let nobody = [("ETCDCTL_ENDPOINTS", ""), ("ETCDCTL_WRITE_OUT", "xml")];
    let stderr = |extra: (&str, &str)| text(&ctl(&["get", "a"], &[nobody[0], nobody[1], extra], b"").stderr);
    assert_eq!(stderr(("ETCDCTL_API", "3")), "Error: unsupported output format\n");
    let warned = stderr(("ETCDCTL_PREFIX", "true"));
    assert!(warned.contains("\"msg\":\"unrecognized environment variable\""), "{warned}");
    assert!(warned.contains("\"environment-variable\":\"ETCDCTL_PREFIX=true\""), "{warned}");
}

#[test]
fn help_is_on_stdout_for_the_program_every_command_and_parents_alone() {
    let cases = [
        "",
        "--help",
        "-h",
        "help",
        "help lease",
        "lease",
        "lease foo",
        "endpoint",
        "get --help",
        "lease grant -h",
    ];
    for args in cases {
        let output = ctl(&args.split_whitespace().collect::<Vec<_>>(), &[], b"");
        assert!(text(&output.stdout).starts_with("NAME:\n\t"), "{args}");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args}");
    }
    let help = text(&ctl(&["lease", "grant", "-h"], &[], b"").stdout);
    assert!(help.contains("\nUSAGE:\n\tetcd-rs-ctl lease grant <ttl> [flags]\n"), "{help}");
    assert!(help.contains("\nOPTIONS:\n  -h, --help[=false]\t"), "{help}");
    assert!(help.contains("\nGLOBAL OPTIONS:\n"), "{help}");
}

#[test]
fn an_unknown_help_topic_is_no_failure() {
    let output = ctl(&["help", "foo"], &[], b"");
    assert!(text(&output.stderr).starts_with("Unknown help topic [`foo`]\nNAME:\n"));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn the_version_is_shown_by_command_and_by_flag() {
    for args in ["version", "--version", "ver"] {
        let output = ctl(&[args], &[("ETCDCTL_WRITE_OUT", "xml")], b"");
        let stdout = text(&output.stdout);
        assert!(stdout.starts_with("etcdctl version: 3.7.1\nAPI version: 3.7\n"), "{stdout}");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn options_lists_the_global_flags() {
    let stdout = text(&ctl(&["options"], &[], b"").stdout);
    assert!(stdout.starts_with("The following options can be passed to any command:\n\n"), "{stdout}");
    assert_eq!(stdout.lines().filter(|line| line.contains("--")).count(), 21);
}

#[test]
fn nothing_listening_ends_at_the_command_timeout() {
    let output = ctl(&["put", "a", "b", "--endpoints", "127.0.0.1:1", "--command-timeout", "50ms"], &[], b"");
    assert_eq!(text(&output.stderr), "Error: context deadline exceeded\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-rs-ctl"))
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    // If the help was written before the pipe was closed there was nothing to notice.
    assert!(matches!(output.status.code(), Some(0 | 141)), "{}", output.status);
}
