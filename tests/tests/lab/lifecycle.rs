//! A lab comes and goes, and forwards.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use weir_tests::identity::Version;
use weir_tests::lab::addresses::{FAR_END, Family, HTTP_PORT};
use weir_tests::lab::{Lab, LabBuilder, Offloads};
use weir_tests::load::fresh::{Fresh, FreshPlan};

use crate::{direct, small_lab};

fn namespaces_of(lab: &str) -> usize {
    let prefix = format!("{lab}-");
    let entries = fs::read_dir("/run/netns").unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

fn name_of(lab: &Lab) -> String {
    lab.directory().file_name().unwrap().to_string_lossy().into_owned()
}

fn ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().unwrap()
}

/// Waits until a command that was started in a namespace has arrived there.
fn wait_for_a_process_in(namespace: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ip(&["netns", "pids", namespace]).stdout.is_empty() {
        assert!(Instant::now() < deadline, "nothing runs in {namespace}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_lab_leaves_nothing_behind_even_after_a_panic() {
    let mut seen = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = small_lab();
        // A process that would hold the namespace.
        let sleeper = lab.lb().command("sleep").arg("600").spawn().unwrap();
        wait_for_a_process_in(lab.lb().name());
        seen = Some((name_of(&lab), lab.directory().to_owned(), sleeper));
        assert_eq!(namespaces_of(&name_of(&lab)), 5);
        panic!("as a failing test would");
    }));
    assert!(panicked.is_err());
    let (name, directory, mut sleeper) = seen.unwrap();
    assert_eq!(namespaces_of(&name), 0);
    assert!(!directory.exists());
    // `timeout` ends as its command has ended; it would give 124 for one that took too long.
    assert_eq!(sleeper.wait().unwrap().signal(), Some(9));
}

#[test]
fn the_leftovers_of_a_dead_process_are_swept_and_no_others() {
    // Two processes that stand for owners of labs. Tests beside this one sweep too, so the first
    // dies only when everything is in its place.
    let mut owners = [(); 2].map(|()| Command::new("sleep").arg("60").spawn().unwrap());
    let [dying, living] = [0, 1].map(|index: usize| format!("weir-{}-0", owners[index].id()));
    let [orphan, owned] = [&dying, &living].map(|lab| format!("{lab}-lb"));
    assert!(ip(&["netns", "add", &orphan]).status.success());
    assert!(ip(&["netns", "add", &owned]).status.success());
    let files = format!("/run/weir-lab/{dying}");
    fs::create_dir_all(&files).unwrap();
    let mut inside = Command::new("ip")
        .args(["netns", "exec", &orphan, "sleep", "600"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_a_process_in(&orphan);

    drop(small_lab());
    let before = (namespaces_of(&dying), namespaces_of(&living));
    owners[0].kill().unwrap();
    owners[0].wait().unwrap();
    drop(small_lab());
    let after = (namespaces_of(&dying), namespaces_of(&living));
    ip(&["netns", "del", &owned]);
    owners[1].kill().unwrap();
    owners[1].wait().unwrap();

    assert_eq!((before, after), ((1, 1), (0, 1)));
    assert!(!Path::new(&files).exists());
    assert_eq!(inside.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_large_lab_starts_soon() {
    let started = Instant::now();
    let lab = LabBuilder::new().clients(1000).backends(10).start().unwrap();
    let taken = started.elapsed();
    println!("1000 clients in each family, 60 backends: {taken:?}");
    assert!(taken < Duration::from_secs(10), "took {taken:?}");
    let clients = lab.client_addresses(Family::V6);
    assert_eq!(clients.len(), 1000);
    let plan = FreshPlan::new(direct(Family::V6, Version::Canary, HTTP_PORT), clients).count(1000);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    assert_eq!(counts.by_version(), [0, 0, 1000], "{counts}");
    // Taken in turn: one connection from each client.
    assert_eq!(counts.answers.len(), 1000);
}

#[test]
fn forwarding_works_without_offloads() {
    let lab = LabBuilder::new().clients(20).offloads(Offloads::Off).start().unwrap();
    for (namespace, interface) in
        [(lab.clients(), FAR_END), (lab.lb(), "green0"), (lab.version(Version::Canary), FAR_END)]
    {
        let features = namespace.exec("ethtool", &["-k", interface]).unwrap();
        let features = String::from_utf8(features.stdout).unwrap();
        let is = |line: &str| {
            assert!(
                features.lines().any(|feature| feature.starts_with(line)),
                "{interface}: {features}"
            );
        };
        is("tx-checksumming: off");
        is("tcp-segmentation-offload: off");
        is("generic-segmentation-offload: off");
        is("generic-receive-offload: on");
    }
    for family in Family::ALL {
        let counts = Fresh::start(
            lab.clients(),
            FreshPlan::new(direct(family, Version::Green, HTTP_PORT), lab.client_addresses(family))
                .count(200),
        )
        .unwrap()
        .finish()
        .unwrap();
        assert_eq!(counts.by_version(), [0, 200, 0], "{counts}");
    }
}

#[test]
fn a_lab_of_one_family_has_no_other() {
    let lab = LabBuilder::new().clients(1).backends(1).families(&[Family::V4]).start().unwrap();
    assert_eq!(lab.served().len(), 3);
    let routes = lab.lb().exec("ip", &["-6", "route", "show", "dev", "cli0"]).unwrap();
    assert!(!String::from_utf8(routes.stdout).unwrap().contains("fd50"));
}

#[test]
fn impossible_labs_are_refused() {
    for plan in [
        LabBuilder::new().clients(0),
        LabBuilder::new().backends(201),
        LabBuilder::new().families(&[]),
    ] {
        assert!(plan.start().is_err(), "{plan:?}");
    }
}
