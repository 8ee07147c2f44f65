//! What the loaded TC program does with fragments: they follow the first one of their packet.
//! XDP touches none of them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use weir::dataplane::kernel::Kernel;
use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::{Counters, Reason, TCP, UDP};
use weir_tests::balancer::{CLIENT_MACS, Way, at, client_of, start};
use weir_tests::datagrams::{Datagram, Message, fragments};
use weir_tests::frames::{ACK, ETHERNET, Frame, SYN};
use weir_tests::program::{Counts, Program, SMALL, Verdict};
use weir_tests::random::Random;

const HOP: NextHop = NextHop::plain(7, [2, 7, 0, 0, 0, 1], [2, 7, 0, 0, 0, 2]);
const WAYS: [Way; 2] = [
    Way { listener: "198.51.100.1:80", backend: "10.0.0.1:8080", hop: HOP },
    Way { listener: "[2001:db8::1]:80", backend: "[fd00::1]:8080", hop: HOP },
];
const BACKENDS: u16 = 2;

/// What TC must do with a frame. XDP leaves it.
fn expect(kernel: &Kernel, name: &str, frame: &[u8], verdict: Verdict, out: &[u8], count: &Counts) {
    let before = Counts::read(kernel, BACKENDS);
    let (said, left) = Program::Xdp.run(kernel, frame);
    let counted = Counts::read(kernel, BACKENDS).since(&before);
    assert_eq!((said, &left[..]), (Verdict::Pass, frame), "{name}, XDP");
    assert_eq!(counted, Counts::none(BACKENDS), "{name}, XDP");
    let (said, left) = Program::Tc.run(kernel, frame);
    let counted = Counts::read(kernel, BACKENDS).since(&before);
    assert_eq!(said, verdict, "{name}: {counted:?}");
    assert_eq!(left, out, "{name}:\n{left:02x?}\n{out:02x?}");
    assert_eq!(&counted, count, "{name}");
}

fn refused(kernel: &Kernel, name: &str, frame: &[u8], verdict: Verdict, reason: Reason) {
    let count = Counts::none(BACKENDS).and_reason(Program::Tc, reason);
    expect(kernel, name, frame, verdict, frame, &count);
}

/// A packet that reaches its backend counts as this.
fn reached(index: usize, frame: &[u8], first: bool, tracked: bool) -> Counts {
    Counts::none(BACKENDS).and_backend(index, |counters| {
        *counters = Counters {
            connections: u64::from(first),
            packets_in: 1,
            bytes_in: frame.len() as u64,
            tracked: u64::from(tracked),
            ..Counters::default()
        };
    })
}

fn client(way: &Way) -> SocketAddr {
    client_of(at(way.listener).ip())
}

/// Fragments of any sizes go to the backend, the first with its port, the others as they are but
/// for the address, and together they are the packet that would have been sent whole.
#[test]
fn fragments_follow_the_first() {
    let kernel = start(SMALL, &WAYS);
    let mut id = 0;
    for (index, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        for base in [
            Frame::tcp(client(way), listener, SYN),
            Frame::tcp(client(way), listener, ACK),
            Frame::udp(client(way), listener),
        ] {
            for ends in [&[24][..], &[800], &[24, 32, 800], &[1400]] {
                id += 1;
                let mut frame = Frame { payload: Random(id).bytes(1450), ..base.clone() };
                // A flow each, so that each first fragment of a datagram begins one.
                frame.from.set_port(u16::try_from(id).unwrap());
                let number = u32::try_from(id).unwrap();
                let pieces = fragments(&frame.bytes(), number, ends);
                let wanted = fragments(&frame.forwarded(backend, &HOP).bytes(), number, ends);
                let udp = frame.protocol() == UDP;
                let opens = udp || base.segment == Frame::tcp(listener, listener, SYN).segment;
                for (n, (piece, out)) in pieces.iter().zip(&wanted).enumerate() {
                    let name = format!("{n} of {ends:?}, {:?}", frame.key());
                    let count = reached(index, piece, n == 0 && opens, n == 0 && udp);
                    expect(&kernel, &name, piece, Verdict::Redirect, out, &count);
                }
                // The last ones again, in another order.
                for n in (1..pieces.len()).rev() {
                    let count = reached(index, &pieces[n], false, false);
                    expect(&kernel, "again", &pieces[n], Verdict::Redirect, &wanted[n], &count);
                }
            }
        }
        assert_eq!(kernel.flows(TCP).unwrap().len(), 0);
    }
    // One entry for each datagram's flow; later fragments have remembered nothing.
    assert_eq!(kernel.flows(UDP).unwrap().len(), 8);
}

#[test]
fn fragments_before_the_first_are_dropped() {
    let kernel = start(SMALL, &WAYS);
    for (index, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        let frame = Frame { payload: Random(3).bytes(900), ..Frame::udp(client(way), listener) };
        let pieces = fragments(&frame.bytes(), 7, &[400, 800]);
        let wanted = fragments(&frame.forwarded(backend, &HOP).bytes(), 7, &[400, 800]);
        let drop = |name: &str, piece: &[u8]| {
            refused(&kernel, name, piece, Verdict::Drop, Reason::EarlyFragment);
        };
        drop("before the first", &pieces[2]);
        let count = reached(index, &pieces[0], true, true);
        expect(&kernel, "the first", &pieces[0], Verdict::Redirect, &wanted[0], &count);
        let count = reached(index, &pieces[2], false, false);
        expect(&kernel, "after the first", &pieces[2], Verdict::Redirect, &wanted[2], &count);
        // Of another packet, another sender, another receiver, another protocol.
        drop("another id", &fragments(&frame.bytes(), 8, &[400, 800])[1]);
        let mut other = frame.clone();
        let text = if listener.is_ipv4() { "192.0.2.8" } else { "2001:db8:7::8" };
        other.from.set_ip(text.parse().unwrap());
        drop("another sender", &fragments(&other.bytes(), 7, &[400, 800])[1]);
        let tcp = Frame { payload: vec![0; 900], ..Frame::tcp(frame.from, frame.to, ACK) };
        drop("another protocol", &fragments(&tcp.bytes(), 7, &[400, 800])[1]);
        // To an address that is no listener's: the stack knows.
        let mut stray = frame.clone();
        stray.to.set_ip(at(way.backend).ip());
        for piece in fragments(&stray.bytes(), 7, &[400, 800]) {
            refused(&kernel, "stray", &piece, Verdict::Pass, Reason::Fragment);
        }
        // To a listener's address, but to no listener.
        let mut deaf = frame.clone();
        deaf.to.set_port(81);
        let pieces = fragments(&deaf.bytes(), 9, &[400, 800]);
        refused(&kernel, "no listener", &pieces[0], Verdict::Pass, Reason::Fragment);
        drop("no listener, later", &pieces[1]);
    }
}

/// Fragments by which a transport header could be hidden or written over (RFC 1858, RFC 3128).
#[test]
fn cut_headers_are_dropped() {
    let kernel = start(SMALL, &WAYS);
    for way in &WAYS {
        let listener = at(way.listener);
        let frame = Frame { payload: vec![1; 100], ..Frame::tcp(client(way), listener, SYN) };
        let short = fragments(&frame.bytes(), 1, &[8, 24]);
        refused(&kernel, "8 bytes of TCP", &short[0], Verdict::Drop, Reason::Malformed);
        refused(&kernel, "over TCP", &short[1], Verdict::Drop, Reason::Malformed);
        refused(
            &kernel,
            "16 bytes",
            &fragments(&frame.bytes(), 1, &[16])[0],
            Verdict::Drop,
            Reason::Malformed,
        );
        let mut stray = frame.clone();
        stray.to.set_ip(at(way.backend).ip());
        for piece in &fragments(&stray.bytes(), 1, &[8, 24])[..2] {
            refused(&kernel, "not for us", piece, Verdict::Pass, Reason::Malformed);
        }
    }
}

/// An IPv6 packet that is whole, though it has a fragment header (RFC 6946), is like any other.
#[test]
fn atomic_fragments_are_whole() {
    let kernel = start(SMALL, &WAYS);
    let (listener, backend) = (at(WAYS[1].listener), at(WAYS[1].backend));
    let client = client(&WAYS[1]);
    for (base, opens) in [
        (Frame::tcp(client, listener, SYN), true),
        (Frame::tcp(client, listener, ACK), false),
        (Frame::udp(client, listener), true),
    ] {
        let whole = |frame: &Frame| fragments(&frame.bytes(), 5, &[]).remove(0);
        let (piece, out) = (whole(&base), whole(&base.forwarded(backend, &HOP)));
        let count = reached(1, &piece, opens, base.protocol() == UDP);
        expect(&kernel, "atomic", &piece, Verdict::Redirect, &out, &count);
        // Nothing is remembered of it.
        let long = Frame { payload: vec![0; 100], ..base };
        let later = &fragments(&long.bytes(), 5, &[48])[1];
        refused(&kernel, "atomic, later", later, Verdict::Drop, Reason::EarlyFragment);
    }
    let cut = fragments(&Frame::udp(client, listener).bytes(), 5, &[]).remove(0);
    let mut cut = cut[..cut.len() - 1].to_vec();
    cut[ETHERNET + 5] -= 1;
    refused(&kernel, "UDP longer than its packet", &cut, Verdict::Pass, Reason::Malformed);
}

/// Headers between, and what no listener takes.
#[test]
fn options_extensions_and_other_protocols() {
    let kernel = start(SMALL, &WAYS);
    let way = &WAYS[0];
    let (listener, backend) = (at(way.listener), at(way.backend));
    let frame =
        Frame { options: vec![1; 12], payload: vec![5; 500], ..Frame::udp(client(way), listener) };
    let pieces = fragments(&frame.bytes(), 11, &[64]);
    let wanted = fragments(&frame.forwarded(backend, &HOP).bytes(), 11, &[64]);
    for (n, (piece, out)) in pieces.iter().zip(&wanted).enumerate() {
        let count = reached(0, piece, n == 0, n == 0);
        expect(&kernel, "options", piece, Verdict::Redirect, out, &count);
    }
    let way = &WAYS[1];
    let piece = |more: u8| (44, vec![0, more, 0, 0, 0, 9]);
    let pad = |number: u8| (number, vec![1, 4, 0, 0, 0, 0]);
    for chain in [vec![pad(0)], vec![pad(0), pad(60), (43, vec![4, 0, 0, 0, 0, 0])]] {
        let frame = Frame::tcp(client(way), at(way.listener), SYN);
        for more in [0, 1] {
            let extensions = [&chain[..], &[piece(more)]].concat();
            let frame = Frame { extensions, ..frame.clone() };
            let (bytes, out) = (frame.bytes(), frame.forwarded(at(way.backend), &HOP).bytes());
            let count = reached(1, &bytes, true, false);
            expect(&kernel, "behind extensions", &bytes, Verdict::Redirect, &out, &count);
        }
        let frame = Frame { extensions: vec![piece(1), pad(60)], ..frame };
        refused(&kernel, "options within", &frame.bytes(), Verdict::Pass, Reason::Fragment);
    }
    for way in &WAYS {
        let listener = at(way.listener).ip();
        let message = Message { kind: (8, 0), rest: [0; 4], body: vec![0; 100] };
        let sctp = Datagram::new(client(way).ip(), listener, 132, vec![0; 100]);
        for datagram in [message.between(client(way).ip(), listener), sctp] {
            for piece in fragments(&datagram.bytes(), 12, &[48]) {
                refused(&kernel, "another protocol", &piece, Verdict::Pass, Reason::Fragment);
            }
        }
    }
}

/// Answers of a backend get the listener's address in each fragment, its port in the first.
#[test]
fn answers_in_fragments() {
    let kernel = start(SMALL, &WAYS);
    for (index, way) in WAYS.iter().enumerate() {
        let (listener, backend) = (at(way.listener), at(way.backend));
        let answer = Frame { payload: Random(9).bytes(1000), ..Frame::udp(backend, client(way)) };
        let as_seen = Frame {
            macs: CLIENT_MACS,
            from: listener,
            hop_limit: answer.hop_limit - 1,
            ..answer.clone()
        };
        let pieces = fragments(&answer.bytes(), 77, &[408, 808]);
        let wanted = fragments(&as_seen.bytes(), 77, &[408, 808]);
        refused(&kernel, "early", &pieces[1], Verdict::Pass, Reason::Fragment);
        for n in [0, 2, 1] {
            let count = Counts::none(BACKENDS).and_backend(index, |counters| {
                counters.packets_out += 1;
                counters.bytes_out += pieces[n].len() as u64;
            });
            let name = format!("{n} from {backend}");
            expect(&kernel, &name, &pieces[n], Verdict::Redirect, &wanted[n], &count);
        }
    }
}

/// Only the first fragment's sender is told that no hop is left.
#[test]
fn no_hop_left() {
    let kernel = start(SMALL, &WAYS);
    for way in &WAYS {
        let listener = at(way.listener);
        let frame =
            Frame { hop_limit: 1, payload: vec![3; 600], ..Frame::udp(client(way), listener) };
        let pieces = fragments(&frame.bytes(), 21, &[400]);
        let (verdict, out) = Program::Tc.run(&kernel, &pieces[0]);
        assert_eq!(verdict, Verdict::Redirect);
        let kind = if listener.is_ipv4() { (11, 0) } else { (3, 0) };
        let body = pieces[0][ETHERNET..ETHERNET + 192].to_vec();
        let reply = Message { kind, rest: [0; 4], body }.between(listener.ip(), client(way).ip());
        let traffic_class = if listener.is_ipv4() { 0xc0 } else { 0 };
        let macs = [frame.macs[1], frame.macs[0]];
        assert_eq!(out, Datagram { macs, traffic_class, id: 0, ..reply }.bytes());
        refused(&kernel, "later", &pieces[1], Verdict::Drop, Reason::HopLimit);
    }
}
