//! `weir rollout` without a coordinator, as on a single host: plan, run, status, explain, history,
//! replay; with exit codes.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use weir_tests::agent::{binary, socket};
use weir_tests::fleet::Fleet;
use weir_tests::fleet::release::{SERVICE, at, served, short, small_lab};
use weir_tests::identity::Version::{Blue, Canary};
use weir_tests::lab::spec::Protocol;

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 20%
      - analysis: { minDuration: 2s, maxDuration: 3s }
      - gate: { type: manual, timeout: 1h, onTimeout: abort }
analysis: { metrics: [connectSuccess, earlyReset], minSamples: 50 }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

/// One agent with the service.
fn fleet() -> Fleet {
    let fleet = Fleet::start(1, small_lab(), &[]).unwrap();
    let spec = fleet.lab().service(SERVICE, at(0), Protocol::Tcp);
    fleet.apply(&[spec]).unwrap();
    fleet
}

/// `weir rollout ARGUMENTS…` on this host.
fn command(fleet: &Fleet, arguments: &[&str]) -> Command {
    let directory = fleet.directory();
    let mut command = Command::new(binary().unwrap());
    command.arg("--socket").arg(socket(fleet.lab())).arg("rollout").args(arguments);
    command.env("WEIR_COORDINATOR", directory.join("coordinator.sock"));
    command.env("WEIR_ROLLOUTS", directory.join("rollouts")).stdin(Stdio::null());
    command
}

fn weir(fleet: &Fleet, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(fleet, arguments).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    println!("$ weir rollout {}: {status}\n{stdout}{stderr}", arguments.join(" "));
    (status.code().unwrap(), stdout, stderr)
}

fn json(fleet: &Fleet, arguments: &[&str]) -> Value {
    let (_, stdout, _) = weir(fleet, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&stdout).unwrap()
}

/// Waits until the rollout is as `done` says.
fn wait(fleet: &Fleet, done: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let output = command(fleet, &["get", SERVICE, "-o", "json"]).output().unwrap();
        if serde_json::from_slice(&output.stdout).is_ok_and(|rollout: Value| done(&rollout)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(40), "{output:?}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn one_host_releases_by_itself() {
    let fleet = fleet();
    let load = fleet.load(|lab| short(lab, 300)).unwrap();
    let file = fleet.write("rollout.yaml", SPEC).unwrap();
    let file = file.to_str().unwrap();

    // Before: what is wrong has a line, what is right has a plan.
    let wrong = fleet.write("wrong.yaml", &SPEC.replace("setWeight: 20%", "setWait: 20%")).unwrap();
    let (code, _, stderr) = weir(&fleet, &["lint", wrong.to_str().unwrap()]);
    assert_eq!(code, 4);
    assert!(stderr.contains("line 7, column"), "{stderr}");
    assert_eq!(weir(&fleet, &["lint", file]).0, 0);
    assert_eq!(weir(&fleet, &["status", SERVICE]).0, 3, "there is no coordinator");
    weir(&fleet, &["plan", file]);
    let plan = json(&fleet, &["plan", file]);
    assert_eq!(plan["steps"][0]["slots"], 3_277, "20 % of 16384: {plan:#}");
    assert!(plan["steps"][1]["samples_ms"].as_u64().unwrap() > 0, "{plan:#}");
    assert!(plan["traffic"][0]["connections_per_s"].as_f64().unwrap() > 50.0);

    // Held by Ctrl-C, and gone on with.
    let record = fleet.directory().join("record.jsonl");
    let counters = record_counters(&fleet, &record);
    let run = || {
        let log = fs::File::options().create(true).append(true).open(fleet.directory().join("run"));
        command(&fleet, &["run", file]).stdout(log.unwrap()).spawn().unwrap()
    };
    let mut first = run();
    wait(&fleet, |one| one["activity"] == "gate");
    let (code, ..) = weir(&fleet, &["status", SERVICE]);
    assert_eq!(code, 11, "it waits for a person");
    kill(Pid::from_raw(first.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(11));
    assert_eq!(fleet.weights(SERVICE, Canary).unwrap(), [2_000], "the weights hold");
    let mut second = run();
    wait(&fleet, |one| one["activity"] == "gate");
    weir(&fleet, &["explain", SERVICE]);
    weir(&fleet, &["get", SERVICE]);
    assert_eq!(weir(&fleet, &["promote", SERVICE, "--why", "it looks good"]).0, 0);
    assert_eq!(second.wait().unwrap().code(), Some(0), "healthy");
    assert_eq!(fleet.weights(SERVICE, Canary).unwrap(), [10_000]);
    println!("{}", fs::read_to_string(fleet.directory().join("run")).unwrap());

    // Afterwards.
    drop(counters);
    let (code, stdout, _) = weir(&fleet, &["replay", record.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(stdout.contains("connectSuccess"), "{stdout}");
    served(load).unwrap();
}

#[test]
fn a_release_that_fails_ends_with_its_exit_code() {
    let mut fleet = fleet();
    let load = fleet.load(|lab| short(lab, 300)).unwrap();
    fleet.members_mut()[0].lab_mut().stop_servers(Canary);
    let file = fleet.write("rollout.yaml", SPEC).unwrap();
    let (code, stdout, stderr) = weir(&fleet, &["run", file.to_str().unwrap()]);
    assert_eq!(code, 12, "{stdout}{stderr}");
    assert!(stderr.contains("degraded"), "{stderr}");
    assert_eq!(fleet.weights(SERVICE, Blue).unwrap(), [10_000]);
    drop(load);
}

/// Ends the recording when dropped.
struct Recording(std::process::Child);

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record_counters(fleet: &Fleet, to: &Path) -> Recording {
    let mut command = Command::new(binary().unwrap());
    command.arg("--socket").arg(socket(fleet.lab()));
    command.args(["counters", SERVICE, "--watch", "-o", "json"]);
    let file = fs::File::create(to).unwrap();
    Recording(command.stdout(file).stdin(Stdio::null()).spawn().unwrap())
}
