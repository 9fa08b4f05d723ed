//! Commands that change the cluster: what our command line prints is what etcdctl prints.
//!
//! Both ask the same real cluster, one after the other. What no two runs have in common, ids and the order that comes of them,
//! is taken out before the outputs are compared.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::PathBuf;
use std::process::Command;

use api::etcdserverpb::MemberListRequest;
use e2e::{Cluster, Member, Target, run, run_alone};

use etcd_rs_e2e as e2e;

/// How a command ended and what it said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    output: String,
    error: String,
}

fn ask(program: &PathBuf, endpoints: &str, line: &str) -> Said {
    let output = Command::new(program)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoints])
        .args(line.split_whitespace())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    Said {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        // The etcdctl compared with also logs what its library does.
        error: errors.lines().filter(|line| line.starts_with("Error: ")).collect(),
    }
}

fn ours() -> PathBuf {
    e2e::programs().ctl.clone()
}

fn theirs() -> PathBuf {
    e2e::real_etcd().join("etcdctl")
}

/// The parts of a text between commas, brackets and the like, with ids and numbers as long taken out, in a fixed order.
fn comparable(text: &str) -> Vec<Vec<String>> {
    let line = |line: &str| {
        let mut parts: Vec<String> =
            line.split([',', '[', ']', '{', '}', '"']).map(|part| without_ids(part.trim())).collect();
        parts.retain(|part| !part.is_empty());
        parts.sort();
        parts
    };
    let mut lines: Vec<_> = text.lines().map(line).collect();
    lines.sort();
    lines
}

fn without_ids(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let number = word.trim_start_matches(':');
        let long = number.len() > 12 && number.chars().all(|digit| digit.is_ascii_hexdigit());
        if long { word.replace(number, "ID") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The hexadecimal id of the member with this peer URL.
async fn id(member: &Member, peer_url: &str) -> String {
    let members =
        member.cluster().member_list(MemberListRequest::default()).await.unwrap().into_inner().members;
    let found = members.iter().find(|member| member.peer_ur_ls.iter().any(|url| url == peer_url));
    format!("{:x}", found.unwrap_or_else(|| panic!("no member at {peer_url} in {members:?}")).id)
}

/// Adds, changes and removes a learner with one program; returns everything that was said. The learner is on a host of its own,
/// because etcd makes ids of URLs and the second, and remembers those that were removed.
async fn changes(program: &PathBuf, member: &Member, format: &str, host: &str) -> Vec<(String, Said)> {
    let mut said = Vec::new();
    let mut ask = |name: &str, line: &str| {
        let line = line.replace("HOST", host);
        let answer = ask(program, member.client_url(), &format!("-w {format} {line}"));
        said.push((name.to_owned(), Said { output: answer.output.replace(host, "HOST"), ..answer }));
    };
    ask("add", "member add new --learner --peer-urls=http://HOST:11,http://HOST:12");
    ask("add again", "member add other --peer-urls=http://HOST:12");
    let new = id(member, &format!("http://{host}:11")).await;
    ask("update", &format!("member update {new} --peer-urls=http://HOST:13"));
    ask("list", "member list");
    ask("promote", &format!("member promote {new}"));
    ask("remove", &format!("member remove {new}"));
    ask("remove again", &format!("member remove {new}"));
    ask("update the removed", &format!("member update {new} --peer-urls=http://HOST:13"));
    said
}

async fn compare(member: &Member, format: &str, [one, other]: [&str; 2]) {
    let theirs = changes(&theirs(), member, format, one).await;
    let ours = changes(&ours(), member, format, other).await;
    for ((name, theirs), (_, ours)) in theirs.into_iter().zip(ours) {
        let what = format!("{name} in {format}");
        // Newer versions, which ours follows, say of a learner that it is one.
        let output = ours.output.replace("added as learner to", "added to");
        assert_eq!(comparable(&output), comparable(&theirs.output), "{what}");
        assert_eq!((ours.code, ours.error), (theirs.code, theirs.error), "{what}");
    }
}

async fn compare_all(member: Member) {
    compare(&member, "simple", ["127.0.1.1", "127.0.1.2"]).await;
    compare(&member, "json", ["127.0.1.3", "127.0.1.4"]).await;
}

#[test]
fn changes_of_members_print_what_etcdctl_prints() {
    run(Target::Real, compare_all);
}

#[test]
fn changes_of_our_own_members_print_the_same() {
    run(Target::Binary, compare_all);
}

#[test]
fn a_new_member_is_told_how_to_start() {
    run(Target::Real, async |member: Member| {
        let said =
            ask(&ours(), member.client_url(), "member add new --learner --peer-urls=http://127.0.0.1:11");
        let lines: Vec<&str> = said.output.lines().collect();
        assert_eq!(lines[1..3], ["", "ETCD_NAME=\"new\""]);
        let cluster = lines[3].strip_prefix("ETCD_INITIAL_CLUSTER=\"").unwrap().trim_end_matches('"');
        let mut members: Vec<&str> = cluster.split(',').collect();
        members.sort_unstable();
        let old = format!("default={}", member.peer_url());
        assert_eq!(members, [old.as_str(), "new=http://127.0.0.1:11"]);
        let rest = [
            "ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://127.0.0.1:11\"",
            "ETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        ];
        assert_eq!(lines[4..], rest);
    });
}

#[test]
fn formats_that_a_change_does_not_have_are_refused_when_it_is_done() {
    run(Target::Real, async |member: Member| {
        let line = "member add new --learner --peer-urls=http://127.0.0.1:11 -w table";
        let said = ask(&ours(), member.client_url(), line);
        assert_eq!(said.error, "Error: table not supported as output format");
        assert_eq!((said.code, said.output.as_str()), (Some(4), ""));
        id(&member, "http://127.0.0.1:11").await;
    });
}

async fn move_leadership(target: Target) {
    let cluster = Cluster::start(target).await;
    // As an etcdctl before 3.5 takes them: given URLs, it asks about single members under a name that is no HTTP authority,
    // which a server of ours refuses and a real one overlooks.
    let urls: Vec<String> =
        cluster.client_urls().iter().map(|url| url.trim_start_matches("http://").to_owned()).collect();
    let everybody = urls.join(",");
    for program in [theirs(), ours()] {
        let (from, to) = (cluster.leader().await, cluster.follower().await);
        let (from_id, to_id) = (cluster.id(from).await, cluster.id(to).await);
        let said = ask(&program, &everybody, &format!("move-leader {to_id:x}"));
        assert_eq!(
            said.output,
            format!("Leadership transferred from {from_id:x} to {to_id:x}\n"),
            "{said:?}"
        );
        assert_eq!(cluster.leader_other_than(from).await, to);
    }
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let target = cluster.id(follower).await;
    for (endpoint, target) in [(follower, target), (leader, 1)] {
        let line = format!("move-leader {target:x}");
        let [ours, theirs] = [ours(), theirs()].map(|program| ask(&program, &urls[endpoint], &line));
        assert_eq!(ours, theirs);
    }
}

#[test]
fn the_leadership_moves_as_with_etcdctl() {
    run_alone(move_leadership(Target::Real));
}

#[test]
fn the_leadership_of_our_own_cluster_moves_too() {
    run_alone(move_leadership(Target::Binary));
}
