//! What the loaded programs do with packets of all kinds: verdict, every byte that goes out, every
//! counter.
//!
//! Both run without an interface, so a packet seems to come in through the loopback interface of a
//! network namespace that has no route: the kernel's own routing finds no way, neither to a
//! backend without a next hop nor to a client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, SocketAddr};

use weir::dataplane::kernel::Kernel;
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::transition::transition;
use weir_ebpf::abi::{Counters, Reason, Return, Service, TCP, UDP};
use weir_tests::frames::{
    ACK, ETHERNET, FIN, Frame, IPV6, PSH, RST, SYN, Segment, address, endpoint, read,
};
use weir_tests::program::{
    Counts, PROGRAMS, Program, SMALL, Verdict, backend, commit, image, load, set_forwarding,
};
use weir_tests::random::Random;

/// Backends whose counters are looked at.
const BACKENDS: u16 = 5;
/// Where the first two backends are: their frames leave through another interface than they came.
const AWAY: NextHop = NextHop::plain(7, [2, 7, 0, 0, 0, 1], [2, 7, 0, 0, 0, 2]);
/// Where the next two are: behind the interface that the frame came by.
const HERE: NextHop = NextHop::plain(1, [2, 1, 0, 0, 0, 1], [2, 1, 0, 0, 0, 2]);

/// One service: what clients connect to, and its one backend, whose index is the service's.
struct Way {
    listener: &'static str,
    backend: &'static str,
    hop: Option<NextHop>,
}

const WAYS: [Way; 5] = [
    Way { listener: "198.51.100.1:80", backend: "10.0.0.1:8080", hop: Some(AWAY) },
    Way { listener: "[2001:db8::1]:80", backend: "[fd00::1]:8080", hop: Some(AWAY) },
    Way { listener: "198.51.100.2:80", backend: "10.0.0.2:8080", hop: Some(HERE) },
    Way { listener: "[2001:db8::2]:80", backend: "[fd00::2]:8080", hop: Some(HERE) },
    Way { listener: "198.51.100.3:80", backend: "10.0.0.3:8080", hop: None },
];
/// A service without backends.
const EMPTY: u32 = 5;
/// A listener that points to a service that is not there.
const NOWHERE: u32 = 6;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The program with all of these services.
fn node() -> Kernel {
    let mut kernel = load(SMALL);
    set_forwarding(false);
    let mut change = Commit::default();
    for (index, way) in (0..).zip(WAYS) {
        let (listener, target) = (at(way.listener), at(way.backend));
        let candidate = Candidate {
            identity: Identity { address: address(target.ip()), port: target.port() },
            weight: 100,
        };
        let goal = Goal::new([1; 16], [10_000, 0, 0], [&[candidate], &[], &[]]);
        let goal = goal.on_this_node(&mut |_, _| index);
        let tables = transition(None, &goal, &|_| false).tables;
        let service = Service { seed: [1, 2], ..Service::default() };
        change.services.push((index.into(), Some(image(&service, &tables))));
        change.backends.push((index, backend(target)));
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
    let goal = Goal::new([1; 16], [10_000, 0, 0], [&[], &[], &[]]);
    let empty = transition(None, &goal.on_this_node(&mut |_, _| 0), &|_| false).tables;
    change.services.push((EMPTY, Some(image(&Service::default(), &empty))));
    for (port, service) in [(81, EMPTY), (82, NOWHERE)] {
        for listener in ["198.51.100.1:0", "[2001:db8::1]:0"] {
            let mut listener = at(listener);
            listener.set_port(port);
            for protocol in [TCP, UDP] {
                change.listeners.push((endpoint(listener, protocol), service));
            }
        }
    }
    commit(&mut kernel, change);
    for (index, way) in (0..).zip(WAYS) {
        kernel.set_next_hop(index, way.hop).unwrap();
    }
    kernel
}

/// What must become of a frame.
enum Then {
    /// It goes to this backend as this frame, and counts as the beginning of a flow or not.
    Backend { index: usize, as_frame: Vec<u8>, begins: bool, remembered: bool },
    /// It is left to the stack. TC says why.
    Pass(Reason),
    /// It is dropped.
    Drop(Reason),
    /// XDP leaves it to TC, which drops it.
    TcDrops(Reason),
    /// XDP leaves it to TC, which drops it and tells the sender (what, see `icmp`).
    TcTells(Reason),
}

struct Case {
    name: String,
    frame: Vec<u8>,
    then: Then,
}

/// Runs a case through both programs.
fn check(kernel: &mut Kernel, case: &Case) {
    for program in PROGRAMS.into_iter().filter(|program| program.takes(&case.frame)) {
        for protocol in [TCP, UDP] {
            for (key, _) in kernel.flows(protocol).unwrap() {
                kernel.remove_flow(&key).unwrap();
            }
        }
        let before = Counts::read(kernel, BACKENDS);
        let (verdict, frame) = program.run(kernel, &case.frame);
        let counted = Counts::read(kernel, BACKENDS).since(&before);
        let none = Counts::none(BACKENDS);
        let at = format!("{}, {program:?}", case.name);
        let same = &case.frame;
        let (expected, as_frame, counts) = match &case.then {
            Then::Backend { index, as_frame, begins, remembered } => {
                let counts = none.and_backend(*index, |counters| {
                    *counters = Counters {
                        connections: u64::from(*begins),
                        packets_in: 1,
                        bytes_in: case.frame.len() as u64,
                        tracked: u64::from(*remembered),
                        ..Counters::default()
                    };
                });
                let back = program == Program::Xdp && WAYS[*index].hop == Some(HERE);
                let verdict = if back { Verdict::Back } else { Verdict::Redirect };
                read(&frame).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
                (verdict, as_frame, counts)
            }
            Then::Pass(_) | Then::TcDrops(_) | Then::TcTells(_) if program == Program::Xdp => {
                (Verdict::Pass, same, none)
            }
            Then::TcTells(reason) => (Verdict::Redirect, &frame, none.and_reason(program, *reason)),
            Then::Pass(reason) => (Verdict::Pass, same, none.and_reason(program, *reason)),
            Then::Drop(reason) | Then::TcDrops(reason) => {
                (Verdict::Drop, same, none.and_reason(program, *reason))
            }
        };
        assert_eq!(verdict, expected, "{at}");
        assert_eq!(&frame, as_frame, "{at}");
        assert_eq!(counted, counts, "{at}");
    }
}

fn check_all(cases: &[Case]) {
    let mut kernel = node();
    for case in cases {
        check(&mut kernel, case);
    }
}

/// A frame that must reach the backend of its listener.
fn forwarded(name: impl Into<String>, frame: &Frame) -> Case {
    let index = WAYS.iter().position(|way| at(way.listener) == frame.to).unwrap();
    let begins = match frame.segment {
        Segment::Tcp { flags, .. } => flags & (SYN | ACK | RST | FIN) == SYN,
        Segment::Udp { .. } => true,
    };
    let hop = WAYS[index].hop.unwrap();
    let as_frame = frame.forwarded(at(WAYS[index].backend), &hop).bytes();
    let remembered = frame.protocol() == UDP;
    let then = Then::Backend { index, as_frame, begins, remembered };
    Case { name: name.into(), frame: frame.bytes(), then }
}

fn passed(name: &str, frame: Vec<u8>, reason: Reason) -> Case {
    Case { name: name.to_owned(), frame, then: Then::Pass(reason) }
}

fn tells(name: &str, frame: Vec<u8>, reason: Reason) -> Case {
    Case { name: name.to_owned(), frame, then: Then::TcTells(reason) }
}

fn dropped(name: &str, frame: Vec<u8>, reason: Reason) -> Case {
    Case { name: name.to_owned(), frame, then: Then::Drop(reason) }
}

/// A client of the listener's family.
fn client_of(to: SocketAddr) -> SocketAddr {
    at(if to.is_ipv4() { "192.0.2.7:40000" } else { "[2001:db8:7::7]:40000" })
}

fn tcp(to: &str, flags: u8) -> Frame {
    Frame::tcp(client_of(at(to)), at(to), flags)
}

fn udp(to: &str) -> Frame {
    Frame::udp(client_of(at(to)), at(to))
}

const V4: &str = "198.51.100.1:80";
const V6: &str = "[2001:db8::1]:80";

/// A frame with a byte changed.
fn with(mut frame: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    frame[at] = value;
    frame
}

/// A frame with a VLAN tag.
fn tagged(mut frame: Vec<u8>, ether_type: u16) -> Vec<u8> {
    let [a, b] = ether_type.to_be_bytes();
    frame.splice(12..12, [a, b, 0, 42]);
    frame
}

#[test]
fn to_a_backend() {
    let mut cases = Vec::new();
    for way in &WAYS[..4] {
        let to = way.listener;
        for (name, flags) in [
            ("SYN", SYN),
            ("SYN and ACK", SYN | ACK),
            ("ACK", ACK),
            ("data", PSH | ACK),
            ("FIN", FIN | ACK),
            ("RST", RST),
            ("SYN and FIN", SYN | FIN),
            ("no flags", 0),
        ] {
            cases.push(forwarded(format!("TCP {name} to {to}"), &tcp(to, flags)));
        }
        let frame = Frame { payload: vec![0xa5; 1000], ..tcp(to, PSH | ACK) };
        cases.push(forwarded(format!("1000 bytes over TCP to {to}"), &frame));
        let mut frame = tcp(to, SYN);
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7].to_vec();
        frame.segment = Segment::Tcp { flags: SYN, options };
        cases.push(forwarded(format!("SYN with options to {to}"), &frame));
        cases.push(forwarded(format!("UDP to {to}"), &udp(to)));
        let frame = Frame { payload: Vec::new(), ..udp(to) };
        cases.push(forwarded(format!("empty UDP to {to}"), &frame));
        let frame = Frame { payload: vec![0x5a; 1001], ..udp(to) };
        cases.push(forwarded(format!("1001 bytes over UDP to {to}"), &frame));
        let frame = Frame { segment: Segment::Udp { checksum: false }, ..udp(to) };
        cases.push(forwarded(format!("UDP without checksum to {to}"), &frame));
        let frame = Frame { hop_limit: 2, ..tcp(to, SYN) };
        cases.push(forwarded(format!("two hops left to {to}"), &frame));
        let frame = Frame { hop_limit: 255, ..udp(to) };
        cases.push(forwarded(format!("255 hops left to {to}"), &frame));
    }
    check_all(&cases);
}

#[test]
fn headers_between() {
    let mut cases = Vec::new();
    for length in [4, 20, 40] {
        let options = vec![1; length]; // no operation
        let frame = Frame { options: options.clone(), ..tcp(V4, SYN) };
        cases.push(forwarded(format!("{length} bytes of IPv4 options, TCP"), &frame));
        let frame = Frame { options, ..udp(V4) };
        cases.push(forwarded(format!("{length} bytes of IPv4 options, UDP"), &frame));
    }
    let (hop_by_hop, routing, destination) = (0, 43, 60);
    // Options of six bytes: one PadN over all of them.
    let pad = |number: u8| (number, vec![1, 4, 0, 0, 0, 0]);
    let long = |number: u8| (number, [&[1, 252][..], &[0; 252]].concat());
    let chains = [
        vec![pad(hop_by_hop)],
        vec![pad(destination)],
        vec![(routing, vec![4, 0, 0, 0, 0, 0])],
        vec![pad(hop_by_hop), pad(destination)],
        vec![pad(hop_by_hop), pad(destination), (routing, vec![4, 0, 0, 0, 0, 0])],
        vec![
            pad(hop_by_hop),
            pad(destination),
            (routing, vec![4, 0, 0, 0, 0, 0]),
            pad(destination),
        ],
        vec![long(destination)],
    ];
    for extensions in chains {
        for base in [tcp(V6, SYN), udp(V6)] {
            let numbers: Vec<_> = extensions.iter().map(|(number, _)| *number).collect();
            let name = format!("IPv6 extensions {numbers:?}, protocol {}", base.protocol());
            let frame = Frame { extensions: extensions.clone(), ..base };
            cases.push(forwarded(name, &frame));
        }
    }
    let five = [hop_by_hop, destination, routing, destination, destination].map(pad).to_vec();
    let frame = Frame { extensions: five, ..tcp(V6, SYN) };
    cases.push(passed("five IPv6 extensions", frame.bytes(), Reason::NotTransport));
    let frame = Frame { extensions: vec![pad(135)], ..tcp(V6, SYN) };
    cases.push(passed("an IPv6 mobility header", frame.bytes(), Reason::NotTransport));
    check_all(&cases);
}

#[test]
fn dropped_and_counted() {
    let last = |frame: Frame, left| Frame { hop_limit: left, ..frame }.bytes();
    check_all(&[
        tells("IPv4 TCP, the last hop", last(tcp(V4, SYN), 1), Reason::HopLimit),
        tells("IPv4 TCP, no hop", last(tcp(V4, SYN), 0), Reason::HopLimit),
        tells("IPv6 TCP, the last hop", last(tcp(V6, ACK), 1), Reason::HopLimit),
        tells("IPv6 UDP, the last hop", last(udp(V6), 1), Reason::HopLimit),
        tells("IPv4 UDP, no hop", last(udp(V4), 0), Reason::HopLimit),
        dropped("no backend, TCP", tcp("198.51.100.1:81", SYN).bytes(), Reason::NoBackend),
        dropped("no backend, ACK", tcp("[2001:db8::1]:81", ACK).bytes(), Reason::NoBackend),
        dropped("no backend, UDP", udp("198.51.100.1:81").bytes(), Reason::NoBackend),
        dropped("no service", tcp("198.51.100.1:82", SYN).bytes(), Reason::NoTable),
        dropped("no service, UDP", udp("[2001:db8::1]:82").bytes(), Reason::NoTable),
        // A next hop that the agent does not know: TC asks the kernel, which knows no way here.
        Case {
            name: "no way to the backend".to_owned(),
            frame: tcp("198.51.100.3:80", SYN).bytes(),
            then: Then::TcDrops(Reason::NoRoute),
        },
    ]);
}

#[test]
fn passed_and_counted() {
    let (v4, v6) = (tcp(V4, SYN).bytes(), tcp(V6, SYN).bytes());
    let (v4_udp, v6_udp) = (udp(V4).bytes(), udp(V6).bytes());
    let l4 = ETHERNET + 20;
    let l4_v6 = ETHERNET + IPV6;
    let short = |frame: &[u8], length: usize| frame[..length].to_vec();
    let mut mapped = v6.clone();
    mapped[ETHERNET + 8..ETHERNET + 24]
        .copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]);
    let other = |frame: &[u8], ether_type: u16| {
        let [a, b] = ether_type.to_be_bytes();
        with(with(frame.to_vec(), 12, a), 13, b)
    };
    check_all(&[
        passed("another port", tcp("198.51.100.1:8080", SYN).bytes(), Reason::NotOurs),
        passed("another port, UDP", udp("[2001:db8::1]:443").bytes(), Reason::NotOurs),
        passed("another address", tcp("198.51.100.99:80", SYN).bytes(), Reason::NotOurs),
        passed("another IPv6 address", udp("[2001:db8::99]:80").bytes(), Reason::NotOurs),
        passed("ARP", other(&v4, 0x0806), Reason::NotIp),
        passed("an unknown ether type", other(&v6, 0x88cc), Reason::NotIp),
        passed("an 802.1Q tag", tagged(v4.clone(), 0x8100), Reason::Vlan),
        passed("an 802.1ad tag", tagged(v6.clone(), 0x88a8), Reason::Vlan),
        passed("ICMP", with(v4.clone(), ETHERNET + 9, 1), Reason::NotTransport),
        passed("ICMPv6", with(v6.clone(), ETHERNET + 6, 58), Reason::NotTransport),
        passed("SCTP", with(v4.clone(), ETHERNET + 9, 132), Reason::NotTransport),
        passed("IPv4 of version 5", with(v4.clone(), ETHERNET, 0x55), Reason::Malformed),
        passed("IPv6 of version 4", with(v6.clone(), ETHERNET, 0x45), Reason::Malformed),
        passed("16 bytes of IPv4 header", with(v4.clone(), ETHERNET, 0x44), Reason::Malformed),
        passed("a header beyond the packet", with(v4.clone(), ETHERNET, 0x4f), Reason::Malformed),
        passed("IPv4 longer than the frame", with(v4.clone(), ETHERNET + 3, 41), Reason::Malformed),
        passed(
            "IPv4 shorter than its header",
            with(v4.clone(), ETHERNET + 3, 19),
            Reason::Malformed,
        ),
        passed("IPv4 ends in TCP", with(v4.clone(), ETHERNET + 3, 39), Reason::Malformed),
        passed("IPv6 longer than the frame", with(v6.clone(), ETHERNET + 5, 21), Reason::Malformed),
        passed("IPv6 ends in TCP", with(v6.clone(), ETHERNET + 5, 19), Reason::Malformed),
        passed("IPv4 frame cut in TCP", short(&v4, l4 + 19), Reason::Malformed),
        passed("IPv4 frame cut in IP", short(&v4, ETHERNET + 19), Reason::Malformed),
        passed("IPv6 frame cut in TCP", short(&v6, l4_v6 + 19), Reason::Malformed),
        passed("IPv6 frame cut in IP", short(&v6, ETHERNET + 39), Reason::Malformed),
        passed("UDP frame cut", short(&v4_udp, l4 + 7), Reason::Malformed),
        passed("a TCP header of 16 bytes", with(v4.clone(), l4 + 12, 0x40), Reason::Malformed),
        passed("a TCP header beyond", with(v6.clone(), l4_v6 + 12, 0x60), Reason::Malformed),
        passed("UDP of seven bytes", with(v4_udp.clone(), l4 + 5, 7), Reason::Malformed),
        passed("UDP longer than the packet", with(v6_udp, l4_v6 + 5, 14), Reason::Malformed),
        passed("IPv6 from a mapped address", mapped, Reason::Malformed),
    ]);
}

/// Bytes behind the packet, as a short Ethernet frame has them, are carried along.
#[test]
fn padding_is_carried_along() {
    let padded = |frame: Vec<u8>| [frame, vec![0xee; 9]].concat();
    let mut cases = Vec::new();
    for to in [V4, V6] {
        for base in [tcp(to, SYN), udp(to)] {
            let mut case = forwarded(format!("padded {to}"), &base);
            case.frame = padded(case.frame);
            if let Then::Backend { as_frame, .. } = &mut case.then {
                *as_frame = padded(as_frame.clone());
            }
            cases.push(case);
        }
    }
    check_all(&cases);
}

/// Answers. The client is beyond a route that does not exist here, so XDP leaves them to TC; and
/// TC leaves them to the stack, for which they may be meant: also where nothing is forwarded.
#[test]
fn answers_without_a_route() {
    let mut kernel = node();
    let answer = |from: &str, protocol: u8| {
        let (from, to) = (at(from), client_of(at(from)));
        match protocol {
            TCP => Frame::tcp(from, to, SYN | ACK),
            _ => Frame::udp(from, to),
        }
        .bytes()
    };
    for forwarding in [false, true] {
        set_forwarding(forwarding);
        for from in ["10.0.0.1:8080", "[fd00::1]:8080"] {
            for protocol in [TCP, UDP] {
                let then = Then::Pass(Reason::Direct);
                let name = format!("answer of {from}, protocol {protocol}, {forwarding}");
                check(&mut kernel, &Case { name, frame: answer(from, protocol), then });
            }
            let mut from = at(from);
            from.set_port(9);
            let frame = Frame::tcp(from, client_of(from), ACK).bytes();
            check(&mut kernel, &passed("from another port of a backend", frame, Reason::NotOurs));
        }
    }
}

/// A client that speaks to a backend itself, through this node: both ways are left alone.
#[test]
fn direct_connections_are_left_alone() {
    let mut kernel = node();
    set_forwarding(false);
    for server in ["10.0.0.1:8080", "[fd00::1]:8080"] {
        let (server, client) = (at(server), client_of(at(server)));
        let there = Frame::tcp(client, server, SYN).bytes();
        check(&mut kernel, &passed("direct, to the backend", there, Reason::Direct));
        let back = Frame::tcp(server, client, SYN | ACK).bytes();
        check(&mut kernel, &passed("direct, from the backend", back, Reason::Direct));
    }
}

/// Any addresses, ports and contents: the frame that goes out is the one that `etherparse` would
/// have built. Checksums that are reckoned by difference meet all their corners here.
#[test]
fn any_frame_is_rewritten_right() {
    const FRAMES: u64 = 10_000;
    let kernel = node();
    let mut random = Random(4);
    let mut expected = Counts::none(BACKENDS);
    let before = Counts::read(&kernel, BACKENDS);
    for n in 0..FRAMES {
        let index = random.below(4);
        let way = &WAYS[index];
        let to = at(way.listener);
        let mut from = client_of(to);
        from.set_ip(match from.ip() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                let [c, d] = random.half().to_be_bytes();
                [a, b, c, d].into()
            }
            IpAddr::V6(ip) => {
                let mut octets = ip.octets();
                octets[12..].copy_from_slice(&random.bytes(4));
                octets.into()
            }
        });
        // A flow each, so that every datagram begins one.
        from.set_port(u16::try_from(n).unwrap());
        let mut frame = if random.percent(50) {
            Frame::tcp(from, to, random.byte() & (SYN | ACK | FIN | RST | PSH))
        } else {
            Frame::udp(from, to)
        };
        frame.hop_limit = 2 + random.byte() % 254;
        let length = if random.percent(50) { random.below(4) } else { random.below(1400) };
        frame.payload = random.bytes(length);
        let Case { frame: bytes, then, .. } = forwarded("", &frame);
        let Then::Backend { as_frame, begins, remembered, .. } = then else { unreachable!() };
        let program = PROGRAMS[usize::from(random.percent(50))];
        let (verdict, out) = program.run(&kernel, &bytes);
        assert!(matches!(verdict, Verdict::Redirect | Verdict::Back), "{frame:?}");
        assert_eq!(out, as_frame, "{program:?}: {frame:?}");
        let seen = read(&out).unwrap();
        assert_eq!((seen.from, seen.to), (frame.from, at(way.backend)));
        assert_eq!(seen.hop_limit, frame.hop_limit - 1);
        expected = expected.and_backend(index, |counters| {
            counters.connections += u64::from(begins);
            counters.packets_in += 1;
            counters.bytes_in += bytes.len() as u64;
            counters.tracked += u64::from(remembered);
        });
    }
    assert_eq!(Counts::read(&kernel, BACKENDS).since(&before), expected);
}
