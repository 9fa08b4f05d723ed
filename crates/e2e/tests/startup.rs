//! The program as a program: flags, ids, the lines in its log, its data directory.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::PathBuf;
use std::process::{Command, Output};

use api::etcdserverpb as pb;
use e2e::{Member, Target, run};

use etcd_rs_e2e as e2e;

fn program(target: Target) -> PathBuf {
    match target {
        Target::Real => e2e::real_etcd().join("etcd"),
        Target::InProcess | Target::Binary => e2e::programs().server.clone(),
    }
}

/// Runs a server that is expected to end by itself.
fn ends(target: Target, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(program(target)).args(arguments).current_dir(directory.path()).output().unwrap()
}

/// What both say the same way.
fn refuses_what_it_does_not_know(target: Target) {
    let output = ends(target, &["--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-flag"));
    let output = ends(target, &["--listen-client-urls=nonsense"]);
    assert!(!output.status.success());
}

fn tells_its_version(target: Target) {
    for flag in ["--version", "-version"] {
        let output = ends(target, &[flag]);
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.lines().any(|line| line.starts_with("etcd Version: 3.")), "{text}");
    }
    assert!(ends(target, &["--help"]).status.success());
}

/// The ids follow from the advertised peer URL and the token, and those of the defaults are well known.
async fn has_the_well_known_ids(target: Target) {
    let member =
        Member::start_with(target, e2e::Settings { default_peer_url: true, ..Default::default() }).await;
    let header = member.range(e2e::get("a")).await.header.unwrap();
    assert_eq!((header.member_id, header.cluster_id), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
}

/// The line that tools wait for, and the data where it was asked to be.
async fn says_when_it_is_ready(member: Member) {
    let ready =
        async || std::fs::read_to_string(member.log()).unwrap().contains("ready to serve client requests");
    e2e::eventually("the line in the log", async || ready().await.then_some(())).await;
    assert!(member.data_dir().join("member").is_dir());
}

/// etcd's answer to a version question names the version whose API this is.
async fn the_status_names_a_version(member: Member) {
    let status = member.maintenance().status(pb::StatusRequest {}).await.unwrap().into_inner();
    let minor: u32 = status.version.split('.').nth(1).unwrap().parse().unwrap();
    assert!(status.version.starts_with("3.") && minor >= 4, "{}", status.version);
}

macro_rules! on_both {
    ($($test:ident($target:ident) $run:expr;)+) => {$(
        mod $test {
            use super::*;
            #[test]
            fn binary() {
                let $target = Target::Binary;
                $run
            }
            #[test]
            fn real_etcd() {
                let $target = Target::Real;
                $run
            }
        }
    )+};
}

on_both! {
    an_unknown_flag_is_refused(target) refuses_what_it_does_not_know(target);
    the_version_is_told(target) tells_its_version(target);
    the_default_urls_make_the_well_known_ids(target) e2e::run_alone(has_the_well_known_ids(target));
    the_log_says_when_it_is_ready(target) run(target, says_when_it_is_ready);
    a_version_is_named(target) run(target, the_status_names_a_version);
}
