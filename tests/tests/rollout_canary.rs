//! Canary releases from start to end: three agents in the lab, real backends, real connections.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use serde_json::Value;
use weir_tests::fleet::Release;
use weir_tests::fleet::release::{SERVICE, at, served, short, small_lab, unbroken};
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{Family, HTTP_PORT};
use weir_tests::load::fresh::{Fresh, FreshPlan};

const LIMIT: Duration = Duration::from_secs(60);

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWave: { agents: 33% }
      - setWeight: 10%
      - analysis: { minDuration: 2s, maxDuration: 4s }
      - setWave: { agents: 100% }
      - setWeight: 50%
      - analysis: { minDuration: 2s, maxDuration: 4s }
analysis: { metrics: [connectSuccess, earlyReset], minSamples: 50 }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

/// By step: the canary's weights on the agents while it ran.
fn weights(rollout: &Value) -> Vec<u64> {
    let agents = rollout["agents"].as_array().unwrap();
    let canary = |agent: &Value| {
        let versions = agent["versions"].as_array().unwrap();
        let canary = versions.iter().find(|one| one["version"] == "canary").unwrap();
        canary["weight_bp"].as_u64().unwrap()
    };
    agents.iter().map(canary).collect()
}

/// From one agent to three, from 10 % to everything, and no connection breaks.
#[test]
fn a_good_canary_gets_everything_wave_by_wave() {
    let release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(200).unwrap(), release.hold().unwrap());
    let began = release.run(SPEC).unwrap();
    let first = release
        .coordinator
        .wait(SERVICE, LIMIT, |rollout| rollout["activity"] == "analyzing")
        .unwrap();
    assert_eq!(weights(&first), [1_000, 0, 0], "the first wave is one of three: {first:#}");
    let during = release.long_lived(100).unwrap();
    let second = release
        .coordinator
        .wait(SERVICE, LIMIT, |one| one["step"] == 5 && one["activity"] == "analyzing")
        .unwrap();
    assert_eq!(weights(&second), [5_000; 3], "{second:#}");
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(release.weights(Version::Canary).unwrap(), [10_000; 3]);
    served(load).unwrap();
    unbroken(&long).unwrap();
    unbroken(&during).unwrap();
}

/// A canary that refuses everybody goes at once, everywhere, and nobody else notices.
#[test]
fn a_canary_that_refuses_is_taken_back() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(200).unwrap(), release.hold().unwrap());
    for member in release.fleet.members_mut() {
        member.lab_mut().stop_servers(Version::Canary);
    }
    let began = release.run(SPEC).unwrap();
    release.ends("v2", "degraded", began, LIMIT).unwrap();
    assert_eq!(release.weights(Version::Canary).unwrap(), [0; 3]);
    let harmed: u64 = load.into_iter().map(|load| load.stop().unwrap().failed()).sum();
    println!("{harmed} connections were harmed");
    unbroken(&long).unwrap();
}

/// One client alone sees the canary, while its weight is nothing.
#[test]
fn only_clients_of_one_prefix_see_the_canary() {
    let release = Release::start(1, small_lab(), &[]).unwrap();
    let lab = release.fleet.lab();
    let all = lab.client_addresses(Family::V4);
    let chosen = all[0];
    let spec = format!(
        "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setMatchRoute: {{ sources: [{chosen}/32], to: canary }}
      - pause: {{}}
      - setWeight: 50%
bake: 1s
drain: {{ idle: 1s, timeout: 2s }}
"
    );
    let began = release.run(&spec).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "waiting").unwrap();
    let plan = |clients| FreshPlan { clients, ..short(lab, 200) }.count(200);
    let [own, others] = [vec![chosen], all[1..].to_vec()]
        .map(|clients| Fresh::start(lab.clients(), plan(clients)).unwrap().finish().unwrap());
    println!("the chosen client: {own}\nthe others: {others}");
    assert_eq!(own.by_version(), [0, 0, 200]);
    assert_eq!(others.by_version(), [200, 0, 0]);
    release.coordinator.rollout(&["promote", SERVICE]).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    let after = release.fleet.status(0, SERVICE).unwrap();
    assert!(after.spec.steering.is_empty(), "the rule goes with the rollout: {after:?}");
    assert_eq!(at(HTTP_PORT).port(), HTTP_PORT);
}
