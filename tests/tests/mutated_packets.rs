//! A million broken packets: each passes, is dropped, is answered or is forwarded, and is counted
//! once.
//!
//! The kernel's own routing knows no way here (see `cases::nodes`), so no answer is sent on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::Ipv6Addr;

use weir::dataplane::kernel::Options;
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{DataPlane as _, OuterSource};
use weir_ebpf::abi::Reason;
use weir_tests::cases::nodes::{BARE, Node, Spec};
use weir_tests::frames::ETHERNET;
use weir_tests::packet::{ACK, DESTINATION, HOP_BY_HOP, Packet, ROUTING, SYN, ip};
use weir_tests::program::{Program, SMALL, Verdict};
use weir_tests::random::Random;

/// Packets for each program.
const PACKETS: u64 = 500_000;

/// Where the program is told that backends are.
const HOP: NextHop = NextHop::plain(1, [2; 6], [4; 6]);

/// A link with tags, which takes less than some of the packets with what is put around them.
const NARROW: NextHop =
    NextHop { mtu: 150, tags: [u32::from_ne_bytes([0x81, 0, 0, 42]), 0], ..HOP };

/// Of each service in `nat` a half of the slots is tracked, and a tenth has no backend. The backends
/// of two have no known next hop. Those of the last three are reached directly.
const NODE: Spec = Spec {
    name: "mutated",
    services: r#"
services:
  - name: known4
    listeners:
      - { address: 198.51.100.1, port: 80, protocol: tcp }
      - { address: 198.51.100.1, port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 8080 }] }
      green: { backends: [{ address: 10.0.1.1, port: 8080 }] }
  - name: known6
    listeners:
      - { address: "2001:db8::1", port: 80, protocol: tcp }
      - { address: "2001:db8::1", port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: "fd00::1", port: 8080 }] }
      green: { backends: [{ address: "fd00:1::1", port: 8080 }] }
  - name: unknown4
    listeners:
      - { address: 198.51.100.2, port: 80, protocol: tcp }
      - { address: 198.51.100.2, port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.2, port: 8080 }] }
      green: { backends: [{ address: 10.0.1.2, port: 8080 }] }
  - name: unknown6
    listeners:
      - { address: "2001:db8::2", port: 80, protocol: tcp }
      - { address: "2001:db8::2", port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: "fd00::2", port: 8080 }] }
      green: { backends: [{ address: "fd00:1::2", port: 8080 }] }
  - name: gue4
    forwarding: dsr-gue
    listeners:
      - { address: 198.51.100.3, port: 80, protocol: tcp }
      - { address: 198.51.100.3, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::3" }] } }
  - name: ipip6
    forwarding: dsr-ipip
    listeners:
      - { address: "2001:db8::3", port: 80, protocol: tcp }
      - { address: "2001:db8::3", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::4" }] } }
  - name: l2-4
    forwarding: dsr-l2
    listeners:
      - { address: 198.51.100.4, port: 80, protocol: tcp }
      - { address: 198.51.100.4, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.4 }] } }
"#,
    shifts: &[
        ("known4", [4_000, 5_000, 1_000]),
        ("known6", [4_000, 5_000, 1_000]),
        ("unknown4", [4_000, 5_000, 1_000]),
        ("unknown6", [4_000, 5_000, 1_000]),
    ],
    hops: &[
        ("10.0.0.1", HOP),
        ("10.0.1.1", NextHop::plain(7, [2; 6], [4; 6])),
        ("fd00::1", HOP),
        ("fd00:1::1", NextHop::plain(7, [2; 6], [4; 6])),
        ("fd00::3", NARROW),
        ("fd00::4", NARROW),
        ("10.0.0.4", HOP),
    ],
    options: Options {
        outer: OuterSource {
            v4: None,
            v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 9)),
        },
        ..SMALL
    },
    ..BARE
};

/// Client, listener and backend of each service.
const ENDS: [(&str, &str, &str); 7] = [
    ("192.0.2.7", "198.51.100.1", "10.0.0.1"),
    ("2001:db8:7::7", "2001:db8::1", "fd00::1"),
    ("192.0.2.7", "198.51.100.2", "10.0.0.2"),
    ("2001:db8:7::7", "2001:db8::2", "fd00::2"),
    // What comes from these backends is not turned back, so any address will do.
    ("192.0.2.7", "198.51.100.3", "10.0.0.3"),
    ("2001:db8:7::7", "2001:db8::3", "fd00::4"),
    ("192.0.2.7", "198.51.100.4", "10.0.0.4"),
];

/// Frames that are taken, for mutation: all protocols, headers and directions.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Packet> = Vec::new();
    for (client, listener, backend) in ENDS {
        let ways = [
            (ip(client, listener), 4_000, 80),
            (ip(backend, client), 8_080, 4_000),
            (ip(client, backend), 4_000, 8_080),
        ];
        for (packet, from, to) in ways {
            let long = if client.contains(':') {
                let pad = [1, 4, 0, 0, 0, 0];
                let one = packet.clone().extension(HOP_BY_HOP, &pad);
                one.extension(ROUTING, &pad).extension(DESTINATION, &pad)
            } else {
                packet.clone().options(&[1; 12])
            };
            for packet in [packet, long] {
                seeds.extend([
                    packet.clone().tcp(from, to, SYN),
                    packet.clone().tcp(from, to, ACK),
                    packet.clone().tcp(from, to, ACK).payload(100),
                    packet.clone().udp(from, to).data(b"hello"),
                    packet.ttl(1).udp(from, to).data(b"hello"),
                ]);
            }
        }
        // What programs of their own treat.
        let whole = ip(client, listener).udp(4_000, 80).payload(200);
        seeds.extend([0, 64, 128].map(|start| whole.clone().fragment(9, start, 64)));
        let v4 = !client.contains(':');
        let (request, error) = if v4 { (8, (3, 4)) } else { (128, (2, 0)) };
        seeds.push(ip(client, listener).icmp(request, 0, [0; 4]).payload(40));
        for (from, ports, to) in
            [(listener, (80, 4_000), client), (client, (4_000, 8_080), backend)]
        {
            let about = ip(from, to).tcp(ports.0, ports.1, ACK).payload(30);
            seeds.push(ip(backend, from).icmp(error.0, error.1, [0, 0, 5, 0]).quoting(&about, 70));
            let about = ip(from, to).udp(ports.0, ports.1).payload(30);
            seeds.push(ip(backend, from).icmp(error.0, error.1, [0, 0, 5, 0]).quoting(&about, 70));
        }
        // One, two and three VLAN tags.
        let one = ip(client, listener).tcp(4_000, 80, SYN).tag(42);
        let two = one.clone().tag(43);
        seeds.extend([one, two.clone(), two.tag(44)]);
    }
    // So many flows to the services in `nat` that some have no backend, whatever the hash.
    for (client, listener, _) in &ENDS[..4] {
        seeds.extend((4_001..4_021).map(|port| ip(client, listener).tcp(port, 80, SYN)));
    }
    seeds.iter().map(Packet::bytes).collect()
}

/// Breaks a frame in one to three ways.
fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let last = frame.len() - 1;
        // Most of what matters is in the headers.
        let within = if random.percent(80) { last.min(100) } else { last };
        let place = random.below(within + 1);
        match random.below(10) {
            0 | 1 => frame[place] ^= 1 << random.below(8),
            2 | 3 => frame[place] = random.byte(),
            4 => frame[place] = *random.one(&[0, 1, 4, 6, 17, 43, 44, 60, 0x7f, 0x80, 0xff]),
            5 => frame.truncate((place + 1).max(ETHERNET)),
            // IP's length, header length, protocol, fragment, hop limit.
            6 => {
                let field = ETHERNET + random.below(10);
                if let Some(byte) = frame.get_mut(field) {
                    *byte = random.byte();
                }
            }
            7 => {
                let more = random.below(60);
                frame.extend(random.bytes(more));
            }
            8 => {
                let count = 1 + random.below(8);
                let garbage = random.bytes(count);
                frame.splice(place..(place + count).min(frame.len()), garbage);
            }
            _ => {
                let removed = (1 + random.below(12)).min(frame.len() - place);
                frame.drain(place..place + removed);
            }
        }
        // The kernel takes no frame without an Ethernet header.
        frame.resize(frame.len().max(ETHERNET), 0);
    }
}

/// What was counted in all: the reasons of both hooks, packets in, packets out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counted {
    passed: u64,
    /// Passed; dropped where a fragment is for a listener's address.
    malformed: u64,
    dropped: u64,
    /// Dropped; the sender was told, or must not be.
    told: u64,
    /// Sent on or back by a program of its own.
    rare: u64,
    fib: u64,
    packets_in: u64,
    packets_out: u64,
}

fn counted(node: &mut Node, program: Program) -> Counted {
    let backends = u16::try_from(node.backends().len()).unwrap();
    let kernel = node.kernel();
    let reasons = kernel.reasons()[program.hook()];
    let sum = |all: &[Reason]| all.iter().map(|reason| reasons[*reason as usize]).sum();
    let mut all = Counted {
        passed: sum(&[
            Reason::NotIp,
            Reason::NotTransport,
            Reason::Fragment,
            Reason::Vlan,
            Reason::NotOurs,
            Reason::Direct,
        ]),
        malformed: sum(&[Reason::Malformed]),
        dropped: sum(&[
            Reason::NoBackend,
            Reason::NoRoute,
            Reason::Rewrite,
            Reason::NoTable,
            Reason::EarlyFragment,
            Reason::Silenced,
            Reason::NoSource,
        ]),
        told: sum(&[Reason::HopLimit, Reason::TooBig]),
        rare: sum(&[Reason::Echo, Reason::Quoted]),
        fib: sum(&[Reason::Fib]),
        packets_in: 0,
        packets_out: 0,
    };
    for index in 0..backends {
        let counters = kernel.counters(index);
        all.packets_in += counters.packets_in;
        all.packets_out += counters.packets_out;
    }
    all
}

/// What may have been counted by a packet of this verdict.
fn accounts(program: Program, verdict: Verdict) -> Vec<fn(&mut Counted)> {
    match (program, verdict) {
        // TC sees it next, and counts it.
        (Program::Xdp, Verdict::Pass) => vec![|_| {}],
        (Program::Tc, Verdict::Pass) => vec![|all| all.passed += 1, |all| all.malformed += 1],
        (Program::Xdp, Verdict::Drop) => vec![|all| all.dropped += 1],
        (Program::Tc, Verdict::Drop) => {
            vec![|all| all.dropped += 1, |all| all.told += 1, |all| all.malformed += 1]
        }
        (Program::Xdp, _) => vec![|all| all.packets_in += 1],
        (Program::Tc, _) => {
            vec![|all| all.packets_in += 1, |all| all.told += 1, |all| all.rare += 1]
        }
    }
}

fn run(program: Program) {
    let mut node = Node::start(&NODE).unwrap();
    let seeds = seeds();
    let other = if program == Program::Xdp { Program::Tc } else { Program::Xdp };
    let other_before = node.kernel().reasons()[other.hook()];
    let mut before = counted(&mut node, program);
    let mut seen = [0_u64; 3];
    let mut number: u64 = 0;
    while seen.iter().sum::<u64>() < PACKETS {
        number += 1;
        let mut random = Random(number);
        let mut frame = random.one(&seeds).clone();
        mutate(&mut random, &mut frame);
        if !program.takes(&frame) {
            continue;
        }
        // A verdict that is none of the program's panics in there.
        let (verdict, _) = program.run(node.kernel(), &frame);
        let after = counted(&mut node, program);
        seen[match verdict {
            Verdict::Pass => 0,
            Verdict::Drop => 1,
            Verdict::Back | Verdict::Redirect => 2,
        }] += 1;
        let explained = accounts(program, verdict).into_iter().any(|account| {
            let mut expected = before;
            account(&mut expected);
            expected == after
        });
        assert!(
            explained,
            "{program:?} {verdict:?}, seed {number}: {frame:02x?}\n{before:?}\n{after:?}"
        );
        before = after;
    }
    assert_eq!(
        node.kernel().reasons()[other.hook()],
        other_before,
        "the other hook counts nothing"
    );
    let [passed, dropped, forwarded] = seen;
    let reasons = node.kernel().reasons()[program.hook()];
    println!("{program:?}: passed {passed}, dropped {dropped}, forwarded {forwarded}: {reasons:?}");
    assert!(seen.iter().all(|count| *count > PACKETS / 200), "all verdicts are met");
    if program == Program::Tc {
        let met = Reason::ALL.iter().filter(|reason| reasons[**reason as usize] > 0).count();
        assert!(met >= 13, "{met} reasons are met");
    }
}

#[test]
fn xdp_accounts_for_every_packet() {
    run(Program::Xdp);
}

#[test]
fn tc_accounts_for_every_packet() {
    run(Program::Tc);
}
