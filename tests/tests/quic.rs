//! UDP in the loaded programs: what opens a QUIC flow, where a datagram goes that names a server,
//! and what is remembered, of QUIC, of tracked and of stateless services.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weir::dataplane::kernel::Kernel;
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::{Goal, Target};
use weir::plan::identity::Identity;
use weir::plan::settle::{settle, untrack};
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::{
    Backend, GIVEN_UP, NextHop as HopWord, SEEN_DATA, ServerKey, Service, TCP, UDP,
    UDP_IDLE_SECONDS, UDP_QUIC, UDP_STATELESS, UDP_TRACKED,
};
use weir_tests::frames::{Frame, address, endpoint, read};
use weir_tests::program::{PROGRAMS, Program, SMALL, Verdict, backend, commit, image, load};
use weir_tests::random::Random;

const LISTENERS: [&str; 2] = ["198.51.100.1:443", "[2001:db8::200]:443"];
/// Backends of blue and of canary: indices 0 to 3 and 4 to 7.
const EACH: u16 = 4;
const CONFIG: u8 = 2;
const CLIENTS: u16 = 200;

/// An Initial of QUIC version 1, its connection id made up by the client.
fn initial(random: &mut Random) -> Vec<u8> {
    long(0xc0, &random.bytes(8))
}

/// A packet with a long header of version 1.
fn long(first: u8, id: &[u8]) -> Vec<u8> {
    let length = u8::try_from(id.len()).unwrap();
    let mut bytes = [&[first, 0, 0, 0, 1, length][..], id].concat();
    bytes.resize(1_200, 0);
    bytes
}

/// A packet with a short header.
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x41][..], id, &[7; 20]].concat()
}

/// A connection id that names a server.
fn id(config: u8, server: u16) -> Vec<u8> {
    [&[config << 5 | 9][..], &server.to_be_bytes(), &[1, 2, 3, 4, 5]].concat()
}

/// The server id of a backend.
fn server(backend: u16) -> u16 {
    0x0a00 + backend
}

fn target(index: u16, ipv6: bool) -> SocketAddr {
    let ip: IpAddr = if ipv6 { "fd00::1" } else { "10.0.0.1" }.parse().unwrap();
    (ip, 2_000 + index).into()
}

/// What weights of canary ask for, in percent.
fn goal(canary: u16) -> Target {
    let candidates = |first: u16| -> Vec<Candidate> {
        let identity = |n| Identity { address: address(target(0, false).ip()), port: n };
        (first..first + EACH).map(|n| Candidate { identity: identity(n), weight: 100 }).collect()
    };
    let (blue, canaries) = (candidates(0), candidates(EACH));
    let weights = [10_000 - canary * 100, 0, canary * 100];
    Goal::new([7; 16], weights, [&blue, &[], &canaries]).on_this_node(&mut |_, one| one.port)
}

/// A node with one service of a family.
struct Node {
    kernel: Kernel,
    ipv6: bool,
    udp: u8,
    tables: ServiceTables,
}

impl Node {
    fn new(ipv6: bool, udp: u8) -> Self {
        let mut kernel = load(SMALL);
        let listener: SocketAddr = LISTENERS[usize::from(ipv6)].parse().unwrap();
        let record = |index| {
            let next_hop = HopWord::new(1, [4; 6]).0;
            (index, Backend { next_hop, ..backend(target(index, ipv6)) })
        };
        let id =
            |index: u16| (ServerKey { service: 0, length: 2, id: u64::from(server(index)) }, index);
        let first = Commit {
            backends: (0..2 * EACH).map(record).collect(),
            listeners: vec![(endpoint(listener, UDP), 0)],
            server_ids: (0..2 * EACH).map(id).collect(),
            ..Commit::default()
        };
        commit(&mut kernel, first);
        kernel.set_next_hop(0, Some(NextHop::plain(7, [2; 6], [4; 6]))).unwrap();
        let tables = transition(None, &goal(0), &|_| false).tables;
        let mut node = Self { kernel, ipv6, udp, tables };
        node.put();
        node
    }

    fn put(&mut self) {
        let service = Service {
            seed: [5, 6],
            udp: self.udp,
            udp_idle: UDP_IDLE_SECONDS,
            quic_id_length: 2,
            quic_config: CONFIG << 5,
            ..Service::default()
        };
        let services = vec![(0, Some(image(&service, &self.tables)))];
        commit(&mut self.kernel, Commit { services, ..Commit::default() });
    }

    fn shift(&mut self, canary: u16) {
        self.tables = transition(Some(&self.tables), &goal(canary), &|_| false).tables;
        self.put();
    }

    fn settle(&mut self) {
        assert!(settle(&mut self.tables, &|_| true) && untrack(&mut self.tables, &|_| false));
        self.put();
    }

    fn give_up(&mut self, index: u16) {
        let next_hop = HopWord::new(1, [4; 6]).0;
        let record = Backend { flags: GIVEN_UP, next_hop, ..backend(target(index, self.ipv6)) };
        commit(&mut self.kernel, Commit { backends: vec![(index, record)], ..Commit::default() });
    }

    /// The backend that a datagram of a client reaches.
    fn reaches(&self, program: Program, client: u16, payload: &[u8]) -> u16 {
        let [high, low] = client.to_be_bytes();
        let from: IpAddr = if self.ipv6 {
            format!("2001:db8:7::{client:x}").parse().unwrap()
        } else {
            [192, 0, high, low].into()
        };
        let to = LISTENERS[usize::from(self.ipv6)].parse().unwrap();
        let frame =
            Frame { payload: payload.to_vec(), ..Frame::udp((from, 4_000 + client).into(), to) };
        let (verdict, out) = program.run(&self.kernel, &frame.bytes());
        assert_eq!(verdict, Verdict::Redirect);
        read(&out).unwrap().to.port() - 2_000
    }

    /// Flows remembered as TCP's are, and as datagrams are.
    fn remembered(&self) -> [usize; 2] {
        [TCP, UDP].map(|table| self.kernel.flows(table).unwrap().len())
    }
}

fn on_all(test: impl Fn(Program, bool)) {
    for program in PROGRAMS {
        for ipv6 in [false, true] {
            test(program, ipv6);
        }
    }
}

fn is_canary(backend: u16) -> bool {
    backend >= EACH
}

#[test]
fn an_initial_opens_and_all_else_belongs_where_it_was() {
    on_all(|program, ipv6| {
        let mut node = Node::new(ipv6, UDP_QUIC);
        let mut random = Random(1);
        let any = [&[0xe5][..], &random.bytes(20)].concat();
        let first: Vec<u16> =
            (0..CLIENTS).map(|c| node.reaches(program, c, &initial(&mut random))).collect();
        assert!(first.iter().all(|backend| !is_canary(*backend)));
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), usize::from(EACH));
        for (client, home) in (0..).zip(&first) {
            assert_eq!(node.reaches(program, client, &short(&any)), *home);
        }
        assert_eq!(node.remembered(), [0, 0], "nothing is remembered in the steady state");

        // Half were silent since before the shift; what is no Initial opens nothing.
        node.shift(100);
        let kinds = [short(&any), long(0xe0, &any), long(0xd0, &any), vec![0xc0; 15], vec![0xc0]];
        let negotiation = [&[0xc0, 0, 0, 0, 0, 8][..], &any].concat();
        for (client, home) in (0..).zip(&first).step_by(2) {
            let kind = &kinds[usize::from(client / 2) % kinds.len()];
            assert_eq!(node.reaches(program, client, kind), *home);
            assert_eq!(node.reaches(program, client, &negotiation), *home);
        }
        let unknown = [&[0xf0, 9, 9, 9, 9, 8][..], &any].concat();
        let second: Vec<u16> = (CLIENTS..2 * CLIENTS)
            .map(|c| if c % 2 == 0 { unknown.clone() } else { initial(&mut random) })
            .zip(CLIENTS..)
            .map(|(opening, client)| node.reaches(program, client, &opening))
            .collect();
        assert!(second.iter().all(|backend| is_canary(*backend)));

        // They stay, and so do those that speak only now.
        node.shift(0);
        for (client, home) in (0..).zip(first.iter().chain(&second)) {
            assert_eq!(node.reaches(program, client, &long(0xe0, &any)), *home);
            assert_eq!(node.reaches(program, client, &short(&any)), *home);
        }
        let [flows, datagrams] = node.remembered();
        assert!(flows >= usize::from(CLIENTS) && datagrams == 0, "{flows}, {datagrams}");
        let entries = node.kernel.flows(TCP).unwrap();
        assert!(entries.iter().all(|(key, entry)| {
            key.protocol == UDP && (entry.client, entry.server) == (SEEN_DATA, 0)
        }));
    });
}

#[test]
fn a_client_that_moves_stays_with_the_server_it_names() {
    on_all(|program, ipv6| {
        let mut node = Node::new(ipv6, UDP_QUIC);
        let mut random = Random(2);
        for (round, canary) in [0, 30, 100, 60, 0].into_iter().enumerate() {
            node.shift(canary);
            if round == 3 {
                node.settle();
            }
            let client = 1_000 * u16::try_from(round).unwrap();
            let before = node.remembered();
            for n in 0..CLIENTS {
                let home = u16::try_from(random.below(usize::from(2 * EACH))).unwrap();
                let named = id(CONFIG, server(home));
                let packet = if n % 4 == 0 { long(0xe0, &named) } else { short(&named) };
                assert_eq!(node.reaches(program, client + n, &packet), home);
            }
            assert_eq!(node.remembered(), before, "nothing is remembered of it");
        }

        // Whoever names nobody goes by the flow, and so does an Initial, whatever it names.
        let home = node.reaches(program, 9_000, &initial(&mut random));
        let other = (home + 1) % EACH;
        for packet in [
            short(&id(CONFIG, 0x0bad)),
            short(&id(CONFIG + 1, server(other))),
            short(&id(CONFIG, server(other)))[..15].to_vec(),
            long(0xc0, &id(CONFIG, server(other))),
            long(0xd0, &id(CONFIG, server(other))),
            long(0xe0, &id(CONFIG, server(other))[..2]),
        ] {
            assert_eq!(node.reaches(program, 9_000, &packet), home, "{:02x?}", &packet[..15]);
        }
        let named = short(&id(CONFIG, server(other)));
        assert_eq!(node.reaches(program, 9_000, &named), other);
        node.give_up(other);
        assert_eq!(node.reaches(program, 9_000, &named), home);

        let key = ServerKey { service: 0, length: 2, id: u64::from(server(5)) };
        assert_eq!(node.reaches(program, 9_000, &short(&id(CONFIG, server(5)))), 5);
        commit(&mut node.kernel, Commit { retired_ids: vec![key], ..Commit::default() });
        assert_eq!(node.reaches(program, 9_000, &short(&id(CONFIG, server(5)))), home);
    });
}

#[test]
fn a_tracked_flow_leaves_a_backend_that_is_given_up_at_once() {
    on_all(|program, ipv6| {
        let mut node = Node::new(ipv6, UDP_TRACKED);
        let homes: Vec<u16> = (0..CLIENTS).map(|c| node.reaches(program, c, b"hello")).collect();
        node.shift(100);
        for (client, home) in (0..).zip(&homes) {
            assert_eq!(node.reaches(program, client, b"hello"), *home, "a shift moves no flow");
        }
        node.give_up(1);
        let mut left = 0;
        for (client, home) in (0..).zip(&homes) {
            let now = node.reaches(program, client, b"hello");
            assert_eq!(now == *home, *home != 1);
            assert_eq!(node.reaches(program, client, b"hello"), now, "and stays there");
            left += u16::from(now != *home);
        }
        assert!(left > CLIENTS / 8, "{left} flows were at the backend");
        assert_eq!(node.remembered(), [0, usize::from(CLIENTS)]);
    });
}

#[test]
fn of_a_stateless_service_nothing_is_remembered() {
    on_all(|program, ipv6| {
        let mut node = Node::new(ipv6, UDP_STATELESS);
        let go = |node: &Node| -> Vec<u16> {
            (0..CLIENTS).map(|c| node.reaches(program, c, b"hello")).collect()
        };
        let first = go(&node);
        node.shift(50);
        let second = go(&node);
        let moved = first.iter().zip(&second).filter(|(a, b)| a != b).count();
        assert!((60..140).contains(&moved), "{moved} of {CLIENTS} moved");
        assert!(first.iter().zip(&second).all(|(a, b)| a == b || is_canary(*b)));
        node.shift(0);
        assert_eq!(go(&node), first);
        assert_eq!(node.remembered(), [0, 0]);
        let begun: u64 = (0..2 * EACH).map(|index| node.kernel.counters(index).connections).sum();
        assert_eq!(begun, 0, "a datagram does not tell whether it is the first");
    });
}
