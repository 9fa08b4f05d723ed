//! `lock` and `elect`: our command line and etcdctl share locks and elections, on either server.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use e2e::{Member, PATIENCE, Target, eventually, range, run};

use etcd_rs_e2e as e2e;

fn ours() -> PathBuf {
    e2e::programs().ctl.clone()
}

fn theirs() -> PathBuf {
    e2e::real_etcd().join("etcdctl")
}

fn command(program: &PathBuf, member: &Member, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    let endpoint = member.client_url().trim_start_matches("http://");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoint]).args(words);
    command
}

/// A command that goes on until a signal or its drop.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(program: &PathBuf, member: &Member, words: &[&str]) -> Self {
        let mut child = command(program, member, words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The next two lines, a key and its value.
    fn pair(&self) -> (String, String) {
        let next = || self.lines.recv_timeout(PATIENCE).expect("another line in time");
        (next(), next())
    }

    fn silent(&self) -> bool {
        self.lines.try_recv().is_err()
    }

    /// Sends a signal; returns how it ended and what it said of that.
    async fn end(mut self, signal: &str) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let status = eventually("the command's end", async || self.child.try_wait().unwrap()).await;
        let mut errors = BufReader::new(self.child.stderr.take().unwrap()).lines().map_while(Result::ok);
        (status, errors.find(|line| line.starts_with("Error: ")).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until so many keys stand below a name.
async fn stand(member: &Member, name: &str, count: i64) {
    let (key, end) = (format!("{name}/"), format!("{name}0"));
    let enough = async || (member.range(range(&key, &end)).await.count == count).then_some(());
    eventually("keys in line", enough).await;
}

async fn locks(member: &Member, [first, second]: [&PathBuf; 2]) {
    let holder = Running::start(first, member, &["lock", "l"]);
    let (key, value) = holder.pair();
    assert!(key.starts_with("l/") && value.is_empty(), "{key} {value}");
    let waiter = Running::start(second, member, &["lock", "l"]);
    stand(member, "l", 2).await;
    let (status, error) = Running::start(first, member, &["lock", "l"]).give_up(member).await;
    assert_eq!((status.code(), &*error), (Some(1), "Error: context canceled"));
    stand(member, "l", 2).await;
    assert!(waiter.silent());
    assert_eq!(holder.end("INT").await.0.code(), Some(0));
    let (next, _) = waiter.pair();
    assert_ne!(next, key);
    assert_eq!(waiter.end("TERM").await.0.code(), Some(0));
    stand(member, "l", 0).await;
}

impl Running {
    /// Waits until it stands in line behind two others, and interrupts it.
    async fn give_up(self, member: &Member) -> (ExitStatus, String) {
        stand(member, "l", 3).await;
        self.end("INT").await
    }
}

async fn elections(member: &Member, [first, second]: [&PathBuf; 2]) {
    let leader = Running::start(first, member, &["elect", "e", "one"]);
    let (key, value) = leader.pair();
    assert!(key.starts_with("e/") && value == "one", "{key} {value}");
    let observers = [first, second].map(|program| Running::start(program, member, &["elect", "-l", "e"]));
    let candidate = Running::start(second, member, &["elect", "e", "two"]);
    stand(member, "e", 2).await;
    for observer in &observers {
        assert_eq!(observer.pair(), (key.clone(), "one".to_owned()));
    }
    assert!(candidate.silent());
    assert_eq!(leader.end("INT").await.0.code(), Some(0));
    let told = candidate.pair();
    assert_eq!(told.1, "two");
    for observer in observers {
        assert_eq!(observer.pair(), told);
        assert_eq!(observer.end("TERM").await.0.code(), Some(0));
    }
    assert_eq!(candidate.end("TERM").await.0.code(), Some(0));
    stand(member, "e", 0).await;
}

/// What a command that ends by itself says, and its code.
fn says(program: &PathBuf, member: &Member, words: &[&str]) -> (Option<i32>, String, String) {
    let output = command(program, member, words).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let error = errors.lines().filter(|line| line.starts_with("Error: ")).collect();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), error)
}

async fn commands(member: &Member) {
    let show = ["lock", "l", "--", "sh", "-c", "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV"];
    for program in [ours(), theirs()] {
        let before = member.revision().await;
        let (code, output, error) = says(&program, member, &show);
        assert_eq!((code, &*error), (Some(0), ""));
        let (key, revision) = output.trim_end().split_once(' ').unwrap();
        assert!(key.starts_with("l/"), "{output}");
        assert_eq!(revision, (before + 1).to_string());
        stand(member, "l", 0).await;
    }
    let failing = ["lock", "l", "--", "sh", "-c", "exit 7"];
    let ((ours_code, _, ours_error), (_, _, theirs_error)) =
        (says(&ours(), member, &failing), says(&theirs(), member, &failing));
    assert_eq!((&*ours_error, &*theirs_error), ("Error: exit status 7", "Error: exit status 7"));
    // Since 3.5; before, every failure was 1.
    assert_eq!(ours_code, Some(7));
    let missing = ["lock", "l", "no-such-program"];
    assert_eq!(says(&ours(), member, &missing), says(&theirs(), member, &missing));
    stand(member, "l", 0).await;
}

async fn all(member: Member) {
    let (ours, theirs) = (ours(), theirs());
    for pair in [[&ours, &theirs], [&theirs, &ours]] {
        locks(&member, pair).await;
        elections(&member, pair).await;
    }
    commands(&member).await;
    for line in [["elect", "e", "x", "-w", "table"], ["lock", "l", "-w", "table", "--ttl=2"]] {
        let (code, output, error) = says(&ours, &member, &line);
        assert_eq!((code, &*output, &*error), (Some(4), "", "Error: table not supported as output format"));
    }
}

#[test]
fn locks_and_elections_are_shared_with_etcdctl_on_the_real_etcd() {
    // Building it counts towards no test's time.
    e2e::programs();
    run(Target::Real, all);
}

#[test]
fn locks_and_elections_are_shared_with_etcdctl_on_ours() {
    // Building it counts towards no test's time.
    e2e::programs();
    run(Target::Binary, all);
}
