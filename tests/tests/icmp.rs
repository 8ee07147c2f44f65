//! What the loaded TC program does with ICMP and ICMPv6: every byte that goes out, every counter.
//! XDP touches none of it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::{Reason, TCP};
use weir_tests::balancer::{CLIENT_MACS, Way, at, client_of, start};
use weir_tests::datagrams::{Datagram, Message, fragments};
use weir_tests::frames::{ACK, ETHERNET, Frame, SYN};
use weir_tests::program::{Counts, PROGRAMS, Program, SMALL, Verdict};
use weir_tests::random::Random;

const HOP: NextHop = NextHop::plain(7, [2, 7, 0, 0, 0, 1], [2, 7, 0, 0, 0, 2]);
const WAYS: [Way; 2] = [
    Way { listener: "198.51.100.1:80", backend: "10.0.0.1:8080", hop: HOP },
    Way { listener: "[2001:db8::1]:80", backend: "[fd00::1]:8080", hop: HOP },
];
const BACKENDS: u16 = 2;

/// Somebody on the way to the client, and on the way to a backend.
fn router(family: usize) -> IpAddr {
    ["203.0.113.9", "2001:db8:9::9"][family].parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs both programs. XDP leaves the frame; TC says `verdict`, gives `out`, and counts `reasons`.
fn expect(
    kernel: &Kernel,
    name: &str,
    frame: &[u8],
    (verdict, out): (Verdict, &[u8]),
    reasons: &[Reason],
) {
    for program in PROGRAMS.into_iter().filter(|program| program.takes(frame)) {
        let before = Counts::read(kernel, BACKENDS);
        let (said, left) = program.run(kernel, frame);
        let counted = Counts::read(kernel, BACKENDS).since(&before);
        let none = Counts::none(BACKENDS);
        if program == Program::Xdp {
            assert_eq!((said, &left[..], counted), (Verdict::Pass, frame, none), "{name}, XDP");
            continue;
        }
        let wanted = reasons.iter().fold(none, |all, reason| all.and_reason(program, *reason));
        assert_eq!(said, verdict, "{name}: {counted:?}");
        assert_eq!(left, out, "{name}:\n{left:02x?}\n{out:02x?}");
        assert_eq!(counted, wanted, "{name}");
    }
}

fn passes(kernel: &Kernel, name: &str, frame: &[u8], reason: Reason) {
    expect(kernel, name, frame, (Verdict::Pass, frame), &[reason]);
}

fn request(listener: IpAddr, body: Vec<u8>) -> Datagram {
    let kind = if listener.is_ipv4() { (8, 0) } else { (128, 0) };
    let message = Message { kind, rest: [0x12, 0x34, 0, 1], body };
    message.between(client_of(listener).ip(), listener)
}

/// What must come back to an echo request.
fn echoed(request: &Datagram) -> Datagram {
    let body = request.payload[8..].to_vec();
    let kind = if request.from.is_ipv4() { (0, 0) } else { (129, 0) };
    let rest = request.payload[4..8].try_into().unwrap();
    let [to, from] = request.macs;
    let reply = Message { kind, rest, body }.between(request.to, request.from);
    Datagram {
        macs: [from, to],
        traffic_class: request.traffic_class,
        hop_limit: 64,
        id: request.id,
        ..reply
    }
}

#[test]
fn an_echo_request_is_answered() {
    let kernel = start(SMALL, &WAYS);
    for way in WAYS {
        let listener = at(way.listener).ip();
        for size in [0, 1, 2, 56, 57, 1000, 1472, 3000] {
            for (hop_limit, traffic_class) in [(64, 0), (1, 0xb8), (255, 3)] {
                let request = request(listener, Random(size as u64).bytes(size));
                let request = Datagram { hop_limit, traffic_class, ..request };
                let (frame, answer) = (request.bytes(), echoed(&request).bytes());
                let name = format!("{size} bytes to {listener}");
                expect(&kernel, &name, &frame, (Verdict::Redirect, &answer), &[Reason::Echo]);
            }
        }
        // What a short Ethernet frame has behind the packet comes back too.
        let request = request(listener, b"ab".to_vec());
        let padded = |datagram: &Datagram| [datagram.bytes(), vec![0xee; 7]].concat();
        let (frame, answer) = (padded(&request), padded(&echoed(&request)));
        expect(&kernel, "padded", &frame, (Verdict::Redirect, &answer), &[Reason::Echo]);
    }
}

#[test]
fn other_messages_are_left_alone() {
    let kernel = start(SMALL, &WAYS);
    let leave = |name: &str, datagram: &Datagram| {
        passes(&kernel, name, &datagram.bytes(), Reason::NotTransport);
    };
    for (way, (other, bad)) in WAYS.iter().zip([
        ("198.51.100.99", &["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"][..]),
        ("2001:db8::99", &["::", "::1", "ff02::1"][..]),
    ]) {
        let listener = at(way.listener).ip();
        let good = request(listener, vec![7; 40]);
        leave("to another address", &request(ip(other), vec![7; 40]));
        leave("to a backend", &request(at(way.backend).ip(), vec![7; 40]));
        for from in bad {
            leave(from, &Datagram { from: ip(from), ..good.clone() });
        }
        let macs = [[0xff; 6], good.macs[1]];
        leave("to everybody's MAC address", &Datagram { macs, ..good.clone() });
        leave("cut short", &Datagram { payload: good.payload[..7].to_vec(), ..good.clone() });
        leave("empty", &Datagram { payload: Vec::new(), ..good.clone() });
        let from = good.from;
        for kind in [(0, 0), (129, 0), (13, 0), (5, 0), (9, 0), (135, 0), (136, 0), (200, 7)] {
            let message = Message { kind, rest: [0; 4], body: vec![9; 60] };
            leave(&format!("{kind:?}"), &message.between(from, listener));
        }
        // ICMP in IPv6 and the other way round is nothing that exists.
        let protocol = if from.is_ipv4() { 58 } else { 1 };
        let kind = if from.is_ipv4() { 128 } else { 8 };
        let payload = [&[kind][..], &good.payload[1..]].concat();
        leave("of the other family", &Datagram { protocol, payload, ..good.clone() });
        for (n, piece) in fragments(&good.bytes(), 99, &[24]).iter().enumerate() {
            passes(&kernel, &format!("fragment {n}"), piece, Reason::Fragment);
        }
    }
}

/// No more than the limit and what it gives for a tenth of a second; later, some again.
#[test]
fn answers_are_limited() {
    const SENT: u64 = 200;
    let kernel = start(Options { icmp_per_second: 100, ..SMALL }, &WAYS);
    let frame = request(at(WAYS[0].listener).ip(), vec![0; 56]).bytes();
    let burst = || {
        let before = Counts::read(&kernel, BACKENDS).reasons[Program::Tc.hook()];
        let started = std::time::Instant::now();
        let mut answered = 0;
        for _ in 0..SENT {
            answered += u64::from(Program::Tc.run(&kernel, &frame).0 == Verdict::Redirect);
        }
        let took = u64::try_from(started.elapsed().as_millis()).unwrap();
        let after = Counts::read(&kernel, BACKENDS).reasons[Program::Tc.hook()];
        let counted = |reason: Reason| after[reason as usize] - before[reason as usize];
        assert_eq!(counted(Reason::Echo), answered);
        assert_eq!(counted(Reason::Silenced), SENT - answered);
        (answered, took)
    };
    // Each processor has an allowance of its own, and the test may move between them.
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    for _ in 0..2 {
        let (answered, took) = burst();
        let most = processors * (12 + (took + 50) / 10);
        assert!(answered > 0 && answered < most, "{answered} in {took} ms");
        assert!(answered < SENT || took > 1000, "{answered} in {took} ms");
        sleep(Duration::from_millis(300));
    }
    let silent = start(Options { icmp_per_second: 0, ..SMALL }, &WAYS);
    let (verdict, left) = Program::Tc.run(&silent, &frame);
    assert_eq!((verdict, left), (Verdict::Drop, frame));
}

/// Types and codes of errors about a packet.
fn errors(family: usize) -> Vec<((u8, u8), [u8; 4])> {
    let mtu = [0, 0, 0x05, 0x78];
    [
        vec![((3, 1), [0; 4]), ((3, 4), mtu), ((11, 0), [0; 4]), ((12, 0), [20, 0, 0, 0])],
        vec![((1, 4), [0; 4]), ((2, 0), mtu), ((3, 0), [0; 4]), ((4, 1), [0, 0, 0, 6])],
    ][family]
        .clone()
}

/// An error that quotes the first bytes of `about`.
fn error(
    ((kind, rest), quoted): (((u8, u8), [u8; 4]), usize),
    from: IpAddr,
    about: &Frame,
) -> Datagram {
    let packet = about.bytes()[ETHERNET..].to_vec();
    let body = packet[..quoted.min(packet.len())].to_vec();
    Message { kind, rest, body }.between(from, about.from.ip())
}

/// The error that `seen` must become, which quotes `own` instead. Half a checksum cannot be mended,
/// and stays.
fn translated(
    (kind, quoted): (((u8, u8), [u8; 4]), usize),
    from: IpAddr,
    seen: &Frame,
    own: &Frame,
) -> Datagram {
    let half = if own.from.is_ipv4() { 20 } else { 40 } + 17;
    let mut own_bytes = own.bytes()[ETHERNET..].to_vec();
    if own.protocol() == TCP && quoted == half {
        own_bytes[half - 1] = seen.bytes()[ETHERNET + half - 1];
    }
    let body = own_bytes[..quoted.min(own_bytes.len())].to_vec();
    let error = Message { kind: kind.0, rest: kind.1, body }.between(from, own.from.ip());
    Datagram { hop_limit: error.hop_limit - 1, ..error }
}

/// Packets of a flow, from one end to the other, as long as one cares to quote.
fn about(from: SocketAddr, to: SocketAddr) -> [Frame; 3] {
    let payload = Random(77).bytes(600);
    let unsummed = weir_tests::frames::Segment::Udp { checksum: false };
    [
        Frame { payload: payload.clone(), ..Frame::tcp(from, to, ACK) },
        Frame { payload: payload.clone(), ..Frame::udp(from, to) },
        Frame { payload, segment: unsummed, ..Frame::udp(from, to) },
    ]
}

/// Errors about what a client was sent reach the backend, as if about what the backend has sent.
#[test]
fn an_error_about_an_answer_reaches_the_backend() {
    let kernel = start(SMALL, &WAYS);
    for (family, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        let client = client_of(listener.ip());
        for (seen, own) in about(listener, client).iter().zip(about(backend, client)) {
            for kind in errors(family) {
                for from in [router(family), client.ip()] {
                    for quoted in [48, 61, 128, 500] {
                        let came = error((kind, quoted), from, seen);
                        let mut goes = translated((kind, quoted), from, seen, &own);
                        goes.macs = [HOP.mac, HOP.interface_mac];
                        let name = format!("{kind:?} from {from}, {quoted} bytes of {seen:?}");
                        let out = (Verdict::Redirect, &goes.bytes()[..]);
                        expect(&kernel, &name, &came.bytes(), out, &[Reason::Quoted]);
                    }
                }
            }
        }
    }
}

/// Errors about what a backend was sent reach the client, as if about what the client has sent;
/// the backend's own come from the listener.
#[test]
fn an_error_about_a_request_reaches_the_client() {
    let kernel = start(SMALL, &WAYS);
    for (family, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        let client = client_of(listener.ip());
        for (seen, own) in about(client, backend).iter().zip(about(client, listener)) {
            for kind in errors(family) {
                for (from, as_if) in
                    [(router(family), router(family)), (backend.ip(), listener.ip())]
                {
                    for quoted in [48, 61, 128, 500] {
                        let came = error((kind, quoted), from, seen);
                        let mut goes = translated((kind, quoted), as_if, seen, &own);
                        goes.macs = CLIENT_MACS;
                        let name = format!("{kind:?} from {from}, {quoted} bytes of {seen:?}");
                        let out = (Verdict::Redirect, &goes.bytes()[..]);
                        expect(&kernel, &name, &came.bytes(), out, &[Reason::Quoted]);
                    }
                }
            }
        }
    }
}

/// Errors that are about nothing of ours, or that cannot be believed.
#[test]
fn other_errors_are_left_alone() {
    let kernel = start(SMALL, &WAYS);
    for (family, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        let client = client_of(listener.ip());
        let kind = errors(family)[0];
        let leave = |name: &str, datagram: &Datagram| {
            passes(&kernel, name, &datagram.bytes(), Reason::NotTransport);
        };
        let port = |at: SocketAddr, port| SocketAddr::new(at.ip(), port);
        let ours = Frame::tcp(listener, client, ACK);
        let good = error((kind, 500), router(family), &ours);
        leave(
            "another port",
            &error(
                (kind, 500),
                router(family),
                &Frame { from: port(listener, 81), ..ours.clone() },
            ),
        );
        let to_backend = Frame::tcp(client, port(backend, 81), ACK);
        leave("a backend's other port", &error((kind, 500), router(family), &to_backend));
        leave(
            "to somebody else",
            &Message { kind: kind.0, rest: kind.1, body: good.payload[8..].to_vec() }
                .between(router(family), client.ip()),
        );
        // A direct connection of the client: first seen, then reported.
        let direct = Frame::tcp(port(client, 50_000), backend, SYN);
        passes(&kernel, "direct", &direct.bytes(), Reason::Direct);
        leave("about a direct connection", &error((kind, 500), backend.ip(), &direct));
        // The node's own connection to a backend.
        let own = ["192.0.2.1", "2001:db8:7::1"][family];
        let own = Frame::tcp(SocketAddr::new(ip(own), 50_000), backend, SYN);
        let datagram = error((kind, 500), backend.ip(), &own);
        passes(&kernel, "about the node's own", &datagram.bytes(), Reason::Direct);
        if family == 1 {
            let extended = Frame { extensions: vec![(60, vec![1, 4, 0, 0, 0, 0])], ..ours.clone() };
            leave("an extension in the quote", &error((kind, 500), router(family), &extended));
        } else {
            let mut later = good.clone();
            later.payload[8 + 7] = 1;
            leave("a later fragment in the quote", &later);
            for ihl in [0x44, 0x4f, 0x65] {
                let mut odd = good.clone();
                odd.payload[8] = ihl;
                leave("an odd header in the quote", &odd);
            }
            let options = Frame { options: vec![1; 40], ..ours.clone() };
            let own = Frame { from: backend, ..options.clone() };
            let came = error((kind, 500), router(family), &options);
            let goes = Datagram {
                macs: [HOP.mac, HOP.interface_mac],
                ..translated((kind, 500), router(family), &options, &own)
            };
            let out = (Verdict::Redirect, &goes.bytes()[..]);
            expect(&kernel, "options in the quote", &came.bytes(), out, &[Reason::Quoted]);
        }
        let tired = Datagram { hop_limit: 1, ..good.clone() }.bytes();
        expect(&kernel, "no hop left", &tired, (Verdict::Drop, &tired), &[Reason::HopLimit]);
    }
}

/// A quote of any length is translated as far as it goes, or left whole: never half of it.
#[test]
fn a_quote_is_never_mangled() {
    let kernel = start(SMALL, &WAYS);
    for (family, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        let client = client_of(listener.ip());
        let kind = errors(family)[1];
        let least = [20, 40][family] + 8;
        for (seen, own) in about(listener, client).iter().zip(about(backend, client)) {
            for quoted in 0..150 {
                let came = error((kind, quoted), router(family), seen).bytes();
                if quoted < least {
                    passes(&kernel, &format!("{quoted} bytes"), &came, Reason::NotTransport);
                    continue;
                }
                let goes = Datagram {
                    macs: [HOP.mac, HOP.interface_mac],
                    ..translated((kind, quoted), router(family), seen, &own)
                };
                let name = format!("{quoted} bytes of {seen:?}");
                let out = (Verdict::Redirect, &goes.bytes()[..]);
                expect(&kernel, &name, &came, out, &[Reason::Quoted]);
                // A frame that ends before its packet does.
                let cut = &came[..came.len() - 1];
                if Program::Tc.takes(cut) {
                    passes(&kernel, "a short frame", cut, Reason::Malformed);
                }
            }
        }
    }
}

/// Any addresses, ports and contents: the checksums, mended by what changed, are what they would
/// be if reckoned anew.
#[test]
fn any_error_is_translated_right() {
    let kernel = start(SMALL, &WAYS);
    let mut random = Random(5);
    for _ in 0..5_000 {
        let family = random.below(2);
        let way = WAYS[family];
        let (listener, backend) = (at(way.listener), at(way.backend));
        let octets = random.bytes(3);
        let client: IpAddr = match family {
            0 => [192, octets[0], octets[1], octets[2]].into(),
            _ => IpAddr::from([0x2001, 0xdb8, 7, 0, 0, 1, u16::from(octets[0]), octets[1].into()]),
        };
        let client = SocketAddr::new(client, random.half());
        let payload_length = random.below(300);
        let payload = random.bytes(payload_length);
        let tcp = random.percent(50);
        let frame = |from| {
            let frame = if tcp { Frame::tcp(from, client, ACK) } else { Frame::udp(from, client) };
            Frame { payload: payload.clone(), ..frame }
        };
        let kinds = errors(family);
        let kind = *random.one(&kinds);
        let quoted = 48 + random.below(400);
        let came = error((kind, quoted), router(family), &frame(listener));
        let goes = Datagram {
            macs: [HOP.mac, HOP.interface_mac],
            ..translated((kind, quoted), router(family), &frame(listener), &frame(backend))
        };
        let (verdict, out) = Program::Tc.run(&kernel, &came.bytes());
        assert_eq!((verdict, out), (Verdict::Redirect, goes.bytes()), "{client} {quoted}");
    }
}

/// What a sender is told whose packet had no hop left: by the address it spoke to.
fn told(frame: &Frame) -> Datagram {
    let family = usize::from(!frame.from.is_ipv4());
    let packet = &frame.bytes()[ETHERNET..];
    let body = packet[..packet.len().min(192)].to_vec();
    let message = Message { kind: [(11, 0), (3, 0)][family], rest: [0; 4], body };
    let [to, from] = frame.macs;
    let traffic_class = if family == 0 { 0xc0 } else { 0 };
    let reply = message.between(frame.to.ip(), frame.from.ip());
    Datagram { macs: [from, to], traffic_class, id: 0, ..reply }
}

#[test]
fn a_sender_is_told_that_no_hop_is_left() {
    let kernel = start(SMALL, &WAYS);
    for way in WAYS {
        let listener = at(way.listener);
        let client = client_of(listener.ip());
        for size in [0, 1, 7, 100, 131, 132, 133, 1400] {
            for frame in [Frame::tcp(client, listener, SYN), Frame::udp(client, listener)] {
                for hop_limit in [0, 1] {
                    let payload = Random(size as u64).bytes(size);
                    let frame = Frame { hop_limit, payload, ..frame.clone() };
                    let name = format!("{size} bytes, {hop_limit} hops: {frame:?}");
                    let out = (Verdict::Redirect, &told(&frame).bytes()[..]);
                    expect(&kernel, &name, &frame.bytes(), out, &[Reason::HopLimit]);
                    // What follows a packet in a short frame is not of it.
                    let padded = [frame.bytes(), vec![0xee; 9]].concat();
                    expect(&kernel, &name, &padded, out, &[Reason::HopLimit]);
                }
            }
        }
        let mut long = Frame { hop_limit: 1, ..Frame::tcp(client, listener, SYN) };
        if client.is_ipv4() {
            long.options = vec![1; 40];
        } else {
            long.extensions = vec![(60, vec![1, 4, 0, 0, 0, 0])];
        }
        let out = (Verdict::Redirect, &told(&long).bytes()[..]);
        expect(&kernel, "headers between", &long.bytes(), out, &[Reason::HopLimit]);
        // An answer: its sender is the backend, which speaks with the listener's clients.
        let backend = at(way.backend);
        let answer = Frame { hop_limit: 1, ..Frame::tcp(backend, client, ACK) };
        let reply = Datagram { from: listener.ip(), ..told(&answer) };
        let message = Message {
            kind: (reply.payload[0], reply.payload[1]),
            rest: [0; 4],
            body: reply.payload[8..].to_vec(),
        };
        let payload = message.between(listener.ip(), backend.ip()).payload;
        let out = Datagram { payload, ..reply }.bytes();
        let out = (Verdict::Redirect, &out[..]);
        expect(&kernel, "an answer", &answer.bytes(), out, &[Reason::HopLimit]);
    }
}

#[test]
fn nobody_is_told_who_must_not_be() {
    let kernel = start(SMALL, &WAYS);
    for (way, bad) in WAYS.iter().zip([
        &["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"][..],
        &["::1", "ff02::1"][..],
    ]) {
        let listener = at(way.listener);
        let good = Frame { hop_limit: 1, ..Frame::tcp(client_of(listener.ip()), listener, SYN) };
        let many = Frame { macs: [[0xff; 6], good.macs[1]], ..good.clone() };
        let from = |text: &&str| Frame { from: SocketAddr::new(ip(text), 1234), ..good.clone() };
        for frame in bad.iter().map(from).chain([many]) {
            let frame = frame.bytes();
            expect(&kernel, "silence", &frame, (Verdict::Drop, &frame), &[Reason::HopLimit]);
        }
    }
    let silent = start(Options { icmp_per_second: 0, ..SMALL }, &WAYS);
    for way in WAYS {
        let listener = at(way.listener);
        let frame = Frame { hop_limit: 1, ..Frame::tcp(client_of(listener.ip()), listener, SYN) };
        assert_eq!(frame.protocol(), TCP);
        let (frame, reasons) = (frame.bytes(), [Reason::HopLimit, Reason::Silenced]);
        expect(&silent, "limited", &frame, (Verdict::Drop, &frame), &reasons);
    }
}
