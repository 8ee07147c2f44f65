//! Coordinators that die, sleep and are cut off, in the middle of a release.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir_tests::fleet::release::{SERVICE, served, shifts, small_lab, unbroken};
use weir_tests::fleet::{Coordinator, Release};
use weir_tests::identity::Version::{Blue, Canary};
use weir_tests::random::Random;

const LIMIT: Duration = Duration::from_secs(90);

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 10%
      - pause: { duration: 2s }
      - setWeight: 40%
      - pause: { duration: 2s }
      - setWeight: 70%
      - pause: { duration: 2s }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

/// Killed again and again at any moment, the next one goes on: each weight is set exactly once.
#[test]
fn killed_at_random_moments_each_effect_happens_once() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let began = release.run(SPEC).unwrap();
    let (mut random, mut kills) = (Random(7), 0);
    loop {
        sleep(Duration::from_millis(200 + random.below(1_300) as u64));
        let rollout = release.coordinator.get(SERVICE).unwrap();
        if rollout["phase"] == "healthy" || kills == 12 {
            break;
        }
        println!("killed in step {} {}", rollout["step"], rollout["activity"]);
        kills += 1;
        let next = Release::coordinator(&release.fleet, &format!("c{kills}"), &[]);
        // The one before is killed only now: the next one waits for its lock.
        let old = std::mem::replace(&mut release.coordinator, next.unwrap());
        old.kill().unwrap();
        let told = |one: &serde_json::Value| !one["revision"].as_str().unwrap().is_empty();
        release.coordinator.wait(SERVICE, LIMIT, told).unwrap();
    }
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    for place in 0..3 {
        let shifts = shifts(&release.fleet, place).unwrap();
        println!("{shifts:#?}");
        assert_eq!(shifts.len(), 4, "10, 40, 70 and 100 %: {shifts:#?}");
        assert!(shifts.values().all(|times| *times == 1), "{shifts:#?}");
    }
    served(load).unwrap();
    unbroken(&long).unwrap();
    assert!(kills >= 4, "{kills}");
}

/// With the coordinator gone, the agents can be told directly.
#[test]
fn abort_works_without_a_coordinator() {
    let release = Release::start(3, small_lab(), &[]).unwrap();
    let long = release.hold().unwrap();
    release.run(&SPEC.replace("duration: 2s", "duration: 1h")).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "waiting").unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [1_000; 3]);
    let Release { coordinator, fleet } = release;
    let (socket, agents) = (coordinator.socket().to_owned(), fleet.agents_file().unwrap());
    coordinator.kill().unwrap();
    let began = Instant::now();
    let arguments = ["abort", SERVICE, "--to", "blue", "--agents", agents.to_str().unwrap()];
    let output = weir_tests::fleet::coordinator::output(&socket, &arguments).unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("aborted without a coordinator in {:.1?}", began.elapsed());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fleet.weights(SERVICE, Blue).unwrap(), [10_000; 3]);
    unbroken(&long).unwrap();
}

/// An agent that is lost in the middle of a step is led to where it belongs when it is back.
#[test]
fn an_agent_that_is_lost_and_returns_is_led_on() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let spec = SPEC.replace("bake: 1s", "bake: 1s\nagents: { unreachable: { maxPercent: 50 } }");
    let began = release.run(&spec).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "waiting").unwrap();
    release.fleet.members_mut()[1].kill().unwrap();
    let third = |one: &serde_json::Value| one["step"].as_u64() >= Some(3);
    let lost = release.coordinator.wait(SERVICE, LIMIT, third).unwrap();
    assert_eq!(lost["agents"][1]["reachable"], false, "{lost:#}");
    release.fleet.members_mut()[1].restart().unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [10_000; 3]);
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// A leader that sleeps past its time wakes up as one that leads no longer, and changes nothing.
#[test]
fn a_leader_that_was_stopped_changes_nothing_when_it_wakes() {
    let release = Release::start(3, small_lab(), &[]).unwrap();
    let load = release.load(100).unwrap();
    let second: Coordinator = Release::coordinator(&release.fleet, "second", &[]).unwrap();
    let began = release.run(SPEC).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "waiting").unwrap();
    release.coordinator.signal(Signal::SIGSTOP).unwrap();
    sleep(Duration::from_secs(3));
    // Of one host: the file's lock is the stopped one's until it ends, so nobody leads meanwhile.
    assert_eq!(second.get(SERVICE).unwrap()["held"], "this coordinator follows");
    assert_eq!(release.weights(Canary).unwrap(), [1_000; 3], "the weights hold");
    release.coordinator.signal(Signal::SIGCONT).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(shifts(&release.fleet, 0).unwrap().len(), 4);
    served(load).unwrap();
}
