//! Canary releases from start to end: agents in the lab, real backends, real connections.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::fleet::{Coordinator, Fleet};
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 10%
      - analysis: { minDuration: 2s, maxDuration: 20s, advanceEarly: true }
      - setWeight: 50%
      - analysis: { minDuration: 2s, maxDuration: 20s, advanceEarly: true }
analysis: { metrics: [connectSuccess, earlyReset], minSamples: 50 }
bake: 1s
drain: { idle: 1s, timeout: 3s }
";

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

/// So many agents with the services `web` and `echo`, everything on blue.
fn fleet(agents: usize) -> Fleet {
    let lab = LabBuilder::new().families(&[Family::V4]).clients(100);
    let fleet = Fleet::start(agents, lab, &[]).unwrap();
    let lab = fleet.lab();
    let drain = "drain: { idle: 1s }";
    let web = lab.service("web", at(HTTP_PORT), Protocol::Tcp).with(drain);
    let echo = lab.service("echo", at(ECHO_PORT), Protocol::Tcp).with(drain);
    fleet.apply(&[web, echo]).unwrap();
    fleet
}

fn coordinator(fleet: &Fleet) -> Coordinator {
    let agents = fleet.agents_file().unwrap();
    let state = fleet.directory().join("rollouts");
    let arguments = ["--agents", agents.to_str().unwrap(), "--state", state.to_str().unwrap()];
    Coordinator::start(fleet.directory(), "coordinator", &arguments).unwrap()
}

fn fresh(lab: &Lab) -> FreshPlan {
    FreshPlan::new(at(HTTP_PORT), lab.client_addresses(Family::V4)).rate(400).close(Close::Reset)
}

fn run(fleet: &Fleet, coordinator: &Coordinator, spec: &str) -> Instant {
    let file = fleet.write("rollout.yaml", spec).unwrap();
    coordinator.rollout(&["run", "--detach", file.to_str().unwrap()]).unwrap();
    Instant::now()
}

/// What happened, for whoever reads a test's output.
fn show(coordinator: &Coordinator, rollout: &Value, began: Instant) {
    let took = began.elapsed();
    println!("{} after {took:.1?}: {}", rollout["phase"], rollout["reason"]);
    println!("{}", coordinator.rollout(&["get", "web"]).unwrap());
    println!("{}", coordinator.rollout(&["history", "web"]).unwrap());
}

#[test]
fn a_good_canary_gets_everything() {
    let fleet = fleet(1);
    let coordinator = coordinator(&fleet);
    let load = fleet.load(fresh).unwrap();
    let began = run(&fleet, &coordinator, SPEC);
    let rollout = coordinator.wait_for("web", "healthy", Duration::from_secs(60)).unwrap();
    show(&coordinator, &rollout, began);
    assert_eq!(fleet.weights("web", Version::Canary).unwrap(), [10_000]);
    for load in load {
        load.stop().unwrap().check().unwrap();
    }
}

#[test]
fn a_canary_that_refuses_is_taken_back() {
    let mut fleet = fleet(1);
    let coordinator = coordinator(&fleet);
    let load = fleet.load(fresh).unwrap();
    fleet.members_mut()[0].lab_mut().stop_servers(Version::Canary);
    let began = run(&fleet, &coordinator, SPEC);
    let rollout = coordinator.wait_for("web", "degraded", Duration::from_secs(60)).unwrap();
    show(&coordinator, &rollout, began);
    assert_eq!(fleet.weights("web", Version::Canary).unwrap(), [0]);
    drop(load);
}
