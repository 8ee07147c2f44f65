//! The program's own log lines: the program loads at every level, has none of them at off, and
//! what it writes is in the agent's log.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use weir::dataplane::OuterSource;
use weir::dataplane::kernel::{BpfLog, Options};
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::node::{Mode, Node};
use weir_tests::pace;
use weir_tests::program::{SMALL, load};

/// Instructions that the verifier has walked, over all programs that this thread's process holds.
fn verified() -> u64 {
    let files = fs::read_dir("/proc/self/fdinfo").unwrap();
    let texts = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
    let count = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("verified_insns:"))?;
        line.trim().parse::<u64>().ok()
    };
    texts.filter_map(count).sum()
}

#[test]
fn the_program_loads_at_every_level_and_has_no_lines_at_off() {
    let mut walked = Vec::new();
    // With all that can be reached.
    let outer = OuterSource { v4: "10.0.0.9".parse().ok(), v6: "fd00::9".parse().ok() };
    for log in [BpfLog::Off, BpfLog::Error, BpfLog::Info, BpfLog::Debug] {
        let before = verified();
        let _kernel = load(Options { log, outer, ..SMALL });
        walked.push(verified() - before);
    }
    println!("instructions verified: {walked:?}");
    // Not one by one: with a line more the verifier may see sooner that two paths are one.
    let (off, debug, between) = (walked[0], walked[3], &walked[1..3]);
    assert!(between.iter().all(|one| off < *one && *one < debug), "{walked:?}");
}

/// Sends datagrams, some of which have too few hops left.
fn send(node: &Node, from: IpAddr, to: SocketAddr) {
    let sent = node.lab().clients().inside(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        for ttl in [64, 1, 64, 1] {
            socket.set_ttl(ttl).unwrap();
            socket.send_to(b"hello", to).unwrap();
        }
    });
    sent.unwrap();
}

#[test]
fn what_the_program_writes_is_in_the_agents_log() {
    for level in ["off", "debug"] {
        let mut node = Node::start(LabBuilder::new(), Mode::Tc, &["--bpf-log", level]).unwrap();
        let target = SocketAddr::new(vip(Family::V4, 0), ECHO_PORT);
        let service = node.lab().service("echo", target, Protocol::Udp);
        node.apply(&[service.weights([10_000, 0, 0])]).unwrap();
        assert_eq!(node.node_status().unwrap().bpf_log, level);
        send(&node, node.lab().client_addresses(Family::V4)[0], target);
        let drops = node.verdict("drop-hop-limit").unwrap();
        assert_eq!(drops, 2);
        sleep(pace::wait(Duration::from_millis(500)));
        let log = fs::read_to_string(node.lab().directory().join("agent.log")).unwrap();
        let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        let expected = usize::from(level == "debug");
        assert_eq!(lines("tc dropped a packet from interface"), 2 * expected, "{log}");
        assert_eq!(lines(": reason 8 (HopLimit) bpf=true"), 2 * expected, "{log}");
        assert_eq!(lines("remembered a flow of service 0 at backend"), expected, "{log}");
    }
}
