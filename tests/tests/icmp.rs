//! Sweeps over what `cases::icmp` shows by example: quotes of every length, any contents, and the
//! limit on what the node says.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use weir::dataplane::DataPlane as _;
use weir::dataplane::kernel::{Kernel, Options};
use weir_ebpf::abi::Reason;
use weir_tests::cases::nodes::{AWAY, Node, PLAIN, Spec};
use weir_tests::packet::{ACK, Packet, eyes, ip};
use weir_tests::program::{Program, SMALL, Verdict};
use weir_tests::random::Random;

/// Client, listener, backend and a router, of each family; type and code of "does not fit", and
/// bytes of an IP header.
const ENDS: [([&str; 4], (u8, u8), usize); 2] = [
    (["192.0.2.7", "198.51.100.1", "10.0.0.1", "203.0.113.9"], (3, 4), 20),
    (["2001:db8:7::7", "2001:db8::1", "fd00::1", "2001:db8:9::9"], (2, 0), 40),
];
/// Places of the two in the frame, before the MTU: an ICMP header has eight bytes.
const QUOTE: usize = 8;

/// The error about the first bytes of `seen`, and what must become of it: the same about `own`.
/// Half a TCP checksum cannot be mended, and stays.
fn error(n: usize, seen: &Packet, own: &Packet, length: usize) -> (Packet, Packet) {
    let ([_, listener, backend, router], (kind, code), header) = ENDS[n];
    let bytes = |packet: &Packet| {
        let bytes = packet.inner().bytes();
        bytes[..length.min(bytes.len())].to_vec()
    };
    let (quoted, mut translated) = (bytes(seen), bytes(own));
    let tcp = quoted.get(if n == 0 { 9 } else { 6 }) == Some(&6);
    if tcp && length == header + 17 {
        translated[length - 1] = quoted[length - 1];
    }
    let error =
        |to: &str, quote: &[u8]| ip(router, to).icmp(kind, code, [0, 0, 5, 0]).data(quote).broken();
    let goes = error(backend, &translated).ttl(63).macs(AWAY.mac, AWAY.interface_mac);
    (error(listener, &quoted), goes)
}

/// A quote of any length is translated as far as it goes, or left whole: never half of it.
#[test]
fn a_quote_is_never_mangled() {
    let mut node = Node::start(&PLAIN).unwrap();
    for (n, ([client, listener, backend, _], _, header)) in ENDS.into_iter().enumerate() {
        let tcp = |from, port| ip(from, client).tcp(port, 40_000, ACK).payload(100);
        let udp = |from, port| ip(from, client).udp(port, 40_000).payload(100);
        for (seen, own) in [
            (tcp(listener, 80), tcp(backend, 8_080)),
            (udp(listener, 80), udp(backend, 8_080)),
            (udp(listener, 80).no_checksum(), udp(backend, 8_080).no_checksum()),
        ] {
            for length in 0..=160 {
                let (comes, goes) = error(n, &seen, &own, length);
                let comes = comes.bytes();
                let (verdict, out) = Program::Tc.run(node.kernel(), &comes);
                if length < header + QUOTE {
                    assert_eq!((verdict, &out), (Verdict::Pass, &comes), "{length}: {seen:?}");
                    continue;
                }
                assert_eq!(verdict, Verdict::Redirect, "{length}: {seen:?}");
                assert_eq!(out, goes.bytes(), "{length}: {seen:?}");
                // A frame that ends before its packet does.
                let cut = &comes[..comes.len() - 1];
                let (verdict, out) = Program::Tc.run(node.kernel(), cut);
                assert_eq!((verdict, &out[..]), (Verdict::Pass, cut), "{length}: {seen:?}");
            }
        }
    }
}

/// Any addresses, ports and contents: checksums that are mended by what has changed are what they
/// would be if reckoned anew.
#[test]
fn any_error_is_translated_right() {
    let mut node = Node::start(&PLAIN).unwrap();
    let mut random = Random(5);
    for _ in 0..10_000 {
        let n = random.below(2);
        let ([_, listener, backend, _], ..) = ENDS[n];
        let client: IpAddr = if n == 0 {
            let [a, b] = random.half().to_be_bytes();
            Ipv4Addr::new(192, 0, a, b).into()
        } else {
            let word = u128::from(random.word()) & 0xffff_ffff;
            Ipv6Addr::from(0x2001_0db8_0007_0000 << 64 | word).into()
        };
        let (client, port, tcp) = (client.to_string(), random.half(), random.percent(50));
        let payload_length = random.below(300);
        let payload = random.bytes(payload_length);
        let packet = |from: &str, from_port| {
            let packet = ip(from, &client).ttl(60);
            let packet =
                if tcp { packet.tcp(from_port, port, ACK) } else { packet.udp(from_port, port) };
            packet.data(&payload)
        };
        let length = 48 + random.below(400);
        let (comes, goes) = error(n, &packet(listener, 80), &packet(backend, 8_080), length);
        let (verdict, out) = Program::Tc.run(node.kernel(), &comes.bytes());
        assert_eq!((verdict, &out), (Verdict::Redirect, &goes.bytes()), "{comes:?}");
        eyes::look(&out).unwrap();
    }
}

/// An echo of every length comes back whole.
#[test]
fn echoes_of_any_length() {
    let mut node = Node::start(&PLAIN).unwrap();
    for ([client, listener, ..], (error, _), _) in ENDS {
        let (asks, answers) = if error == 3 { (8, 0) } else { (128, 129) };
        for length in (0..200).chain((200..3_400).step_by(37)) {
            let data = Random(length as u64).bytes(length);
            let message = |from, to, kind| ip(from, to).icmp(kind, 0, [1, 2, 3, 4]).data(&data);
            let request = message(client, listener, asks).ttl(7);
            let answer = message(listener, client, answers).macs(request.macs[1], request.macs[0]);
            let (verdict, out) = Program::Tc.run(node.kernel(), &request.bytes());
            assert_eq!((verdict, &out), (Verdict::Redirect, &answer.bytes()), "{length}");
        }
    }
}

/// A node that says this much in a second.
fn limited(icmp_per_second: u32) -> Node {
    Node::start(&Spec { options: Options { icmp_per_second, ..SMALL }, ..PLAIN }).unwrap()
}

fn counted(kernel: &Kernel, reason: Reason) -> u64 {
    kernel.reasons()[Program::Tc.hook()][reason as usize]
}

/// No more than the limit and what it gives for a tenth of a second; later, some again.
#[test]
fn what_the_node_says_is_limited() {
    const SENT: u64 = 200;
    let mut node = limited(100);
    let ([client, listener, ..], ..) = ENDS[0];
    let request = ip(client, listener).icmp(8, 0, [0; 4]).payload(56).bytes();
    let expired = ip(client, listener).tcp(40_000, 80, ACK).ttl(1).bytes();
    // Each processor has an allowance of its own, and the test may move between them.
    let processors = available_parallelism().unwrap().get() as u64;
    for (frame, said, refused) in [
        (&request, Reason::Echo, SENT),
        (&expired, Reason::HopLimit, 0),
        (&request, Reason::Echo, SENT),
    ] {
        let before = [said, Reason::Silenced].map(|reason| counted(node.kernel(), reason));
        let started = Instant::now();
        let sent = |_: &u64| Program::Tc.run(node.kernel(), frame).0 == Verdict::Redirect;
        let answered = (0..SENT).filter(sent).count() as u64;
        let took = u64::try_from(started.elapsed().as_millis()).unwrap();
        let most = processors * (12 + (took + 50) / 10);
        assert!(answered > 0 && answered < most, "{answered} in {took} ms");
        assert!(answered < SENT || took > 1_000, "{answered} in {took} ms");
        // An echo is one or the other; what was dropped is so whether anybody was told or not.
        let after = [said, Reason::Silenced].map(|reason| counted(node.kernel(), reason));
        let all = if refused == 0 { SENT } else { answered };
        assert_eq!(after[0] - before[0], all);
        assert_eq!(after[1] - before[1], SENT - answered);
        sleep(Duration::from_millis(300));
    }
}

/// A limit of zero: nothing at all is said.
#[test]
fn a_node_can_be_silent() {
    let mut node = limited(0);
    for ([client, listener, ..], (error, _), _) in ENDS {
        let asks = if error == 3 { 8 } else { 128 };
        let request = ip(client, listener).icmp(asks, 0, [0; 4]).payload(56).bytes();
        let expired = ip(client, listener).tcp(40_000, 80, ACK).ttl(1).bytes();
        for frame in [request, expired] {
            let (verdict, out) = Program::Tc.run(node.kernel(), &frame);
            assert_eq!((verdict, out), (Verdict::Drop, frame));
        }
    }
    let counts = [Reason::Echo, Reason::Silenced, Reason::HopLimit];
    assert_eq!(counts.map(|reason| counted(node.kernel(), reason)), [0, 4, 2]);
}
