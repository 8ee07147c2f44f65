//! Coordinators with one etcd: a takeover, a leader that slept through its lease, and etcd itself
//! gone in the middle of a release.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use weir_tests::fleet::release::{SERVICE, at, hold, served, shifts, short, small_lab, unbroken};
use weir_tests::fleet::{Coordinator, Fleet};
use weir_tests::identity::Version::{Blue, Canary, Green};
use weir_tests::lab::addresses::{Family, backend};
use weir_tests::lab::spec::Protocol;
use weir_tests::ledger::etcd::Etcd;

const LIMIT: Duration = Duration::from_secs(60);

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 10%
      - pause: { duration: 6s }
      - setWeight: 50%
      - pause: { duration: 2s }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

/// Three agents with the service.
fn fleet() -> Fleet {
    let fleet = Fleet::start(3, small_lab(), &[]).unwrap();
    let spec = fleet.lab().service(SERVICE, at(0), Protocol::Tcp);
    fleet.apply(&[spec]).unwrap();
    fleet
}

fn coordinator(fleet: &Fleet, etcd: &Etcd, name: &str) -> Coordinator {
    let arguments = arguments(fleet, etcd, name);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Coordinator::start(fleet.directory(), name, &arguments).unwrap()
}

fn arguments(fleet: &Fleet, etcd: &Etcd, name: &str) -> [String; 8] {
    let (agents, endpoint) = (fleet.agents_file().unwrap(), etcd.endpoint());
    let agents = agents.to_str().unwrap();
    ["--agents", agents, "--etcd", &endpoint, "--etcd-lease", "2s", "--name", name]
        .map(str::to_owned)
}

fn run(fleet: &Fleet, coordinator: &Coordinator, spec: &str) {
    let file = fleet.write("rollout.yaml", spec).unwrap();
    coordinator.rollout(&["run", "--detach", file.to_str().unwrap()]).unwrap();
}

fn waiting(rollout: &Value) -> bool {
    rollout["phase"] == "progressing" && rollout["activity"] == "waiting"
}

/// The leader sleeps past its lease while another leads: when it wakes, it changes nothing.
#[test]
fn a_leader_that_slept_is_overtaken_and_each_effect_happens_once() {
    let etcd = Etcd::start().unwrap();
    let fleet = fleet();
    let load = fleet.load(|lab| short(lab, 100)).unwrap();
    let long = hold(&fleet).unwrap();
    let first = coordinator(&fleet, &etcd, "first");
    run(&fleet, &first, SPEC);
    first.wait(SERVICE, LIMIT, waiting).unwrap();
    let second = coordinator(&fleet, &etcd, "second");
    second.wait(SERVICE, LIMIT, waiting).unwrap();

    first.signal(Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let leads = |one: &Value| one["held"] == "" && one["leader"] == "second";
    let taken = second.wait(SERVICE, LIMIT, leads).unwrap();
    println!("taken over after {:.1?} in step {}", stopped.elapsed(), taken["step"]);
    assert_eq!(taken["step"], 1, "it goes on where the first one was");
    sleep(Duration::from_secs(1));
    first.signal(Signal::SIGCONT).unwrap();
    second.wait_for(SERVICE, "healthy", LIMIT).unwrap();
    first.wait_for(SERVICE, "healthy", LIMIT).unwrap();
    println!("{}", second.rollout(&["history", SERVICE]).unwrap());
    for place in 0..3 {
        let shifts = shifts(&fleet, place).unwrap();
        println!("{shifts:#?}");
        assert_eq!(shifts.len(), 3, "10, 50 and 100 %: {shifts:#?}");
        assert!(shifts.values().all(|times| *times == 1), "{shifts:#?}");
    }
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// Without etcd the weights hold; an abort works all the same, and is known when etcd is back.
#[test]
fn without_etcd_weights_hold_and_abort_works() {
    let mut etcd = Etcd::start().unwrap();
    let fleet = fleet();
    let load = fleet.load(|lab| short(lab, 100)).unwrap();
    let long = hold(&fleet).unwrap();
    let only = coordinator(&fleet, &etcd, "only");
    run(&fleet, &only, SPEC);
    only.wait(SERVICE, LIMIT, waiting).unwrap();
    etcd.kill().unwrap();
    // Longer than the pause: nothing advances.
    sleep(Duration::from_secs(8));
    assert_eq!(fleet.weights(SERVICE, Canary).unwrap(), [1_000; 3], "the weights hold");
    let held = only.get(SERVICE).unwrap();
    println!("held: {}", held["held"]);
    assert_ne!(held["held"], "");

    let asked = Instant::now();
    only.rollout(&["abort", SERVICE, "--why", "etcd is gone"]).unwrap();
    while fleet.weights(SERVICE, Blue).unwrap() != [10_000; 3] {
        assert!(asked.elapsed() < LIMIT, "{}", only.log_tail());
    }
    println!("aborted without etcd in {:.1?}", asked.elapsed());
    etcd.restart().unwrap();
    let rollout = only.wait_for(SERVICE, "degraded", LIMIT).unwrap();
    let known = |one: &Value| one["held"] == "";
    only.wait(SERVICE, LIMIT, known).unwrap();
    println!("{rollout:#}\n{}", only.rollout(&["history", SERVICE]).unwrap());
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// The network between them loses whatever etcd says: the weights hold, an abort works, and both are
/// of one mind when the network is whole again.
#[test]
fn cut_off_from_etcd_weights_hold_and_abort_works() {
    let fleet = fleet();
    let green = fleet.lab().version(Green);
    let etcd = Etcd::start_in(green, backend(Family::V4, Green, 0)).unwrap();
    let long = hold(&fleet).unwrap();
    let arguments = arguments(&fleet, &etcd, "far");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let clients = fleet.lab().clients();
    let far = Coordinator::start_in(clients, fleet.directory(), "far", &arguments).unwrap();
    far.leads().unwrap();
    run(&fleet, &far, SPEC);
    far.wait(SERVICE, LIMIT, waiting).unwrap();
    let lost = Family::V4.clients();
    green.ip(&[format!("route add blackhole {lost}")]).unwrap();
    sleep(Duration::from_secs(8));
    assert_eq!(fleet.weights(SERVICE, Canary).unwrap(), [1_000; 3], "the weights hold");
    let held = far.get(SERVICE).unwrap();
    println!("held: {}", held["held"]);
    assert_ne!(held["held"], "");

    let asked = Instant::now();
    far.rollout(&["abort", SERVICE, "--why", "etcd is cut off"]).unwrap();
    while fleet.weights(SERVICE, Blue).unwrap() != [10_000; 3] {
        assert!(asked.elapsed() < LIMIT, "{}", far.log_tail());
    }
    println!("aborted without etcd in {:.1?}", asked.elapsed());
    green.ip(&[format!("route del blackhole {lost}")]).unwrap();
    far.wait_for(SERVICE, "degraded", LIMIT).unwrap();
    far.wait(SERVICE, LIMIT, |one| one["held"] == "").unwrap();
    let history = far.rollout(&["history", SERVICE]).unwrap();
    println!("{history}");
    assert!(history.contains("etcd is cut off"), "{history}");
    unbroken(&long).unwrap();
}

/// etcd is away for a moment: it goes on where it was.
#[test]
fn etcd_that_comes_back_is_gone_on_with() {
    let mut etcd = Etcd::start().unwrap();
    let fleet = fleet();
    let only = coordinator(&fleet, &etcd, "only");
    run(&fleet, &only, SPEC);
    only.wait(SERVICE, LIMIT, waiting).unwrap();
    etcd.kill().unwrap();
    sleep(Duration::from_secs(4));
    etcd.restart().unwrap();
    only.wait_for(SERVICE, "healthy", LIMIT).unwrap();
    assert_eq!(shifts(&fleet, 0).unwrap().len(), 3);
    assert!(shifts(&fleet, 0).unwrap().values().all(|times| *times == 1));
}
