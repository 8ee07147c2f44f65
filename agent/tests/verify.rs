//! `--verify` as a user meets it: what it says, how long it waits, and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use common::{FakeAgent, refused::FILE};
use serde_json::Value;
use weir::{model::SpecFile, node::messages::ChangeOptions};

/// An agent that has the services of [`FILE`], and observes so many new connections.
async fn agent(observed: [u64; 3]) -> FakeAgent {
    let agent = FakeAgent::start();
    let services = SpecFile::parse(FILE).unwrap().services;
    agent.client().await.apply(&services, &ChangeOptions::default()).await.unwrap();
    agent.plant(observed);
    agent
}

/// Exit code, standard output and standard error.
fn weir(agent: &FakeAgent, arguments: &str) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .env("WEIR_SOCKET", &agent.socket)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shares_that_agree_are_verified_at_once() {
    let agent = agent([7_500, 0, 2_500]).await;
    let (code, stdout, stderr) = weir(&agent, "shift shop canary=25% --verify");
    assert_eq!((code, stderr.as_str()), (0, ""));
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("shop: verified in "), "{last}");
    assert!(
        last.ends_with("10 000 new connections, blue 75.00% of 75.00%, canary 25.00% of 25.00%"),
        "{last}"
    );
    assert!(stdout.contains("committed as generation 2"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shares_that_differ_fail_before_the_time_is_over() {
    let agent = agent([9_500, 0, 500]).await;
    let began = Instant::now();
    let (code, stdout, stderr) = weir(&agent, "shift shop canary=25% --verify=60s");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(code, 5, "{stderr}");
    assert!(stdout.contains("committed as generation 2"), "{stdout}");
    assert!(stderr.contains("committed, but new connections are not shared"), "{stderr}");
    assert!(stderr.contains("canary 5.00% of 25.00%"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn too_few_connections_are_waited_for_and_then_told() {
    let agent = agent([30, 0, 10]).await;
    let began = Instant::now();
    let (code, _, stderr) = weir(&agent, "shift shop canary=25% --verify=400ms");
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!(code, 6, "{stderr}");
    assert!(stderr.contains("40 new connections in"), "{stderr}");
    assert!(stderr.contains("are too few to tell; it takes 160"), "{stderr}");
}

/// Those that come while it waits count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_come_meanwhile_are_seen() {
    let agent = agent([0, 0, 0]).await;
    let child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .env("WEIR_SOCKET", &agent.socket)
        .args(["shift", "shop", "canary=50%", "--verify=30s", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    agent.plant([510, 0, 490]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verified = &answer["verified"][0];
    assert_eq!(verified["service"], "shop");
    assert_eq!(verified["outcome"], "agrees");
    assert_eq!(verified["sample_ratio"]["connections"], 1_000);
    assert!(answer["changes"][0]["digest"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rollbacks_are_verified_too() {
    let agent = agent([950, 0, 50]).await;
    assert_eq!(weir(&agent, "shift shop canary=25%").0, 0);
    let (code, stdout, stderr) = weir(&agent, "rollback shop --verify");
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("shop: verified in "), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dry_run_has_nothing_to_verify() {
    let agent = agent([1, 0, 1]).await;
    for usage in ["shift shop canary=5% --verify --dry-run", "shift shop canary=5% --verify=0s"] {
        assert_eq!(weir(&agent, usage).0, 2, "{usage}");
    }
}
