//! Signals, packet by packet: what the loaded programs count of handshakes that go well, are refused,
//! given up, never answered or lost sight of; and of how connections end.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use weir::dataplane::DataPlane as _;
use weir_ebpf::abi::{Signals, UNANSWERED_NS};
use weir_ebpf::{handshake, hash};
use weir_tests::cases::nodes::{AWAY, BARE, Node, Spec};
use weir_tests::frames::{ACK, FIN, Frame, PSH, RST, SYN};
use weir_tests::program::{PROGRAMS, Program, Verdict};
use weir_tests::random::Random;

const SEED: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
const NETWORK: &[&str] = &[
    "link set lo up",
    "link add name near index 17 address 02:11:00:00:00:01 type veth peer name far index 18",
    "link set far address 02:11:00:00:00:02 up",
    "link set near up",
    "addr add 203.0.113.1/24 dev near",
    "addr add 2001:db8:113::1/64 dev near nodad",
    "neigh add 203.0.113.254 lladdr 02:11:00:00:00:02 nud permanent dev near",
    "neigh add 2001:db8:113::254 lladdr 02:11:00:00:00:02 nud permanent dev near",
    "route add 192.0.2.0/24 via 203.0.113.254",
    "route add 2001:db8:7::/64 via 2001:db8:113::254",
];
/// Of both families: client, listener, backend.
const ENDS: [[&str; 3]; 2] = [
    ["192.0.2.7", "198.51.100.1:80", "10.0.0.1:8080"],
    ["2001:db8:7::7", "[2001:db8::1]:80", "[fd00::1]:8080"],
];

/// One service of each family, of one backend each, whose indices are 0 and 1.
fn services(forwarding: &str, level: &str) -> String {
    let port = if forwarding == "nat" { ", port: 8080" } else { "" };
    let one = |name: &str, listener: &str, backend: &str| {
        format!(
            "  - name: {name}
    listeners: [{{ address: \"{listener}\", port: 80, protocol: tcp }}]
    forwarding: {forwarding}
    signals: {level}
    seed: 000102030405060708090a0b0c0d0e0f
    versions: {{ blue: {{ weight: 100%, backends: [{{ address: \"{backend}\"{port} }}] }} }}
"
        )
    };
    let both = [one("a4", "198.51.100.1", "10.0.0.1"), one("b6", "2001:db8::1", "fd00::1")];
    format!("services:\n{}", both.concat())
}

/// A node, one of its programs, and one of its services.
struct Side {
    node: Node,
    program: Program,
    family: usize,
}

/// A client's connection.
#[derive(Clone, Copy)]
struct Flow {
    client: SocketAddr,
    sequence: u32,
}

fn node(forwarding: &str, level: &str) -> Node {
    let spec = Spec {
        name: "signals",
        services: Box::leak(services(forwarding, level).into_boxed_str()),
        hops: &[("10.0.0.1", AWAY), ("fd00::1", AWAY)],
        network: &[NETWORK],
        forwarding: true,
        ..BARE
    };
    Node::start(&spec).unwrap()
}

/// Every family at every hook.
fn everywhere(forwarding: &str, level: &str, test: impl Fn(&mut Side)) {
    let mut side = Side { node: node(forwarding, level), program: Program::Tc, family: 0 };
    for program in PROGRAMS {
        for family in 0..2 {
            side.node.kernel().forget_handshakes();
            side.node.kernel().clear_counters(&(0..2).collect());
            (side.program, side.family) = (program, family);
            test(&mut side);
        }
    }
}

impl Side {
    fn flow(&self, port: u16) -> Flow {
        Flow { client: (ip(ENDS[self.family][0]), port).into(), sequence: 7 }
    }

    fn backend(&self) -> u16 {
        u16::try_from(self.family).unwrap()
    }

    fn send(&mut self, mut frame: Vec<u8>, sequence: u32) {
        let tcp = if self.family == 0 { 34 } else { 54 };
        // The program has no reason to look at checksums.
        frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        let (verdict, _) = self.program.run(self.node.kernel(), &frame);
        assert_eq!(verdict, Verdict::Redirect, "{:?}", self.program);
    }

    /// A packet of the client.
    fn client(&mut self, flow: Flow, flags: u8) {
        let listener = ENDS[self.family][1].parse().unwrap();
        self.send(Frame::tcp(flow.client, listener, flags).bytes(), flow.sequence);
    }

    /// A packet of the server.
    fn server(&mut self, flow: Flow, flags: u8) {
        let backend = ENDS[self.family][2].parse().unwrap();
        self.send(Frame::tcp(backend, flow.client, flags).bytes(), 99);
    }

    /// What was counted must be this, and so many handshakes have their time.
    fn counted(&mut self, connections: u64, wanted: Signals, timed: u64) {
        let backend = self.backend();
        let kernel = self.node.kernel();
        assert_eq!(kernel.counters(backend).connections, connections, "{:?}", self.program);
        let got = kernel.signals(backend);
        assert_eq!(Signals { handshake_ns: 0, ..got }, wanted, "{:?}", self.program);
        let took = kernel.handshakes(backend);
        assert_eq!((took.count(), took.sum() > Duration::ZERO), (timed, timed > 0));
        assert_eq!(kernel.signals(1 - backend), Signals::default(), "the other one's");
        assert_eq!(took.sum().as_nanos(), u128::from(got.handshake_ns));
    }
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

/// So that what follows within some milliseconds is within one second of the kernel's clock.
fn early_in_a_second() {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    sleep(Duration::from_nanos(u64::from(1_050_000_000 - now.subsec_nanos())));
}

const NONE: Signals = Signals {
    retransmissions: 0,
    established: 0,
    refused: 0,
    unanswered: 0,
    abandoned: 0,
    lost_samples: 0,
    resets_in: 0,
    resets_out: 0,
    early_resets: 0,
    fins_in: 0,
    fins_out: 0,
    failing_clients: 0,
    steered: 0,
    handshake_ns: 0,
    pad: [0; 2],
};

#[test]
fn a_connection_that_goes_well() {
    everywhere("nat", "full", |side| {
        let flow = side.flow(1_000);
        side.client(flow, SYN);
        side.client(flow, SYN);
        sleep(Duration::from_millis(20));
        side.server(flow, SYN | ACK);
        side.server(flow, SYN | ACK);
        side.client(flow, ACK);
        // Its SYN-ACK was lost on the way.
        side.client(flow, SYN);
        side.client(flow, PSH | ACK);
        side.server(flow, PSH | ACK);
        side.client(flow, FIN | ACK);
        side.server(flow, FIN | ACK);
        let wanted =
            Signals { retransmissions: 2, established: 1, fins_in: 1, fins_out: 1, ..NONE };
        side.counted(1, wanted, 1);
        let backend = side.backend();
        let took = side.node.kernel().handshakes(backend).sum();
        assert!(took >= Duration::from_millis(20) && took < Duration::from_millis(500), "{took:?}");
        // The port is used again: another sequence number.
        let again = Flow { sequence: 8, ..flow };
        side.client(again, SYN);
        side.server(again, SYN | ACK);
        side.counted(2, Signals { established: 2, ..wanted }, 2);
    });
}

#[test]
fn a_connection_that_is_refused() {
    everywhere("nat", "full", |side| {
        let flow = side.flow(1_000);
        side.client(flow, SYN);
        side.server(flow, RST | ACK);
        side.counted(1, Signals { refused: 1, failing_clients: 1, ..NONE }, 0);
        side.server(flow, RST | ACK);
        side.client(flow, SYN);
        let wanted =
            Signals { refused: 1, failing_clients: 1, resets_out: 1, retransmissions: 1, ..NONE };
        side.counted(1, wanted, 0);
    });
}

#[test]
fn a_client_that_gives_up() {
    everywhere("nat", "full", |side| {
        let flow = side.flow(1_000);
        side.client(flow, SYN);
        side.client(flow, RST);
        side.counted(1, Signals { abandoned: 1, ..NONE }, 0);
        side.client(flow, RST);
        side.counted(1, Signals { abandoned: 1, resets_in: 1, ..NONE }, 0);
    });
}

#[test]
fn resets_after_the_handshake() {
    everywhere("nat", "full", |side| {
        early_in_a_second();
        for port in 1_000..1_003 {
            let flow = side.flow(port);
            side.client(flow, SYN);
            side.server(flow, SYN | ACK);
            side.server(flow, RST);
        }
        let early =
            Signals { established: 3, resets_out: 3, early_resets: 3, failing_clients: 1, ..NONE };
        side.counted(3, early, 3);
        let late = side.flow(2_000);
        side.client(late, SYN);
        side.server(late, SYN | ACK);
        sleep(Duration::from_millis(1_050));
        side.server(late, RST);
        side.client(late, RST);
        let wanted = Signals { established: 4, resets_out: 4, resets_in: 1, ..early };
        side.counted(4, wanted, 4);
        // What the client sent before its RST comes after it.
        let hasty = side.flow(3_000);
        side.client(hasty, SYN);
        side.server(hasty, SYN | ACK);
        side.client(hasty, RST);
        side.client(hasty, ACK);
        side.server(hasty, RST);
        let wanted = Signals { established: 5, resets_out: 5, resets_in: 2, ..wanted };
        side.counted(5, wanted, 5);
    });
}

/// Another connection takes the place of one that waits.
#[test]
fn what_is_lost_sight_of_is_counted() {
    everywhere("nat", "full", |side| {
        let first = side.flow(1_000);
        let place = |flow: Flow| {
            let to: SocketAddr = ENDS[side.family][1].parse().unwrap();
            handshake::place(hash::flow(SEED, &Frame::tcp(flow.client, to, SYN).key()))
        };
        let other = (1_001..=u16::MAX).map(|port| side.flow(port));
        let mut same = other.filter(|flow| place(*flow) == place(first));
        let second = same.next().expect("of 64 000 flows, four share a place of 16 384");
        side.client(first, SYN);
        side.client(second, SYN);
        side.counted(2, Signals { lost_samples: 1, ..NONE }, 0);
        side.server(first, SYN | ACK);
        side.server(second, SYN | ACK);
        side.counted(2, Signals { lost_samples: 1, established: 1, ..NONE }, 1);
        // One that is answered needs its place no longer.
        side.client(first, SYN);
        side.server(first, SYN | ACK);
        side.counted(3, Signals { lost_samples: 1, established: 2, ..NONE }, 2);
        // The same port begins anew, with another number, before there was an answer.
        let third = side.flow(999);
        side.client(third, SYN);
        side.client(Flow { sequence: 9, ..third }, SYN);
        side.counted(5, Signals { lost_samples: 2, established: 2, ..NONE }, 2);
    });
}

/// Whoever looks next counts it, and only once: the agent's round, the late answer, a reset, or the
/// one who takes the place.
#[test]
fn what_is_not_answered_is_counted() {
    everywhere("nat", "full", |side| {
        let flows = [1_000, 1_001, 1_002].map(|port| side.flow(port));
        for flow in flows {
            side.client(flow, SYN);
        }
        assert_eq!(side.node.kernel().end_handshakes(), 3);
        side.counted(3, NONE, 0);
        sleep(Duration::from_nanos(UNANSWERED_NS));
        early_in_a_second();
        side.server(flows[0], SYN | ACK);
        side.client(Flow { sequence: 8, ..flows[1] }, SYN);
        let wanted = Signals { unanswered: 2, failing_clients: 1, ..NONE };
        side.counted(4, wanted, 0);
        assert_eq!(side.node.kernel().end_handshakes(), 1, "one has just begun");
        let wanted = Signals { unanswered: 3, ..wanted };
        side.counted(4, wanted, 0);
        // Nothing that comes later changes that.
        side.server(flows[2], SYN | ACK);
        side.client(flows[2], SYN);
        side.counted(4, Signals { retransmissions: 1, ..wanted }, 0);
    });
}

#[test]
fn basic_knows_of_no_times_and_no_clients() {
    everywhere("nat", "basic", |side| {
        let [one, two] = [1_000, 1_001].map(|port| side.flow(port));
        for flow in [one, one, two] {
            side.client(flow, SYN);
        }
        side.server(one, SYN | ACK);
        side.server(one, RST);
        side.server(two, RST);
        let wanted =
            Signals { retransmissions: 1, established: 1, refused: 1, resets_out: 1, ..NONE };
        side.counted(2, wanted, 0);
    });
}

#[test]
fn off_counts_each_syn_and_nothing_else() {
    for forwarding in ["nat", "dsr-l2"] {
        everywhere(forwarding, "off", |side| {
            let flow = side.flow(1_000);
            for flags in [SYN, SYN, ACK, FIN | ACK, RST] {
                side.client(flow, flags);
            }
            if forwarding == "nat" {
                for flags in [SYN | ACK, FIN | ACK, RST] {
                    side.server(flow, flags);
                }
            }
            side.counted(2, NONE, 0);
        });
    }
}

/// There only the client is heard.
#[test]
fn the_direct_modes_go_by_the_client() {
    everywhere("dsr-l2", "full", |side| {
        let [one, two, three] = [1_000, 1_001, 1_002].map(|port| side.flow(port));
        for flow in [one, one, two, three] {
            side.client(flow, SYN);
        }
        sleep(Duration::from_millis(10));
        for flags in [ACK, PSH | ACK, FIN | ACK, RST] {
            side.client(one, flags);
        }
        side.client(two, RST);
        let wanted = Signals {
            retransmissions: 1,
            established: 1,
            abandoned: 1,
            fins_in: 1,
            resets_in: 1,
            ..NONE
        };
        side.counted(3, wanted, 1);
        let backend = side.backend();
        assert!(side.node.kernel().handshakes(backend).sum() >= Duration::from_millis(10));
        sleep(Duration::from_nanos(UNANSWERED_NS));
        assert_eq!(side.node.kernel().end_handshakes(), 0);
        side.counted(3, Signals { unanswered: 1, failing_clients: 1, ..wanted }, 1);
    });
}

#[test]
fn basic_in_the_direct_modes_waits_for_nothing() {
    everywhere("dsr-l2", "basic", |side| {
        let [one, two] = [1_000, 1_001].map(|port| side.flow(port));
        for flow in [one, one, two] {
            side.client(flow, SYN);
        }
        for flags in [ACK, FIN | ACK, RST] {
            side.client(one, flags);
        }
        assert_eq!(side.node.kernel().end_handshakes(), 0);
        let wanted = Signals { retransmissions: 1, fins_in: 1, resets_in: 1, ..NONE };
        side.counted(2, wanted, 0);
    });
}

/// A level changes in its place: no table is written, and what is under way is lost sight of.
#[test]
fn a_level_changes_in_its_place() {
    let mut side = Side { node: node("nat", "full"), program: Program::Tc, family: 0 };
    let flow = side.flow(1_000);
    let tables = |node: &mut Node| node.kernel().tables(0).unwrap();
    let before = tables(&mut side.node);
    side.client(flow, SYN);
    side.node.apply(&services("nat", "off")).unwrap();
    assert_eq!(tables(&mut side.node), before);
    side.server(flow, SYN | ACK);
    side.counted(1, NONE, 0);
    assert_eq!(side.node.kernel().end_handshakes(), 0);
    side.counted(1, Signals { lost_samples: 1, ..NONE }, 0);
    side.node.apply(&services("nat", "full")).unwrap();
    let next = side.flow(1_001);
    side.client(next, SYN);
    side.server(next, SYN | ACK);
    side.counted(2, Signals { lost_samples: 1, established: 1, ..NONE }, 1);
}

/// Whatever comes, in whatever order: once it is quiet, every connection has had its end, at either
/// hook and at every level that waits for one.
#[test]
fn at_rest_every_connection_has_ended() {
    for (forwarding, level) in [("nat", "full"), ("nat", "basic"), ("dsr-l2", "full")] {
        let mut side = Side { node: node(forwarding, level), program: Program::Tc, family: 0 };
        let mut random = Random(5);
        for _ in 0..20_000 {
            side.program = PROGRAMS[random.below(2)];
            side.family = random.below(2);
            let port = u16::try_from(1_000 + random.below(3_000)).unwrap();
            let flow = Flow { sequence: u32::from(random.byte() & 1), ..side.flow(port) };
            match random.below(10) {
                0..4 => side.client(flow, SYN),
                4 => side.client(flow, RST),
                5 => side.client(flow, ACK),
                6 => side.client(flow, FIN | ACK),
                _ if forwarding != "nat" => side.client(flow, PSH | ACK),
                7 => side.server(flow, RST),
                _ => side.server(flow, SYN | ACK),
            }
        }
        sleep(Duration::from_nanos(UNANSWERED_NS));
        assert_eq!(side.node.kernel().end_handshakes(), 0);
        for backend in 0..2 {
            let kernel = side.node.kernel();
            let (counted, s) = (kernel.counters(backend), kernel.signals(backend));
            let ended = s.established + s.refused + s.unanswered + s.abandoned + s.lost_samples;
            assert_eq!(counted.connections, ended, "{forwarding} {level}: {s:?}");
            for some in [s.established, s.abandoned, s.unanswered, s.lost_samples] {
                assert!(some > 0, "{s:?}");
            }
            let timed = if level == "full" { s.established } else { 0 };
            assert_eq!(kernel.handshakes(backend).count(), timed);
        }
    }
}

/// What a backend has counted goes with its index.
#[test]
fn a_backend_begins_with_nothing_counted() {
    let mut side = Side { node: node("nat", "full"), program: Program::Xdp, family: 1 };
    let [one, two] = [1_000, 1_001].map(|port| side.flow(port));
    side.client(one, SYN);
    side.server(one, SYN | ACK);
    side.client(two, SYN);
    side.counted(2, Signals { established: 1, ..NONE }, 1);
    side.node.kernel().clear_counters(&[1].into());
    side.counted(0, NONE, 0);
    // The handshake that was under way is forgotten too.
    side.server(two, SYN | ACK);
    side.counted(0, NONE, 0);
}
