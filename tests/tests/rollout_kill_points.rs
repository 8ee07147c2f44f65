//! The coordinator is killed at each transition of a release: before it keeps the new state, between
//! that and what follows from it, and right after. The next one goes on, each weight is set exactly
//! once at each agent, and no connection breaks.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weir::fault::Point;
use weir_tests::agent::faulty_binary;
use weir_tests::fleet::release::{SERVICE, served, shifts, small_lab, unbroken};
use weir_tests::fleet::{Coordinator, Fleet, Release};

const LIMIT: Duration = Duration::from_secs(60);
/// Longer than anything that a release waits for.
const QUIET: Duration = Duration::from_secs(12);
const AGENTS: usize = 2;

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 20%
      - pause: { duration: 1s }
      - setWeight: 60%
      - pause: { duration: 1s }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

#[test]
fn killed_before_it_has_kept_the_state() {
    dies_at_each_transition(Point::Ticked);
}

#[test]
fn killed_before_anything_follows_from_it() {
    dies_at_each_transition(Point::Persisted);
}

#[test]
fn killed_when_it_has_told_the_agents() {
    dies_at_each_transition(Point::Ordered);
}

/// A coordinator that ends at the point that the file names, as soon as there is one.
fn coordinator(fleet: &Fleet, name: &str, trigger: &Path) -> Coordinator {
    let mut command = Command::new(faulty_binary().unwrap());
    command.env("WEIR_FAULT", trigger);
    Release::coordinator_by(command, fleet, name, &[]).unwrap()
}

/// Where the release is.
fn place(rollout: &Value) -> [Value; 3] {
    ["phase", "step", "activity"].map(|field| rollout[field].clone())
}

fn dies_at_each_transition(point: Point) {
    let mut release = Release::start(AGENTS, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(50).unwrap(), release.hold().unwrap());
    let trigger = release.fleet.directory().join("fault");
    replace(&mut release, "c0", &trigger);
    release.coordinator.leads().unwrap();
    release.run(SPEC).unwrap();
    let mut kills = Vec::new();
    loop {
        let before = place(&release.coordinator.get(SERVICE).unwrap());
        fs::write(&trigger, point.name()).unwrap();
        let Some(status) = release.coordinator.ends(QUIET).unwrap() else { break };
        assert_eq!(status.signal(), Some(9), "{status}");
        fs::remove_file(&trigger).unwrap();
        kills.push(before.clone());
        replace(&mut release, &format!("c{}", kills.len()), &trigger);
        // It goes on where the one before was, unless that had come to the end and only told of it.
        let goes_on = |one: &Value| place(one) != before || one["phase"] == "healthy";
        release.coordinator.wait(SERVICE, LIMIT, goes_on).unwrap();
    }
    println!("killed {} times at {}: {kills:?}", kills.len(), point.name());
    assert_eq!(release.coordinator.get(SERVICE).unwrap()["phase"], "healthy");
    assert!(kills.len() >= 6, "{kills:?}");
    for place in 0..AGENTS {
        let shifts = shifts(&release.fleet, place).unwrap();
        assert_eq!(shifts.len(), 3, "20, 60 and 100 %: {shifts:#?}");
        assert!(shifts.values().all(|times| *times == 1), "{shifts:#?}");
    }
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// Another coordinator in place of this one, which has ended or is ended now.
fn replace(release: &mut Release, name: &str, trigger: &Path) {
    let next = coordinator(&release.fleet, name, trigger);
    let old = std::mem::replace(&mut release.coordinator, next);
    old.kill().unwrap();
}
