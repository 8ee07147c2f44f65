//! A listener that leads to a version, with the loaded programs: whatever the weights and rules say,
//! its packets go there, and nobody else's.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::steering::{Entry, Prefix, Steering};
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::{
    Address, Backend, CANARY, FlowEntry, GREEN, Listener, NextHop as HopWord, SIGNALS_BASIC,
    Service, SteerSlot, TCP, UDP, UDP_STATELESS, UDP_TRACKED,
};
use weir_tests::frames::{ACK, Frame, RST, SYN, endpoint, read};
use weir_tests::program::{PROGRAMS, SMALL, backend, commit, image, load, steered_image};

const HOP: NextHop = NextHop::plain(7, [2; 6], [4; 6]);
/// Of each family: the listener of all, and the one that leads to green.
const LISTENERS: [[&str; 2]; 2] =
    [["198.51.100.1:80", "198.51.100.2:80"], ["[2001:db8::1]:80", "[2001:db8::2]:80"]];
const CLIENTS: [&str; 2] = ["192.0.2.7:4000", "[2001:db8:7::7]:4000"];
/// Backends 0, 1 and 2 are blue's, green's and canary's.
const TARGETS: [[&str; 3]; 2] = [
    ["10.0.0.1:2000", "10.0.0.1:2001", "10.0.0.1:2002"],
    ["[fd00::1]:2000", "[fd00::1]:2001", "[fd00::1]:2002"],
];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Tables where the versions have these weights, in percent.
fn tables(old: Option<&ServiceTables>, weights: [u16; 3]) -> ServiceTables {
    let identity = |n: u8| Identity { address: Address::from_v4([10, 60, 0, n]), port: 80 };
    let candidates = [0, 1, 2].map(|n| [Candidate { identity: identity(n), weight: 100 }]);
    let weights = weights.map(|percent| percent * 100);
    let goal = Goal::new([7; 16], weights, candidates.each_ref().map(<[_; 1]>::as_slice));
    let target = goal.on_this_node(&mut |version, _| u16::try_from(version).unwrap());
    transition(old, &target, &|_| false).tables
}

#[test]
fn whatever_weights_and_rules_say() {
    for family in 0..2 {
        for udp in [UDP_TRACKED, UDP_STATELESS] {
            holds(family, udp);
        }
    }
}

fn holds(family: usize, udp: u8) {
    let mut kernel = load(SMALL);
    let record = Service {
        udp,
        udp_idle: 30,
        signals: SIGNALS_BASIC,
        watch: SYN | RST,
        ..Service::default()
    };
    let blue = tables(None, [100, 0, 0]);
    let mut first = Commit::default();
    for protocol in [TCP, UDP] {
        for (listener, version) in LISTENERS[family].into_iter().zip([None, Some(GREEN)]) {
            first
                .listeners
                .push((endpoint(at(listener), protocol), Listener::of(0, version).service));
        }
    }
    let hop = HopWord::new(1, [4; 6]).0;
    for (index, target) in (0..).zip(TARGETS[family]) {
        first.backends.push((index, Backend { next_hop: hop, ..backend(at(target)) }));
    }
    first.services.push((0, Some(image(&record, &blue))));
    commit(&mut kernel, first);
    kernel.set_next_hop(0, Some(HOP)).unwrap();

    let client = at(CLIENTS[family]);
    let mut port = client.port();
    // The backend of a new flow to the listener of all, and to the other one; and of later packets.
    let reached = |kernel: &_, port: u16, which: usize, flags: Option<u8>| {
        let (from, to) = (SocketAddr::new(client.ip(), port), at(LISTENERS[family][which]));
        let frame = match flags {
            Some(flags) => Frame::tcp(from, to, flags),
            None => Frame::udp(from, to),
        };
        let of = PROGRAMS.map(|program| {
            let (_, out) = program.run(kernel, &frame.bytes());
            TARGETS[family].iter().position(|target| at(target) == read(&out).unwrap().to).unwrap()
        });
        assert_eq!(of[0], of[1], "both programs");
        of[0]
    };
    let mut everywhere = |kernel: &_, expected: usize, what: &str| {
        for _ in 0..50 {
            port += 1;
            for flags in [Some(SYN), Some(ACK), None] {
                assert_eq!(reached(kernel, port, 0, flags), expected, "{what}, {flags:?}");
                assert_eq!(reached(kernel, port, 1, flags), 1, "{what}, {flags:?}, preview");
            }
        }
    };
    everywhere(&kernel, 0, "all is blue's");
    let steered = kernel.signals(1).steered;
    assert!(steered >= 50, "the table has not decided these: {steered}");
    assert_eq!(kernel.signals(0).steered, 0);

    // A rule leads everybody to canary, but for those at the other listener.
    let prefix = Prefix::new(Address::default(), 0);
    let rule = Steering::new(vec![Entry { prefix, slot: SteerSlot::new(CANARY, CANARY, false) }]);
    let ruled = steered_image(&record, &blue, &rule);
    commit(&mut kernel, Commit { services: vec![(0, Some(ruled))], ..Commit::default() });
    if udp == UDP_STATELESS {
        everywhere(&kernel, 2, "a rule for canary");
    }

    // Everything moves to canary: flows of the other listener are not even looked up.
    let moved = tables(Some(&blue), [0, 0, 100]);
    let image = image(&record, &moved);
    commit(&mut kernel, Commit { services: vec![(0, Some(image))], ..Commit::default() });
    for n in 0..50 {
        let port = 30_000 + n;
        for flags in [SYN, ACK] {
            assert_eq!(reached(&kernel, port, 1, Some(flags)), 1, "preview");
        }
        let to = at(LISTENERS[family][1]);
        let key = Frame::tcp(SocketAddr::new(client.ip(), port), to, SYN).key();
        assert_eq!(kernel.flow(&key).unwrap(), None::<FlowEntry>);
        assert_eq!(reached(&kernel, port, 0, Some(SYN)), 2, "a new one");
    }
}
