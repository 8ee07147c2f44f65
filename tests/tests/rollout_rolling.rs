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
use weir_tests::fleet::release::{SERVICE, served, small_lab, unbroken};

const LIMIT: Duration = Duration::from_secs(120);
const HEALTH: &str = "health: { type: tcp, port: 80, interval: 200ms, rise: 1, fall: 2 }";

/// A program that replaces backends: it notes when each call begins and ends, and fails for one of them.
fn program(directory: &Path, fails: &str) -> String {
    let (file, log) = (directory.join("replace.sh"), directory.join("replaced.log"));
    let text = format!(
        "#!/bin/sh\n\
         echo \"$WEIR_REVERT $WEIR_BACKEND\" >> {0}\n\
         sleep 0.3\n\
         echo \"end $WEIR_BACKEND\" >> {0}\n\
         test -n \"$WEIR_REVERT\" || test \"$WEIR_BACKEND\" != \"{fails}\" || {{ echo no image; exit 1; }}\n",
        log.display()
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

/// What the program noted, with the last digit of each backend's address for all of it.
fn noted(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("replaced.log")).unwrap();
    let short = |line: &str| line.replace("10.61.0.", "").replace(":0", "").trim().to_owned();
    text.lines().map(short).collect()
}

/// The calls so far: whether it was to bring back, and the backend.
fn calls(directory: &Path) -> Vec<String> {
    noted(directory).into_iter().filter(|line| !line.starts_with("end")).collect()
}

/// The most calls that were under way at a time.
fn most_at_a_time(directory: &Path) -> usize {
    let mut now = 0_usize;
    let count = |line: String| {
        now = if line.starts_with("end") { now - 1 } else { now + 1 };
        now
    };
    noted(directory).into_iter().map(count).max().unwrap()
}

fn spec(program: &str, at_a_time: u32) -> String {
    format!(
        "\
kind: Rollout
service: web
revision: v2
strategy:
  rolling: {{ maxUnavailable: {at_a_time}, minReadySeconds: 1, analysis: {{ minDuration: 1s, maxDuration: 2s }} }}
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
    let began = release.run(&spec(&program, 1)).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(calls(release.fleet.directory()), ["2", "3", "4", "5", "6", "7"]);
    assert!(all_active(&release));
    served(load).unwrap();
    unbroken(&long).unwrap();
}

#[test]
fn a_replacement_that_fails_at_the_fourth_is_taken_back() {
    let release = Release::start(3, small_lab().backends(6), &[HEALTH]).unwrap();
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let program = program(release.fleet.directory(), "10.61.0.5:0");
    let began = release.run(&spec(&program, 1)).unwrap();
    let rollout = release.ends("v2", "degraded", began, LIMIT).unwrap();
    assert!(rollout["reason"].as_str().unwrap().contains("no image"), "{rollout:#}");
    let calls = calls(release.fleet.directory());
    println!("{calls:?}");
    assert_eq!(calls[..4], ["2", "3", "4", "5"], "the fifth and sixth are left alone");
    let mut back = calls[4..].to_vec();
    back.sort();
    assert_eq!(back, ["1 2", "1 3", "1 4", "1 5"], "each that was touched is brought back");
    assert!(all_active(&release));
    served(load).unwrap();
    unbroken(&long).unwrap();
}

/// Two are out at a time, never three, and while one fails the other is brought back with it.
#[test]
fn two_at_a_time_are_replaced_until_one_fails() {
    let release = Release::start(3, small_lab().backends(6), &[HEALTH]).unwrap();
    let (load, long) = (release.load(100).unwrap(), release.hold().unwrap());
    let program = program(release.fleet.directory(), "10.61.0.5:0");
    let began = release.run(&spec(&program, 2)).unwrap();
    let rollout = release.ends("v2", "degraded", began, LIMIT).unwrap();
    assert!(rollout["reason"].as_str().unwrap().contains("no image"), "{rollout:#}");
    let directory = release.fleet.directory();
    assert_eq!(most_at_a_time(directory), 2, "{:?}", noted(directory));
    let (mut back, mut touched): (Vec<String>, Vec<String>) =
        calls(directory).into_iter().partition(|call| call.starts_with("1 "));
    back.sort();
    touched.sort();
    assert!(touched.len() < 6, "nothing was begun after the failure: {touched:?}");
    let touched: Vec<String> = touched.iter().map(|backend| format!("1 {backend}")).collect();
    assert_eq!(back, touched, "each that was touched is brought back");
    assert!(all_active(&release));
    served(load).unwrap();
    unbroken(&long).unwrap();
}
