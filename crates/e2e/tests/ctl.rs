//! The walkthrough of the README with both command-line clients, ours and the real etcd's, against both servers.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use e2e::{Member, PATIENCE, Target, eventually, run};

use etcd_rs_e2e as e2e;

/// A command-line client and the member it speaks to.
struct Shell {
    program: PathBuf,
    endpoint: String,
}

impl Shell {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint]).args(line.split_whitespace());
        command
    }

    /// What a command prints, which must succeed.
    fn says(&self, line: &str) -> String {
        let output = self.command(line).output().expect("the client can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}: {errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a command that must fail prints as its error.
    fn fails(&self, line: &str) -> String {
        let output = self.command(line).output().expect("the client can be run");
        assert!(!output.status.success(), "{line} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What a command prints that reads from its standard input.
    fn says_to(&self, line: &str, input: &str) -> String {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client can be run");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("the client reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{line}: {}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A command that goes on until it is dropped.
    fn keeps_saying(&self, line: &str) -> Lines {
        let mut child = self.command(line).stdout(Stdio::piped()).spawn().expect("the client can be run");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Lines { child, lines }
    }
}

/// What a running command prints.
struct Lines {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Lines {
    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line in time")
    }

    fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()).collect()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `lease 694d...` at the beginning of a line, and what follows.
fn lease_id(line: &str) -> String {
    let id = line.strip_prefix("lease ").and_then(|rest| rest.split(' ').next());
    id.unwrap_or_else(|| panic!("no lease in {line:?}")).to_owned()
}

fn keys_and_values(shell: &Shell) {
    for (key, value) in [("foo", "bar"), ("foo1", "bar1"), ("foo2", "bar2"), ("foo3", "bar3")] {
        assert_eq!(shell.says(&format!("put {key} {value}")), "OK\n");
    }
    assert_eq!(shell.says("get foo"), "foo\nbar\n");
    assert_eq!(shell.says("get foo foo2"), "foo\nbar\nfoo1\nbar1\n");
    assert_eq!(shell.says("get --rev=3 foo foo9"), "foo\nbar\nfoo1\nbar1\n");
    assert_eq!(shell.says("get foo --print-value-only"), "bar\n");
    assert_eq!(shell.says("get --prefix --keys-only --limit 2 foo"), "foo\n\nfoo1\n\n");
    assert_eq!(shell.says("get nothing"), "");
    assert_eq!(shell.says("del foo"), "1\n");
    assert_eq!(shell.says("del foo foo9"), "3\n");
    assert_eq!(shell.says("del foo"), "0\n");
    // Revisions: 2 to 5 the puts, 6 and 7 the deletes.
    assert_eq!(shell.says("get --rev=5 foo"), "foo\nbar\n");
}

async fn watching(shell: &Shell) {
    let past = shell.keeps_saying("watch --rev=2 foo");
    assert_eq!(past.take(6), ["PUT", "foo", "bar", "DELETE", "foo", ""]);
    let range = shell.keeps_saying("watch --rev=5 foo foo9");
    assert_eq!(range.take(3), ["PUT", "foo3", "bar3"]);

    // Nothing tells when a watch of the present has begun; so put until it is seen.
    let present = shell.keeps_saying("watch now");
    let first = eventually("a watched put", async || {
        shell.says("put now here");
        present.lines.try_recv().ok()
    });
    assert_eq!(first.await, "PUT");
    assert_eq!(present.take(2), ["now", "here"]);
}

fn compacting(shell: &Shell) {
    assert_eq!(shell.says("compact 5"), "compacted revision 5\n");
    let error = shell.fails("get --rev=4 foo");
    assert!(error.contains("etcdserver: mvcc: required revision has been compacted"), "{error}");
    assert_eq!(shell.says("get --rev=5 foo"), "foo\nbar\n");
}

async fn leases(shell: &Shell) {
    let granted = shell.says("lease grant 10");
    let id = lease_id(&granted);
    assert_eq!(granted, format!("lease {id} granted with TTL(10s)\n"));
    assert_eq!(shell.says(&format!("put --lease={id} leased yes")), "OK\n");
    assert_eq!(shell.says("get leased"), "leased\nyes\n");
    let alive = shell.keeps_saying(&format!("lease keep-alive {id}"));
    assert_eq!(alive.next(), format!("lease {id} keepalived with TTL(10)"));
    drop(alive);
    let remaining = shell.says(&format!("lease timetolive --keys {id}"));
    assert!(remaining.starts_with(&format!("lease {id} granted with TTL(10s), remaining(")), "{remaining}");
    assert!(remaining.ends_with("), attached keys([leased])\n"), "{remaining}");
    assert_eq!(shell.says("lease list"), format!("found 1 leases\n{id}\n"));
    assert_eq!(shell.says(&format!("lease revoke {id}")), format!("lease {id} revoked\n"));
    assert_eq!(shell.says("get leased"), "");

    let short = lease_id(&shell.says("lease grant 2"));
    shell.says(&format!("put --lease={short} brief yes"));
    eventually("the end of the lease", async || shell.says("get brief").is_empty().then_some(())).await;
}

fn transactions(shell: &Shell) {
    shell.says("put t 1");
    let script = "value(\"t\") = \"1\"\n\nput t 2\nget t\n\nput t 3\n\n";
    assert_eq!(shell.says_to("txn", script), "SUCCESS\n\nOK\n\nt\n2\n");
    assert_eq!(shell.says_to("txn", script), "FAILURE\n\nOK\n");
    assert_eq!(shell.says("get t"), "t\n3\n");
}

fn the_member(shell: &Shell) {
    let members = shell.says("member list");
    assert!(members.contains("started, default, http://127.0.0.1:"), "{members}");
    let status = shell.says("endpoint status");
    assert!(status.starts_with(&format!("{}, ", shell.endpoint)), "{status}");
    assert_eq!(shell.says("alarm list"), "");
    assert!(shell.says("defrag").contains("Finished defragmenting etcd member"));
    let hash = shell.says("endpoint hashkv");
    assert_eq!(hash.split(", ").next(), Some(&*shell.endpoint), "{hash}");
}

fn about_itself(shell: &Shell) {
    assert!(shell.says("--help").contains("endpoint"));
    assert!(shell.says("version").contains("API version: 3."));
}

async fn walkthrough(program: PathBuf, member: &Member) {
    let endpoint = member.client_url().trim_start_matches("http://").to_owned();
    let shell = Shell { program, endpoint };
    keys_and_values(&shell);
    watching(&shell).await;
    compacting(&shell);
    leases(&shell).await;
    transactions(&shell);
    the_member(&shell);
    about_itself(&shell);
}

#[test]
fn the_real_etcdctl_walks_through_ours() {
    run(Target::Binary, async |member: Member| walkthrough(e2e::real_etcd().join("etcdctl"), &member).await);
}

#[test]
fn ours_walks_through_ours() {
    run(Target::Binary, async |member: Member| walkthrough(e2e::programs().ctl.clone(), &member).await);
}

#[test]
fn ours_walks_through_the_real_etcd() {
    run(Target::Real, async |member: Member| walkthrough(e2e::programs().ctl.clone(), &member).await);
}

/// What the other three are measured by.
#[test]
fn the_real_etcdctl_walks_through_the_real_etcd() {
    run(Target::Real, async |member: Member| walkthrough(e2e::real_etcd().join("etcdctl"), &member).await);
}
