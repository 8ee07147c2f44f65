//! A million broken packets: each passes, is dropped, is answered or is forwarded, and is counted
//! once.
//!
//! The kernel's own routing knows no way here (see `packets`), so no answer is sent on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use weir::dataplane::kernel::Kernel;
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::transition::transition;
use weir_ebpf::abi::{Endpoint, NO_SERVICE, Reason, Return, Service, TCP, UDP};
use weir_tests::datagrams::{Message, fragments};
use weir_tests::frames::{ACK, ETHERNET, Frame, SYN, address, endpoint};
use weir_tests::program::{Program, SMALL, Verdict, backend, commit, image, load, set_forwarding};
use weir_tests::random::Random;

/// Packets for each program.
const PACKETS: u64 = 500_000;

/// Listener and backend, by index: the backend of the last one has no known next hop.
const SERVICES: [(&str, &str); 4] = [
    ("198.51.100.1:80", "10.0.0.1:8080"),
    ("[2001:db8::1]:80", "[fd00::1]:8080"),
    ("198.51.100.2:80", "10.0.0.2:8080"),
    ("[2001:db8::2]:80", "[fd00::2]:8080"),
];
const UNKNOWN_HOP: [u16; 2] = [2, 3];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two services with all flows tracked, and two whose backend has no next hop.
fn node() -> Kernel {
    let mut kernel = load(SMALL);
    set_forwarding(false);
    let mut change = Commit::default();
    for (index, (listener, target)) in (0..).zip(SERVICES) {
        let (listener, target) = (at(listener), at(target));
        let identity = Identity { address: address(target.ip()), port: target.port() };
        let candidate = [Candidate { identity, weight: 100 }];
        let goal = |weights: [u16; 3]| {
            Goal::new([1; 16], weights, [&candidate, &candidate, &[]])
                .on_this_node(&mut |_, _| index)
        };
        let mut tables = transition(None, &goal([10_000, 0, 0]), &|_| false).tables;
        // A tenth has no backend, a half is tracked.
        let next = transition(Some(&tables), &goal([4_000, 5_000, 1_000]), &|_| false);
        tables = next.tables;
        let service = Service { seed: [1, 2], ..Service::default() };
        change.services.push((index.into(), Some(image(&service, &tables))));
        change.backends.push((index, backend(target)));
        let marker = Endpoint { port: 0, ..endpoint(listener, 0) };
        change.listeners.push((marker, NO_SERVICE));
        for protocol in [TCP, UDP] {
            change.listeners.push((endpoint(listener, protocol), index.into()));
            let back = Return {
                address: address(listener.ip()),
                port: listener.port().to_be(),
                backend: index,
            };
            change.returns.push((endpoint(target, protocol), back));
        }
    }
    commit(&mut kernel, change);
    for index in (0..4).filter(|index| !UNKNOWN_HOP.contains(index)) {
        let interface = 1 + 6 * u32::from(index);
        let hop = NextHop::plain(interface, [2; 6], [4; 6]);
        kernel.set_next_hop(index, Some(hop)).unwrap();
    }
    kernel
}

/// Frames that are taken, for mutation: all protocols, headers and directions.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (listener, target) in SERVICES.map(|(l, t)| (at(l), at(t))) {
        let client = at(if listener.is_ipv4() { "192.0.2.7:4000" } else { "[2001:db8:7::7]:4000" });
        for (from, to) in [(client, listener), (target, client), (client, target)] {
            for base in [
                Frame::tcp(from, to, SYN),
                Frame::tcp(from, to, ACK),
                Frame { payload: vec![7; 100], ..Frame::tcp(from, to, ACK) },
                Frame::udp(from, to),
                Frame { hop_limit: 1, ..Frame::udp(from, to) },
            ] {
                let mut long = base.clone();
                if from.is_ipv4() {
                    long.options = vec![1; 12];
                } else {
                    let pad = |number| (number, vec![1, 4, 0, 0, 0, 0]);
                    long.extensions = vec![pad(0), pad(43), pad(60)];
                }
                seeds.extend([base.bytes(), long.bytes()]);
            }
        }
        // What programs of their own treat.
        let whole = Frame { payload: vec![3; 200], ..Frame::udp(client, listener) };
        seeds.extend(fragments(&whole.bytes(), 9, &[64, 128]));
        seeds.extend(fragments(&Frame::tcp(client, listener, SYN).bytes(), 9, &[]));
        let v4 = client.is_ipv4();
        let echo = Message { kind: (if v4 { 8 } else { 128 }, 0), rest: [0; 4], body: vec![1; 40] };
        seeds.push(echo.between(client.ip(), listener.ip()).bytes());
        for (from, to) in [(listener, client), (client, target)] {
            for about in [Frame::tcp(from, to, ACK), Frame::udp(from, to)] {
                let body = about.bytes()[ETHERNET..].to_vec();
                let kind = if v4 { (3, 4) } else { (2, 0) };
                let error = Message { kind, rest: [0, 0, 5, 0], body };
                seeds.push(error.between(target.ip(), from.ip()).bytes());
            }
        }
        // One of all these has a VLAN tag.
        let mut tagged = Frame::tcp(client, listener, SYN).bytes();
        tagged.splice(12..12, [0x81, 0, 0, 42]);
        seeds.push(tagged);
    }
    seeds
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
    /// Passed or dropped: the first where no listener's address is concerned.
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

fn counted(kernel: &Kernel, program: Program) -> Counted {
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
    for index in 0..4 {
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
    let kernel = node();
    let seeds = seeds();
    let other = if program == Program::Xdp { Program::Tc } else { Program::Xdp };
    let other_before = kernel.reasons()[other.hook()];
    let mut before = counted(&kernel, program);
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
        let (verdict, _) = program.run(&kernel, &frame);
        let after = counted(&kernel, program);
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
    assert_eq!(kernel.reasons()[other.hook()], other_before, "the other hook counts nothing");
    let [passed, dropped, forwarded] = seen;
    let reasons = kernel.reasons()[program.hook()];
    println!("{program:?}: passed {passed}, dropped {dropped}, forwarded {forwarded}: {reasons:?}");
    assert!(seen.iter().all(|count| *count > PACKETS / 100), "all verdicts are met");
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
