//! Interfaces that vanish and come back are attached to again, and so are those from which someone
//! else has detached the program; meanwhile traffic on the others goes on.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir::node::messages::InterfaceStatus;
use weir_tests::agent::pins;
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{CLIENT_SIDE, ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

const CANARY: &str = "canary0";
/// The agent looks every two seconds.
const SOON: Duration = Duration::from_secs(6);

fn target(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

fn node(mode: Mode) -> Node {
    let mut node = Node::start(LabBuilder::new().clients(50), mode, &["--on-exit=keep"]).unwrap();
    let services = [("echo", ECHO_PORT), ("web", HTTP_PORT)]
        .map(|(name, port)| node.lab().service(name, target(port), Protocol::Tcp));
    node.apply(&services).unwrap();
    node
}

fn status(node: &mut Node, interface: &str) -> InterfaceStatus {
    let all = node.node_status().unwrap().interfaces;
    all.into_iter().find(|one| one.name == interface).unwrap()
}

/// Waits until the agent says so of the interface.
fn wait(
    node: &mut Node,
    interface: &str,
    done: impl Fn(&InterfaceStatus) -> bool,
) -> InterfaceStatus {
    let deadline = Instant::now() + pace::wait(SOON);
    loop {
        let status = status(node, interface);
        if done(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "after {SOON:?} still {status:?}");
        sleep(Duration::from_millis(50));
    }
}

fn connect(lab: &Lab) {
    let plan = FreshPlan::new(target(HTTP_PORT), lab.client_addresses(Family::V4)).count(100);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    assert_eq!(counts.answered(), 100, "{counts}");
}

/// Deletes the pair between the host and the canary's backends.
fn delete(lab: &Lab) {
    lab.lb().ip(&[format!("link del {CANARY}")]).unwrap();
}

fn log(lab: &Lab) -> String {
    std::fs::read_to_string(lab.directory().join("agent.log")).unwrap()
}

#[test]
fn an_interface_that_is_made_again_is_attached_to_again() {
    for mode in [Mode::Tc, Mode::Xdp, Mode::XdpGeneric] {
        let mut node = node(mode);
        let first = status(&mut node, CANARY);
        let clients = node.lab().client_addresses(Family::V4);
        let plan = LongLivedPlan::new(target(ECHO_PORT), clients.clone(), 50)
            .talking(50, Duration::from_millis(200));
        let long = LongLived::open(node.lab().clients(), plan).unwrap();
        let plan = FreshPlan::new(target(HTTP_PORT), clients).rate(100);
        let fresh = Fresh::start(node.lab().clients(), plan).unwrap();

        delete(node.lab());
        let gone = wait(&mut node, CANARY, |status| status.actual.is_none());
        assert!(gone.state.starts_with("gone"), "{gone:?}");
        assert_eq!(gone.index, 0);
        let warnings = node.node_status().unwrap().warnings;
        assert!(
            warnings.iter().any(|text| text.contains("interface canary0: gone")),
            "{warnings:?}"
        );
        // An agent that starts now goes on with the others, and so does the one after it.
        for _ in 0..2 {
            node.take_agent().unwrap().kill().unwrap();
            node.restart().unwrap();
            assert_eq!(status(&mut node, CANARY), gone);
        }

        node.lab().rewire(Version::Canary).unwrap();
        let back = wait(&mut node, CANARY, |status| status.actual.is_some());
        assert_eq!((back.actual, back.state.as_str()), (first.actual, "attached"));
        assert_ne!(back.index, first.index);
        assert!(log(node.lab()).contains("attached again: it is there again"));
        // All to the version behind it.
        long.state().check().unwrap();
        fresh.stop().unwrap().check().unwrap();
        node.shift(&["web"], [0, 0, 10_000]).unwrap();
        connect(node.lab());
        long.verify().check().unwrap();
        let warnings = node.node_status().unwrap().warnings;
        let of_it = format!("interface {CANARY}: ");
        assert!(!warnings.iter().any(|text| text.contains(&of_it)), "{mode:?}: {warnings:?}");
    }
}

/// Deleted and made again between two looks: only the index tells.
#[test]
fn an_interface_that_is_replaced_at_once_is_noticed() {
    let mut node = node(Mode::Tc);
    let first = status(&mut node, CANARY);
    delete(node.lab());
    node.lab().rewire(Version::Canary).unwrap();
    wait(&mut node, CANARY, |status| status.index != first.index && status.actual.is_some());
    node.shift(&["web"], [0, 0, 10_000]).unwrap();
    connect(node.lab());
}

/// The pins of an interface's links.
fn links(lab: &Lab, interface: &str) -> Vec<PathBuf> {
    let root = std::fs::read_dir(pins(lab)).unwrap().next().unwrap().unwrap().path();
    let links = std::fs::read_dir(root.join("links")).unwrap();
    let links = links.map(|entry| entry.unwrap().path());
    let prefix = format!("{interface}:");
    links.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix)).collect()
}

#[test]
fn what_someone_else_has_detached_is_noticed_and_attached_again() {
    for mode in [Mode::Tc, Mode::Xdp, Mode::XdpGeneric] {
        let mut node = node(mode);
        let before = status(&mut node, CLIENT_SIDE);
        connect(node.lab());
        let links = links(node.lab(), CLIENT_SIDE);
        assert_eq!(links.len(), if mode == Mode::Tc { 1 } else { 2 }, "{links:?}");
        // Each alone, then all together.
        let each = links.iter().map(std::slice::from_ref).chain([links.as_slice()]);
        for (round, detached) in (1..).zip(each) {
            for link in detached {
                detach(node.lab(), link);
            }
            let deadline = Instant::now() + pace::wait(SOON);
            while log(node.lab()).matches("someone else has detached the program").count() < round {
                assert!(Instant::now() < deadline, "{mode:?}: not noticed: {detached:?}");
                sleep(Duration::from_millis(50));
            }
            assert_eq!(status(&mut node, CLIENT_SIDE), before);
            connect(node.lab());
        }
    }
}

/// Detaches a link as an operator would by accident.
fn detach(lab: &Lab, link: &Path) {
    if link.to_string_lossy().ends_with(":clsact") {
        lab.lb().exec("tc", &["qdisc", "del", "dev", CLIENT_SIDE, "clsact"]).unwrap();
        return;
    }
    match Command::new("bpftool").args(["link", "detach", "pinned"]).arg(link).status() {
        Ok(status) => assert!(status.success(), "bpftool: {status}"),
        // Without its pin nothing holds it.
        Err(_) => std::fs::remove_file(link).unwrap(),
    }
}
