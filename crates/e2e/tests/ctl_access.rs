//! Users, roles and authentication: what our command line prints is what etcdctl prints.
//!
//! Both ask the same member, one after the other, and leave it as it was before.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Member, Target, run};

use etcd_rs_e2e as e2e;

/// How a command ended and what it said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    output: String,
    error: String,
}

fn ask(program: &Path, endpoint: &str, line: &str, stdin: &str) -> Said {
    let mut child = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(line.split_whitespace().map(|word| word.trim_matches('\'')))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read may have ended already.
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap_or(());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    Said {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        // The etcdctl compared with also logs what its library does.
        error: errors.lines().filter(|line| line.starts_with("Error: ")).collect(),
    }
}

/// Everything there is to say about users and roles, with mistakes; what is made here is deleted here.
const USERS_AND_ROLES: &[&str] = &[
    "user add alice:pw",
    "user add alice:pw",
    "user add bob --no-password",
    "user list",
    "user get alice",
    "user get nobody",
    "role add r",
    "role add r",
    "role add s",
    "role list",
    "role grant-permission r read foo",
    "role grant-permission r write foo1 foo3",
    "role grant-permission r readwrite --prefix pp",
    "role grant-permission r READ --from-key z",
    "role grant-permission s read --prefix ''",
    "role grant-permission s write ''",
    "role grant-permission none read foo",
    "role get r",
    "role get s",
    "role get none",
    "user grant-role alice r",
    "user grant-role alice s",
    "user grant-role alice none",
    "user grant-role nobody r",
    "user get alice",
    "user get alice --detail",
    "role revoke-permission r foo",
    "role revoke-permission r foo1 foo3",
    "role revoke-permission r --prefix pp",
    "role revoke-permission r --from-key z",
    "role revoke-permission r foo",
    "role get r",
    "user revoke-role alice s",
    "user revoke-role alice s",
    "user delete bob",
    "user delete bob",
    "role delete s",
    "role delete s",
    "user delete alice",
    "role delete r",
];

/// A life of authentication.
const AUTHENTICATION: &[&str] = &[
    "auth enable",
    "auth disable",
    "user add root:secret",
    "auth enable",
    "auth enable --user root:secret",
    "user list",
    "user list --user root:wrong",
    "user list --user nobody:secret",
    "role get root --user root:secret",
    "user add alice:pw --user root:secret",
    "role add r --user root:secret",
    "role grant-permission r readwrite --prefix a --user root:secret",
    "user grant-role alice r --user root:secret",
    "put a1 v --user alice:pw",
    "put b1 v --user alice:pw",
    "get a1 --user alice --password pw",
    "get --prefix '' --user alice:pw",
    "get a1",
    "del a1 --user alice:pw",
    "user list --user alice:pw",
    "user get alice --user alice:pw",
    "user delete alice --user root:secret",
    "role delete r --user root:secret",
    "user delete root --user root:secret",
    "auth disable --user root:secret",
    "user delete root",
    "role delete root",
];

fn compare(member: &Member, format: &str, lines: &[&str]) {
    let endpoint = member.client_url().trim_start_matches("http://");
    let all = |program: &Path| -> Vec<Said> {
        lines.iter().map(|line| ask(program, endpoint, &format!("-w {format} {line}"), "")).collect()
    };
    let (theirs, ours) = (all(&theirs()), all(&ours()));
    for ((line, theirs), ours) in lines.iter().zip(theirs).zip(ours) {
        // Of the role root newer servers, as ours, tell a range that the older etcdctl takes for a prefix without letters.
        let theirs = Said { output: theirs.output.replace(" (prefix )", ""), ..theirs };
        assert_eq!(ours, theirs, "{line} in {format}");
    }
}

fn ours() -> PathBuf {
    e2e::programs().ctl.clone()
}

fn theirs() -> PathBuf {
    e2e::real_etcd().join("etcdctl")
}

async fn compare_all(member: Member) {
    for format in ["simple", "json"] {
        compare(&member, format, USERS_AND_ROLES);
    }
    for format in ["fields", "table", "protobuf"] {
        // What etcdctl 3.4 has in these formats is not what 3.7 has; that both do the same is seen by what is left.
        for line in USERS_AND_ROLES {
            ask(&ours(), member.client_url(), &format!("-w {format} {line}"), "");
        }
        assert_eq!(ask(&ours(), member.client_url(), "user list", "").output, "");
        assert_eq!(ask(&ours(), member.client_url(), "role list", "").output, "");
    }
    compare(&member, "simple", AUTHENTICATION);
}

#[test]
fn users_and_roles_print_what_etcdctl_prints() {
    // Building it counts towards no test's time.
    e2e::programs();
    run(Target::Real, compare_all);
}

#[test]
fn users_and_roles_of_ours_print_the_same() {
    // Building it counts towards no test's time.
    e2e::programs();
    run(Target::Binary, compare_all);
}

async fn passwords(member: Member) {
    let endpoint = member.client_url();
    let ask = |line: &str, stdin: &str| ask(&ours(), endpoint, line, stdin);
    let asked = "Password of alice: \nType password of alice again for confirmation: \n";
    assert_eq!(ask("user add root:secret", "").code, Some(0));
    assert_eq!(ask("user add alice", "one\none\n").output, format!("{asked}User alice created\n"));
    assert_eq!(ask("user add bob --interactive=false", "two\n").output, "User bob created\n");
    assert_eq!(ask("user add c:d --new-user-password three", "").output, "User c:d created\n");
    assert_eq!(ask("auth enable", "").output, "Authentication Enabled\n");
    let get = |user: &str, stdin: &str| ask(&format!("get k {user}"), stdin);
    // No role, so no right; but it is known who asks.
    let denied = "Error: etcdserver: permission denied";
    assert_eq!(get("--user alice:one", "").error, denied);
    assert_eq!(get("--user bob:two", "").error, denied);
    assert_eq!(get("--user c:d --password three", "").error, denied);
    let typed = get("--user alice", "one\n");
    assert_eq!((&*typed.error, &*typed.output), (denied, "Password: \n"));
    let wrong = get("--user alice:two", "");
    let text = "Error: etcdserver: authentication failed, invalid user ID or password";
    assert_eq!((&*wrong.error, wrong.code), (text, Some(2)));
    let changed = ask("user passwd alice --user root:secret", "four\nfour\n");
    assert_eq!(changed.output, format!("{asked}Password updated\n"));
    let changed = ask("user passwd bob --interactive=false --user root:secret", "five\n");
    assert_eq!(changed.output, "Password updated\n");
    assert_eq!(get("--user alice:four", "").error, denied);
    assert_eq!(get("--user bob:five", "").error, denied);
    assert_eq!(get("--user alice:one", "").error, text);
}

#[test]
fn passwords_are_typed_given_or_read() {
    // Building it counts towards no test's time.
    e2e::programs();
    run(Target::Real, passwords);
}

#[test]
fn passwords_of_ours_are_too() {
    // Building it counts towards no test's time.
    e2e::programs();
    run(Target::Binary, passwords);
}
