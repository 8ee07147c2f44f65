//! The agent stops and starts: a clean stop detaches everything, a start applies the stored state
//! as it was, also after kill -9, and an agent that cannot start says why in one line and leaves
//! nothing behind.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::runtime;
use weir::client::Client;
use weir::model::PerVersion;
use weir_tests::agent::{binary, pins, socket};
use weir_tests::identity::Identity;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::SourcePorts;
use weir_tests::load::fresh::{Close, Fresh, FreshCounts, FreshPlan};
use weir_tests::node::{Mode, Node};

fn node(mode: Mode) -> Node {
    let mut node = Node::start(LabBuilder::new().clients(100), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
    node.apply(&[node.lab().service("web", target, Protocol::Tcp)]).unwrap();
    node.shift(&["web"], [5_000, 0, 5_000]).unwrap();
    node.shift(&["web"], [5_000, 2_500, 2_500]).unwrap();
    node
}

/// The same connections each time.
fn connect(lab: &Lab, count: u64, limit: Duration) -> FreshCounts {
    let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
    let plan = FreshPlan::new(target, lab.client_addresses(Family::V4))
        .count(count)
        .limit(limit)
        .ports(SourcePorts::Sequential)
        .close(Close::Reset);
    Fresh::start(lab.clients(), plan).unwrap().finish().unwrap()
}

/// Who answers whom: the same flows get the same backends from the same tables.
fn answers(lab: &Lab) -> BTreeMap<(IpAddr, Identity), u64> {
    let counts = connect(lab, 1_000, Duration::from_secs(5));
    counts.check().unwrap();
    counts.answers
}

/// Nothing is attached and nothing answers.
fn is_off(lab: &Lab) {
    let counts = connect(lab, 20, Duration::from_millis(300));
    assert_eq!((counts.answered(), counts.failed()), (0, 20), "{counts}");
    let links = lab.lb().exec("ip", &["-details", "link", "show"]).unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(links.contains("cli0") && !links.contains("xdp"), "{links}");
}

/// What a restart must keep: spec, generation, digest and the slots of each version.
fn kept(node: &mut Node) -> (String, u64, String, PerVersion<u32>) {
    let status = node.status("web").unwrap();
    let slots = status.versions.map(|version| version.table.slots);
    (format!("{:?}", status.spec), status.generation, status.digest, slots)
}

#[test]
fn a_clean_stop_detaches_and_a_start_applies_the_stored_state() {
    for mode in [Mode::Tc, Mode::Xdp, Mode::XdpGeneric] {
        let mut node = node(mode);
        let (before, answered) = (kept(&mut node), answers(node.lab()));
        let status = node.take_agent().unwrap().stop().unwrap();
        assert!(status.success(), "{status}");
        assert!(!socket(node.lab()).exists(), "the socket stays");
        is_off(node.lab());

        node.restart().unwrap();
        assert_eq!(kept(&mut node), before);
        assert_eq!(before.1, 3);
        assert_eq!(answers(node.lab()), answered);
        // Generations go on where they were.
        let changed = node.shift(&["web"], [10_000, 0, 0]).unwrap();
        assert_eq!(changed.changes[0].generation, 4);
    }
}

#[test]
fn an_agent_starts_after_kill_nine() {
    for mode in [Mode::Tc, Mode::Xdp] {
        let mut node = node(mode);
        let (before, answered) = (kept(&mut node), answers(node.lab()));
        node.take_agent().unwrap().kill().unwrap();
        assert!(socket(node.lab()).exists(), "a killed agent leaves its socket");
        node.restart().unwrap();
        assert_eq!(kept(&mut node), before);
        assert_eq!(answers(node.lab()), answered);
    }
}

/// A client that has stopped reading must not hold the agent up for ever.
#[test]
fn a_client_that_hangs_does_not_keep_the_agent_from_stopping() {
    let mut node = node(Mode::Tc);
    // A runtime without a thread of its own: outside of `block_on` the client does nothing.
    let hung = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut client = hung.block_on(Client::connect(&socket(node.lab()))).unwrap();
    let watching = client.watch_counters(&[], Duration::from_millis(100));
    let _stream = hung.block_on(watching).unwrap();
    let status = node.take_agent().unwrap().stop().unwrap();
    assert!(status.success(), "{status}");
    is_off(node.lab());
}

/// Runs an agent that is to fail at its start, and gives the last line that it printed.
fn fails(lab: &Lab, state: &str, interfaces: &[&str]) -> String {
    let mut command = lab.lb().command(binary().unwrap());
    command.arg("--socket").arg(socket(lab)).args(["agent", "--state-dir"]);
    command.arg(lab.directory().join(state)).arg("--bpffs").arg(pins(lab));
    for interface in interfaces {
        command.args(["--interface", interface]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("weir: ")).collect();
    assert_eq!(errors.len(), 1, "one line says what is wrong: {text}");
    errors[0].to_owned()
}

#[test]
fn a_second_agent_is_refused() {
    let node = node(Mode::Tc);
    let answered = answers(node.lab());
    let error = fails(node.lab(), "other", &["cli0:tc"]);
    let path = socket(node.lab());
    let wanted = format!(
        "weir: another agent listens at {}: stop it, or choose another --socket",
        path.display()
    );
    assert_eq!(error, wanted);
    // The first one goes on.
    assert_eq!(answers(node.lab()), answered);
    assert!(node.lab().weir(&["get", "web"]).unwrap().contains("web"));
}

#[test]
fn an_agent_without_its_interface_leaves_nothing_attached() {
    for mode in [Mode::Tc, Mode::Xdp] {
        let mut node = node(mode);
        node.take_agent().unwrap().stop().unwrap();
        let first = format!("cli0:{}", mode.name());
        let error = fails(node.lab(), "state", &[&first, "blue0", "green0", "canary0", "nope"]);
        assert_eq!(
            error,
            "weir: there is no interface \"nope\" here; `ip link` lists those there are"
        );
        assert!(!socket(node.lab()).exists(), "the socket stays");
        is_off(node.lab());
        node.restart().unwrap();
        answers(node.lab());
    }
}
