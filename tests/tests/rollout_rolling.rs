//! Rolling releases over six backends, on three agents: drain, replace, wait until well, return.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use weir::model::BackendState;
use weir::model::Version::Blue;
use weir_tests::fleet::Release;
use weir_tests::fleet::release::{SERVICE, small_lab, unbroken};

const LIMIT: Duration = Duration::from_secs(120);
const HEALTH: &str = "health: { type: tcp, port: 80, interval: 200ms, rise: 1, fall: 2 }";

/// A program that replaces backends: it notes each call, and fails for one of them.
fn program(directory: &Path, fails: &str) -> String {
    let (file, log) = (directory.join("replace.sh"), directory.join("replaced.log"));
    let text = format!(
        "#!/bin/sh\n\
         echo \"$WEIR_REVERT $WEIR_BACKEND\" >> {}\n\
         test -n \"$WEIR_REVERT\" || test \"$WEIR_BACKEND\" != \"{fails}\" || {{ echo no image; exit 1; }}\n",
        log.display()
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

/// The calls so far: whether it was to bring back, and the last digit of the backend's address.
fn calls(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("replaced.log")).unwrap();
    let short = |line: &str| line.replace("10.61.0.", "").replace(":0", "").trim().to_owned();
    text.lines().map(short).collect()
}

fn spec(program: &str) -> String {
    format!(
        "\
kind: Rollout
service: web
revision: v2
strategy:
  rolling: {{ maxUnavailable: 1, minReadySeconds: 1, analysis: {{ minDuration: 1s, maxDuration: 2s }} }}
analysis: {{ metrics: [connectSuccess], minSamples: 20 }}
bake: 1s
drain: {{ idle: 1s, timeout: 1s }}
hooks: [{{ stage: replace, command: [{program}] }}]
"
    )
}

/// Whether each backend of blue takes new connections, on every agent.
fn all_active(release: &Release) -> bool {
    (0..3).all(|place| {
        let status = release.fleet.status(place, SERVICE).unwrap();
        status.versions[Blue].backends.iter().all(|one| one.state == BackendState::Active)
    })
}

#[test]
fn six_backends_are_replaced_one_after_the_other() {
    let release = Release::start(3, small_lab().backends(6), &[HEALTH]).unwrap();
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let program = program(release.fleet.directory(), "none");
    let began = release.run(&spec(&program)).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(calls(release.fleet.directory()), ["2", "3", "4", "5", "6", "7"]);
    assert!(all_active(&release));
    for load in load {
        load.stop().unwrap().check().unwrap();
    }
    unbroken(&long).unwrap();
}

#[test]
fn a_replacement_that_fails_at_the_fourth_is_taken_back() {
    let release = Release::start(3, small_lab().backends(6), &[HEALTH]).unwrap();
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let program = program(release.fleet.directory(), "10.61.0.5:0");
    let began = release.run(&spec(&program)).unwrap();
    let rollout = release.ends("v2", "degraded", began, LIMIT).unwrap();
    assert!(rollout["reason"].as_str().unwrap().contains("no image"), "{rollout:#}");
    let calls = calls(release.fleet.directory());
    println!("{calls:?}");
    assert_eq!(calls[..4], ["2", "3", "4", "5"], "the fifth and sixth are left alone");
    let mut back = calls[4..].to_vec();
    back.sort();
    assert_eq!(back, ["1 2", "1 3", "1 4", "1 5"], "each that was touched is brought back");
    assert!(all_active(&release));
    for load in load {
        load.stop().unwrap().check().unwrap();
    }
    unbroken(&long).unwrap();
}
