//! Sweeps show every flow and forget only those that are not kept; rounds keep what is not over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, SocketAddr};

use weir::dataplane::DataPlane as _;
use weir::dataplane::kernel::{Kernel, Options};
use weir::node::clock;
use weir_ebpf::abi::{Address, FlowEntry, FlowKey, SEEN_SYN, TCP, UDP};
use weir_tests::frames::{ACK, FIN, Frame, RST, SYN};
use weir_tests::moved::{self, CANARY, LISTENER};
use weir_tests::program::{PROGRAMS, Program, SMALL};

/// Seconds until a flow that is over is forgotten.
const AGE: u32 = 10;

fn key(client: u16, protocol: u8) -> FlowKey {
    let [high, low] = client.to_be_bytes();
    FlowKey {
        source: Address::from_v4([10, 9, high, low]),
        destination: Address::from_v4([10, 50, 0, 1]),
        source_port: 40_000_u16.to_be(),
        destination_port: 80_u16.to_be(),
        protocol,
        pad: [0; 3],
    }
}

fn entry(backend: u16, client: u8) -> FlowEntry {
    FlowEntry { backend, client, server: 0, seen: 7 }
}

fn kernel() -> Kernel {
    let options =
        Options { flows: 2_000, udp_flows: 2_000, pool_lines: 1_024, ..Options::default() };
    Kernel::load(options).unwrap_or_else(|error| panic!("{error}"))
}

/// More than one batch, and not a whole number of them.
#[test]
fn a_sweep_forgets_what_is_not_kept_and_nothing_else() {
    for protocol in [TCP, UDP] {
        let mut kernel = kernel();
        for client in 0..1_000 {
            kernel.put_flow(&key(client, protocol), entry(client, SEEN_SYN)).unwrap();
        }
        let keep = &mut |_: &FlowKey, entry: &FlowEntry| entry.backend.is_multiple_of(3);
        assert_eq!(kernel.sweep(protocol, keep).unwrap(), 666);
        for client in 0..1_000 {
            let flow = kernel.flow(&key(client, protocol)).unwrap();
            assert_eq!(flow.is_some(), client.is_multiple_of(3), "client {client}");
            assert!(flow.is_none_or(|flow| flow == entry(client, SEEN_SYN)));
        }
        assert_eq!(kernel.sweep(protocol, &mut |_, _| true).unwrap(), 0);
    }
}

/// While a sweep goes on in parts, flows come and others go.
#[test]
fn a_sweep_in_parts_shows_every_flow_that_stays_once() {
    let mut kernel =
        Kernel::load(Options { flows: 40_000, pool_lines: 1_024, ..Options::default() })
            .unwrap_or_else(|error| panic!("{error}"));
    for client in 0..30_000 {
        kernel.put_flow(&key(client, TCP), entry(client, SEEN_SYN)).unwrap();
    }
    let (mut shown, mut parts) = (vec![0; 65_536], 0);
    loop {
        let keep = &mut |_: &FlowKey, entry: &FlowEntry| {
            shown[usize::from(entry.backend)] += 1;
            !entry.backend.is_multiple_of(2)
        };
        let part = kernel.sweep_on(1_000, keep).unwrap();
        parts += 1;
        if part.ended {
            break;
        }
        // Some come that were not there, and some go that may not have been shown yet.
        let client = 30_000 + parts;
        kernel.put_flow(&key(client, TCP), entry(client, SEEN_SYN)).unwrap();
        kernel.remove_flow(&key(29_999 - 2 * (parts % 10), TCP)).unwrap();
    }
    assert!(parts > 5, "{parts} parts");
    assert!(shown[..29_900].iter().all(|times| *times == 1));
    assert!(shown.iter().all(|times| *times <= 1));
    let left = kernel.flows(TCP).unwrap();
    assert!(left.iter().all(|(_, flow)| flow.backend % 2 == 1 || flow.backend >= 30_000));
    assert!(left.len() >= 14_950);
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A connection from this port, of which the program sees packets.
#[derive(Clone, Copy)]
struct Connection<'a>(&'a Kernel, Program, u16);

impl Connection<'_> {
    fn client(self) -> SocketAddr {
        ("10.9.0.1".parse::<IpAddr>().unwrap(), self.2).into()
    }

    fn client_says(self, flags: u8) -> Self {
        let _ = self.1.run(self.0, &Frame::tcp(self.client(), at(LISTENER), flags).bytes());
        self
    }

    fn server_says(self, flags: u8) -> Self {
        let _ = self.1.run(self.0, &Frame::tcp(at(CANARY), self.client(), flags).bytes());
        self
    }

    fn is_remembered(self) -> bool {
        let key = Frame::tcp(self.client(), at(LISTENER), SYN).key();
        self.0.flow(&key).unwrap().is_some()
    }
}

/// By what the program has written into their entries.
#[test]
fn flows_that_are_over_are_forgotten_in_time_and_no_others() {
    for program in PROGRAMS {
        let directory = tempfile::tempdir().unwrap();
        let mut owner = moved::everything(SMALL, directory.path()).unwrap();
        let kernel = owner.plane();
        let open = |port| {
            let flow = Connection(kernel, program, port).client_says(SYN);
            assert!(flow.is_remembered(), "{program:?}, port {port}");
            flow.server_says(SYN | ACK).client_says(ACK)
        };
        let before = clock::seconds();
        open(1_001).client_says(RST);
        open(1_002).server_says(RST | ACK);
        open(1_003).client_says(FIN | ACK).server_says(FIN | ACK).client_says(ACK);
        open(1_004).server_says(FIN | ACK).client_says(FIN | ACK).server_says(ACK);
        open(1_005).client_says(RST).client_says(RST).server_says(RST).client_says(FIN | ACK);
        open(1_011);
        open(1_012).client_says(FIN | ACK).server_says(ACK);
        open(1_013).server_says(FIN | ACK).client_says(ACK);
        // The client comes again from the same port.
        open(1_014).client_says(RST).client_says(SYN).server_says(SYN | ACK).client_says(ACK);
        let after = clock::seconds();
        let (over, not_over) = (1_001..=1_005, 1_011..=1_014);
        let mut left_at = |now| {
            owner.round(now).unwrap();
            let kernel = owner.plane();
            let is_left = |port: &u16| Connection(kernel, program, *port).is_remembered();
            over.clone().chain(not_over.clone()).filter(is_left).collect::<Vec<_>>()
        };
        let all: Vec<u16> = over.clone().chain(not_over.clone()).collect();
        assert_eq!(left_at(before + AGE - 1), all, "{program:?}: late packets have time");
        let left = left_at(after + AGE + 1);
        assert!(left.iter().copied().eq(not_over.clone()), "{program:?}: {left:?}");
    }
}
