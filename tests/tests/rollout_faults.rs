//! Releases that go wrong, one fault after the other, on three agents: each with its outcome and the
//! time it took; and long-lived connections through all of it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use weir_tests::fleet::Release;
use weir_tests::fleet::release::{SERVICE, small_lab, unbroken};
use weir_tests::identity::Version::{self, Blue, Canary};
use weir_tests::lab::Lab;
use weir_tests::lab::addresses::Family::V4;

const LIMIT: Duration = Duration::from_secs(80);

fn spec(revision: &str, insufficient: &str) -> String {
    format!(
        "\
kind: Rollout
service: web
revision: {revision}
strategy:
  canary:
    steps:
      - setWeight: 30%
      - analysis: {{ minDuration: 3s, maxDuration: 8s }}
analysis: {{ minSamples: 50, onInsufficientData: {insufficient} }}
verify: {{ timeout: 3s }}
bake: 1s
drain: {{ idle: 1s, timeout: 2s }}
"
    )
}

/// Does something to each lab.
fn each(release: &mut Release, change: impl Fn(&mut Lab)) {
    for member in release.fleet.members_mut() {
        change(member.lab_mut());
    }
}

/// Begins a rollout, does something ill once the canary has weight, and waits for its end.
fn fails(release: &mut Release, revision: &str, ill: impl Fn(&mut Lab)) {
    let began = release.run(&spec(revision, "extend")).unwrap();
    let analyzing =
        |one: &serde_json::Value| one["revision"] == revision && one["activity"] == "analyzing";
    release.coordinator.wait(SERVICE, LIMIT, analyzing).unwrap();
    let healthy_for = began.elapsed();
    each(release, ill);
    release.ends(revision, "degraded", began + healthy_for, LIMIT).unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [0; 3]);
}

#[test]
fn each_fault_is_found_and_taken_back() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(150).unwrap(), release.hold().unwrap());
    assert_eq!(long[0].state().by_version()[1..], [0, 0], "all of them are on blue");

    fails(&mut release, "refusing", |lab| lab.stop_servers(Canary));
    each(&mut release, |lab| lab.start_servers(Canary).unwrap());

    fails(&mut release, "silent", |lab| lab.silence(Canary, V4).unwrap());
    each(&mut release, |lab| lab.unsilence(Canary, V4).unwrap());

    fails(&mut release, "slow", |lab| lab.slow_down(Canary).unwrap());
    each(&mut release, |lab| lab.speed_up(Canary).unwrap());

    fails(&mut release, "dead", |lab| lab.unplug(Canary).unwrap());
    unbroken(&long).unwrap();
    drop(load);
}

#[test]
fn a_canary_that_resets_is_found() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let (load, long) = (release.load(150).unwrap(), release.hold().unwrap());
    let members = release.fleet.members_mut().iter_mut();
    let resetting: Vec<_> =
        members.map(|member| member.lab_mut().reset_all(Canary, V4).unwrap()).collect();
    let began = release.run(&spec("resetting", "extend")).unwrap();
    let rollout = release.ends("resetting", "degraded", began, LIMIT).unwrap();
    let reason = rollout["reason"].as_str().unwrap();
    assert!(reason.contains("earlyReset"), "{reason}");
    unbroken(&long).unwrap();
    drop((load, resetting));
}

/// One backend of the canary is dead: it goes, and the rollout goes on.
#[test]
fn one_bad_backend_is_taken_out() {
    let mut release = Release::start(3, small_lab().backends(3), &[]).unwrap();
    let (load, long) = (release.load(150).unwrap(), release.hold().unwrap());
    each(&mut release, |lab| lab.bury(Canary, V4, 1).unwrap());
    let began = release.run(&spec("one-bad", "extend")).unwrap();
    let rollout = release.ends("one-bad", "healthy", began, LIMIT).unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [10_000; 3]);
    println!("{}", release.coordinator.rollout(&["history", SERVICE]).unwrap());
    println!("{rollout:#}");
    unbroken(&long).unwrap();
    drop(load);
}

/// Both versions get worse together: nobody is blamed, and it goes on when they are well again.
#[test]
fn an_incident_that_both_share_is_waited_for() {
    let mut release = Release::start(3, small_lab(), &[]).unwrap();
    let load = release.load(150).unwrap();
    let spec = spec("incident", "extend").replace("maxDuration: 8s", "maxDuration: 20s");
    let began = release.run(&spec).unwrap();
    release.coordinator.wait(SERVICE, LIMIT, |one| one["activity"] == "analyzing").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let both = |lab: &mut Lab, change: fn(&Lab, Version)| {
        for version in [Blue, Canary] {
            change(lab, version);
        }
    };
    each(&mut release, |lab| both(lab, |lab, one| lab.silence(one, V4).unwrap()));
    release.ends("incident", "paused", began, LIMIT).unwrap();
    each(&mut release, |lab| both(lab, |lab, one| lab.unsilence(one, V4).unwrap()));
    release.ends("incident", "healthy", began, Duration::from_secs(60)).unwrap();
    drop(load);
}

/// Nobody comes: that is no success, and no failure.
#[test]
fn an_idle_service_is_neither_blamed_nor_released() {
    let release = Release::start(3, small_lab(), &[]).unwrap();
    let began = release.run(&spec("idle", "pause")).unwrap();
    let rollout = release.ends("idle", "paused", began, LIMIT).unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [3_000; 3], "{rollout:#}");
    release.coordinator.rollout(&["abort", SERVICE, "--why", "nobody came"]).unwrap();
    release.ends("idle", "degraded", began, LIMIT).unwrap();
}
