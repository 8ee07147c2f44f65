//! Clocks that jump an hour ahead and an hour back in the middle of a release: the coordinator's, and an
//! agent's.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use weir_tests::agent;
use weir_tests::fleet::clock::FakeClock;
use weir_tests::fleet::release::{SERVICE, served, small_lab, unbroken};
use weir_tests::fleet::{Fleet, Release};
use weir_tests::identity::Version::Canary;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600;
/// How long each step lasts.
const STEP: Duration = Duration::from_secs(8);
/// When a step was seen to begin, it may have begun so long ago.
const LATE: Duration = Duration::from_secs(2);

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 10%
      - pause: { duration: 8s }
      - setWeight: 40%
      - analysis: { minDuration: 8s, maxDuration: 8s }
analysis: { metrics: [connectSuccess, earlyReset], minSamples: 50 }
agents: { lease: { ttl: 6s, onExpiry: revert } }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

/// The coordinator begins again, by a clock that can be set.
fn faked_coordinator(release: &mut Release) -> FakeClock {
    let clock = FakeClock::new(release.fleet.directory(), "clock").unwrap();
    release.coordinator.signal(Signal::SIGKILL).unwrap();
    let command = clock.command(&agent::binary().unwrap());
    release.coordinator = Release::coordinator_by(command, &release.fleet, "faked", &[]).unwrap();
    release.coordinator.leads().unwrap();
    clock
}

/// The first agent begins again, likewise.
fn faked_agent(release: &mut Release) -> FakeClock {
    let clock = FakeClock::new(release.fleet.directory(), "clock").unwrap();
    let first = &mut release.fleet.members_mut()[0];
    first.kill().unwrap();
    for (name, value) in clock.environment() {
        first.environment(name, &value);
    }
    first.restart().unwrap();
    clock
}

/// The kinds of events that an agent has of the service.
fn kinds(fleet: &Fleet, place: usize) -> Vec<String> {
    let events = fleet.members()[place].lab().weir(&["events", SERVICE, "-o", "json"]).unwrap();
    let events: Value = serde_json::from_str(&events).unwrap();
    let kinds = events["events"].as_array().unwrap().iter();
    kinds.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

/// Whether the rollout does that in a step.
fn does(step: u64, activity: &'static str) -> impl Fn(&Value) -> bool {
    move |one| one["step"] == step && one["activity"] == activity
}

/// Waits until a step is over that is to last [`STEP`]: no less, nor for ever.
fn lasts(release: &Release, step: u64, activity: &'static str, meanwhile: impl FnOnce()) {
    let began = Instant::now();
    meanwhile();
    let beyond = |one: &Value| one["step"].as_u64() > Some(step) || one["phase"] != "progressing";
    let after = release.coordinator.wait(SERVICE, LIMIT, beyond).unwrap();
    let took = began.elapsed();
    println!("{activity} took {took:.1?}, then {}: {}", after["phase"], after["reason"]);
    assert!(after["step"].as_u64() > Some(step), "{after:#}");
    assert!(took + LATE > STEP, "{took:?}");
}

/// The coordinator's clock: neither is a step shorter, nor does anything hang, nor is an agent away that
/// was gone for a moment.
#[test]
fn a_coordinator_whose_clock_jumps_takes_its_time() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let clock = faked_coordinator(&mut release);
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let began = release.run(SPEC).unwrap();

    release.coordinator.wait(SERVICE, LIMIT, does(1, "waiting")).unwrap();
    lasts(&release, 1, "waiting", || {
        sleep(Duration::from_secs(2));
        clock.set(HOUR).unwrap();
    });
    release.coordinator.wait(SERVICE, LIMIT, does(3, "analyzing")).unwrap();
    lasts(&release, 3, "analyzing", || {
        sleep(Duration::from_secs(2));
        clock.set(-HOUR).unwrap();
    });
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [10_000; 3]);
    for place in 0..3 {
        let kinds = kinds(&release.fleet, place);
        assert!(!kinds.contains(&"lease-expired".to_owned()), "{kinds:?}");
    }
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// An agent that is gone for a moment when the coordinator's clock jumps ahead is not away; and one that
/// is, after it has jumped back, is.
#[test]
fn silence_is_not_measured_by_a_clock_that_jumps() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let clock = faked_coordinator(&mut release);
    let load = release.load(100).unwrap();
    let spec =
        SPEC.replace("duration: 8s", "duration: 1h").replace("onExpiry: revert", "onExpiry: hold");
    let began = release.run(&spec).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, does(1, "waiting")).unwrap();

    release.fleet.members_mut()[1].kill().unwrap();
    let lost = |one: &Value| one["agents"][1]["reachable"] == false;
    release.coordinator.wait(SERVICE, LIMIT, lost).unwrap();
    clock.set(HOUR).unwrap();
    sleep(Duration::from_millis(1_500));
    let rollout = release.coordinator.get(SERVICE).unwrap();
    assert_eq!(rollout["phase"], "progressing", "{}", rollout["reason"]);
    release.fleet.members_mut()[1].restart().unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| !lost(one)).unwrap();

    release.fleet.members_mut()[1].kill().unwrap();
    release.coordinator.wait(SERVICE, LIMIT, lost).unwrap();
    clock.set(-HOUR).unwrap();
    release.coordinator.wait_for(SERVICE, "paused", Duration::from_secs(15)).unwrap();
    release.fleet.members_mut()[1].restart().unwrap();
    release.coordinator.wait_for(SERVICE, "progressing", LIMIT).unwrap();
    release.coordinator.rollout(&["promote", SERVICE]).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    drop(load);
}

/// An agent's clock: its lease ends by the time that has passed, and the judge goes on hearing of it.
#[test]
fn an_agent_whose_clock_jumps_keeps_its_lease_and_counts_on() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let clock = faked_agent(&mut release);
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    release.run(SPEC).unwrap();

    release.coordinator.wait(SERVICE, LIMIT, does(1, "waiting")).unwrap();
    lasts(&release, 1, "waiting", || {
        sleep(Duration::from_secs(2));
        clock.set(HOUR).unwrap();
        sleep(Duration::from_secs(2));
        assert_eq!(release.weights(Canary).unwrap(), [1_000; 3], "the lease holds");
    });
    release.coordinator.wait(SERVICE, LIMIT, does(3, "analyzing")).unwrap();
    clock.set(-HOUR).unwrap();
    lasts(&release, 3, "analyzing", || {});
    let kinds = kinds(&release.fleet, 0);
    assert!(!kinds.contains(&"lease-expired".to_owned()), "{kinds:?}");
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// A lease ends in its time although the agent's clock has jumped back.
#[test]
fn a_lease_ends_although_the_clock_has_jumped_back() {
    let mut release = Release::start(1, small_lab(), &[]).unwrap();
    let clock = faked_agent(&mut release);
    release.run(&SPEC.replace("duration: 8s", "duration: 1h")).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, does(1, "waiting")).unwrap();
    let Release { coordinator, fleet } = release;
    coordinator.kill().unwrap();
    clock.set(-HOUR).unwrap();
    let began = Instant::now();
    while fleet.weights(SERVICE, Canary).unwrap() != [0] {
        assert!(began.elapsed() < Duration::from_secs(12), "the lease of 6 s does not end");
        sleep(Duration::from_millis(200));
    }
    println!("the lease ended {:.1?} after the coordinator", began.elapsed());
}
