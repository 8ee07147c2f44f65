//! What the loaded decapsulator does with packets of all kinds: verdict, every byte, every counter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weir::decap::{Decapsulator, GUE_PORT, Totals};
use weir_ebpf::decap::abi::{Kind, Reason};
use weir_tests::frames::{ETHERNET, Frame, IPV6, SYN, Segment, read};
use weir_tests::program::{PROGRAMS, Program, Verdict};
use weir_tests::tunnels::{Outer, Wrap, encapsulate, tagged};

const GUE: Wrap = Wrap::Gue { source_port: 50_000 };
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

/// The host, and who sends to it.
const HERE: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
const THERE: [&str; 2] = ["192.0.2.1", "2001:db8:2::1"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An outer header in family 0 (IPv4) or 1 (IPv6).
fn outer(family: usize, wrap: Wrap) -> Outer {
    Outer::new(ip(THERE[family]), ip(HERE[family]), wrap)
}

/// An inner packet of family 0 or 1.
fn inner(family: usize) -> Frame {
    let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
    match family {
        0 => Frame::tcp(at("198.51.100.7:40000"), at("203.0.113.80:80"), SYN),
        _ => Frame::udp(at("[2001:db8:7::7]:40000"), at("[2001:db8:80::80]:80")),
    }
}

/// All ways to wrap: what they count as, the outer and the inner family, and the wrap itself.
const KINDS: [(Kind, usize, usize, Wrap); 12] = [
    (Kind::Ipip, 0, 0, Wrap::Ip),
    (Kind::Ip6Ip6, 1, 1, Wrap::Ip),
    (Kind::Ip4Ip6, 1, 0, Wrap::Ip),
    (Kind::Ip6Ip4, 0, 1, Wrap::Ip),
    (Kind::Gue4, 0, 0, GUE),
    (Kind::Gue4, 1, 0, GUE),
    (Kind::Gue6, 0, 1, GUE),
    (Kind::Gue6, 1, 1, GUE),
    (Kind::Gue4, 0, 0, Wrap::GueHeader),
    (Kind::Gue4, 1, 0, Wrap::GueHeader),
    (Kind::Gue6, 0, 1, Wrap::GueHeader),
    (Kind::Gue6, 1, 1, Wrap::GueHeader),
];

/// What must become of a frame.
#[derive(Clone, Debug)]
enum Then {
    /// It is stripped to this frame.
    Strip(Kind, Vec<u8>),
    /// It is left as it is, and that is counted, or not.
    Pass(Option<Reason>),
    Drop(Reason),
}

/// Runs one case through both programs, or those that it is about.
fn check_with(programs: &[Program], node: &Decapsulator, name: &str, frame: &[u8], then: &Then) {
    for program in programs.iter().filter(|program| program.takes(frame)) {
        let mut expected = node.totals().unwrap();
        let run = match program {
            Program::Xdp => node.run_xdp(frame),
            Program::Tc => node.run_tc(frame),
        };
        let said = program.said(run.expect("the kernel runs the program"));
        let (verdict, bytes) = match then {
            Then::Strip(_, bytes) => (Verdict::Pass, bytes.as_slice()),
            Then::Pass(_) => (Verdict::Pass, frame),
            Then::Drop(_) => (Verdict::Drop, frame),
        };
        match then {
            Then::Strip(kind, _) => {
                let stripped = &mut expected.stripped[*kind as usize];
                stripped.packets += 1;
                stripped.bytes += frame.len() as u64;
            }
            Then::Pass(Some(reason)) | Then::Drop(reason) => {
                expected.not_stripped[*reason as usize].packets += 1;
            }
            Then::Pass(None) => {}
        }
        assert_eq!(said.0, verdict, "{name}, {program:?}: {}", node.totals().unwrap());
        assert!(said.1 == bytes, "{name}, {program:?}:\n{:02x?}\nnot\n{bytes:02x?}", said.1);
        assert_eq!(node.totals().unwrap(), expected, "{name}, {program:?}");
    }
}

fn check(node: &Decapsulator, name: &str, frame: &[u8], then: &Then) {
    check_with(&PROGRAMS, node, name, frame, then);
}

/// The program, with both addresses of the host.
fn node() -> Decapsulator {
    let mut node = Decapsulator::load(GUE_PORT, None)
        .unwrap_or_else(|error| panic!("these tests load a BPF program: {error}"));
    node.set_locals(&HERE.map(ip).into()).unwrap();
    node
}

#[test]
fn every_kind_is_stripped() {
    let node = node();
    for (kind, outside, inside, wrap) in KINDS {
        let plain = inner(inside).bytes();
        let wrapped = encapsulate(&plain, &outer(outside, wrap));
        let name = format!("{kind:?} in family {outside} by {wrap:?}");
        check(&node, &name, &wrapped, &Then::Strip(kind, plain.clone()));
        // What a card adds to reach Ethernet's least length stays where it is.
        let (padded, rest) = ([&wrapped[..], &[0; 9]].concat(), [&plain[..], &[0; 9]].concat());
        check(&node, &format!("{name}, padded"), &padded, &Then::Strip(kind, rest));
    }
}

#[test]
fn outer_options_go_too() {
    let node = node();
    let plain = inner(0).bytes();
    for length in [4, 8, 20, 40] {
        for (kind, wrap) in [(Kind::Ipip, Wrap::Ip), (Kind::Gue4, GUE)] {
            let outer = Outer { options: vec![1; length], ..outer(0, wrap) };
            let wrapped = encapsulate(&plain, &outer);
            let then = Then::Strip(kind, plain.clone());
            check(&node, &format!("{length} bytes of options"), &wrapped, &then);
        }
    }
}

#[test]
fn inner_headers_of_all_lengths_stay() {
    let node = node();
    let options = Frame { options: vec![1; 40], ..inner(0) };
    let extension = Frame { extensions: vec![(60, vec![0; 14])], ..inner(1) };
    let payload = Frame { payload: vec![7; 1_400], ..inner(1) };
    for (inside, frame) in [(0, options), (1, extension), (1, payload)] {
        for (kind, outside, _, wrap) in KINDS.into_iter().filter(|kind| kind.2 == inside) {
            let plain = frame.bytes();
            let wrapped = encapsulate(&plain, &outer(outside, wrap));
            check(&node, &format!("{kind:?}"), &wrapped, &Then::Strip(kind, plain));
        }
    }
}

#[test]
fn tags_are_kept() {
    let node = node();
    for (kind, outside, inside, wrap) in KINDS {
        for tags in [&[(VLAN, 0x2064)][..], &[(QINQ, 7), (VLAN, 100)]] {
            let plain = inner(inside).bytes();
            let wrapped = tagged(&encapsulate(&plain, &outer(outside, wrap)), tags);
            let name = format!("{kind:?} with {} tags", tags.len());
            let then = Then::Strip(kind, tagged(&plain, tags));
            check_with(&[Program::Xdp], &node, &name, &wrapped, &then);
            // At TC the outermost tag lies beside the frame; what is in it is one too many.
            let then = Then::Pass(Some(Reason::Unable));
            check_with(&[Program::Tc], &node, &name, &wrapped, &then);
        }
    }
    let three = [(QINQ, 7), (VLAN, 100), (VLAN, 101)];
    let wrapped = tagged(&encapsulate(&inner(0).bytes(), &outer(0, Wrap::Ip)), &three);
    check(&node, "three tags", &wrapped, &Then::Pass(None));
}

#[test]
fn what_is_in_no_tunnel_passes_uncounted() {
    let node = node();
    for family in [0, 1] {
        let mut frame = inner(family);
        let to = SocketAddr::new(ip(HERE[family]), GUE_PORT);
        check(&node, "to another host", &frame.bytes(), &Then::Pass(None));
        frame.to = to;
        frame.segment = Segment::Tcp { flags: SYN, options: Vec::new() };
        check(&node, "TCP to the port of GUE", &frame.bytes(), &Then::Pass(None));
        frame.segment = Segment::Udp { checksum: true };
        frame.to.set_port(GUE_PORT + 1);
        check(&node, "UDP to another port", &frame.bytes(), &Then::Pass(None));
    }
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    check(&node, "ARP", &arp, &Then::Pass(None));
    // An extension header of the outer packet: a tunnel too, but not one that is looked into.
    let mut frame = encapsulate(&inner(0).bytes(), &outer(1, Wrap::Ip));
    let extension = [frame[ETHERNET + 6], 0, 1, 4, 0, 0, 0, 0];
    frame.splice(ETHERNET + IPV6..ETHERNET + IPV6, extension);
    frame[ETHERNET + 6] = 60;
    frame[ETHERNET + 5] += 8;
    check(&node, "an outer extension header", &frame, &Then::Pass(None));
}

#[test]
fn another_hosts_tunnels_pass() {
    let mut node = node();
    for (kind, outside, inside, wrap) in KINDS {
        let plain = inner(inside).bytes();
        let elsewhere = Outer { to: ip(THERE[outside]), ..outer(outside, wrap) };
        let then = Then::Pass(Some(Reason::Elsewhere));
        check(&node, &format!("{kind:?} to another"), &encapsulate(&plain, &elsewhere), &then);
    }
    // Which addresses are the host's can change.
    let wrapped = encapsulate(&inner(0).bytes(), &outer(0, Wrap::Ip));
    node.set_locals(&BTreeSet::from([ip(HERE[1]), ip("192.0.2.99")])).unwrap();
    check(&node, "a lost address", &wrapped, &Then::Pass(Some(Reason::Elsewhere)));
    node.set_locals(&HERE.map(ip).into()).unwrap();
    check(&node, "regained", &wrapped, &Then::Strip(Kind::Ipip, inner(0).bytes()));
    // An IPv6 packet to what stands for an IPv4 address of the host.
    let to = ip("::ffff:192.0.2.10");
    let mapped = encapsulate(&inner(0).bytes(), &Outer { to, ..outer(1, Wrap::Ip) });
    check(&node, "a mapped address", &mapped, &Then::Pass(None));
}

#[test]
fn the_port_of_gue_can_be_chosen() {
    let mut node = Decapsulator::load(7_000, None).unwrap();
    node.set_locals(&HERE.map(ip).into()).unwrap();
    let plain = inner(0).bytes();
    let mut wrapped = encapsulate(&plain, &outer(0, GUE));
    check(&node, "the usual port", &wrapped, &Then::Pass(None));
    wrapped[ETHERNET + 22..ETHERNET + 24].copy_from_slice(&7_000_u16.to_be_bytes());
    check(&node, "the chosen port", &wrapped, &Then::Strip(Kind::Gue4, plain));
}

#[test]
fn fragments_of_the_outer_packet_pass() {
    let node = node();
    let fragment = Then::Pass(Some(Reason::Fragment));
    for (wrap, later) in [(Wrap::Ip, fragment.clone()), (GUE, Then::Pass(None))] {
        let mut frame = encapsulate(&inner(0).bytes(), &outer(0, wrap));
        frame[ETHERNET + 6] = 0x20; // more fragments
        check(&node, "the first", &frame, &fragment);
        frame[ETHERNET + 7] = 0x10;
        // Of UDP only the first fragment has ports.
        check(&node, "a later one", &frame, &later);
        frame[ETHERNET + 6] = 0;
        check(&node, "the last", &frame, &later);

        let mut frame = encapsulate(&inner(0).bytes(), &outer(1, wrap));
        let next = frame[ETHERNET + 6];
        frame.splice(ETHERNET + IPV6..ETHERNET + IPV6, [next, 0, 0, 1, 0, 0, 0, 9]);
        frame[ETHERNET + 5] += 8;
        frame[ETHERNET + 6] = 44;
        check(&node, "the first of IPv6", &frame, &fragment);
        frame[ETHERNET + IPV6 + 3] = 0x88;
        check(&node, "the last of IPv6", &frame, &later);
    }
}

#[test]
fn what_holds_no_sound_packet_is_dropped() {
    let node = node();
    for (kind, outside, inside, wrap) in KINDS {
        let wrapped = encapsulate(&inner(inside).bytes(), &outer(outside, wrap));
        let start = wrapped.len() - (inner(inside).bytes().len() - ETHERNET);
        let broken = |name: &str, change: &dyn Fn(&mut [u8])| {
            let mut frame = wrapped.clone();
            change(&mut frame[start..]);
            let name = format!("{kind:?} by {wrap:?}: {name}");
            check(&node, &name, &frame, &Then::Drop(Reason::Inner));
        };
        // Version 5 and version 7 are no IP, whatever came before.
        broken("version 5", &|inner| inner[0] = 0x55);
        broken("version 7", &|inner| inner[0] = 0x75);
        if inside == 0 {
            broken("a header of 16 bytes", &|inner| inner[0] = 0x44);
            broken("shorter than its header", &|inner| inner[3] = 19);
            broken("longer than its tunnel", &|inner| inner[3] += 1);
        } else {
            broken("longer than its tunnel", &|inner| inner[5] += 1);
        }
        if wrap != GUE {
            // Here the outer header says which family is inside.
            broken("the other family", &|inner| inner[0] ^= 0x20);
        }
    }
}

#[test]
fn gue_that_is_not_understood_passes() {
    let node = node();
    let wrapped = encapsulate(&inner(0).bytes(), &outer(0, Wrap::GueHeader));
    let start = ETHERNET + 20 + 8;
    for (name, at, value) in [
        ("control", 0, 0x20),
        ("a header with words", 0, 0x01),
        ("another protocol", 1, 47),
        ("flags", 2, 0x80),
        ("more flags", 3, 0x01),
        ("variant 2", 0, 0x80),
        ("variant 3", 0, 0xc0),
    ] {
        let mut frame = wrapped.clone();
        frame[start + at] = value;
        check(&node, name, &frame, &Then::Pass(Some(Reason::Gue)));
    }
    let mut empty = encapsulate(&inner(0).bytes(), &outer(0, GUE));
    empty[ETHERNET + 24..ETHERNET + 26].copy_from_slice(&8_u16.to_be_bytes());
    check(&node, "an empty datagram", &empty, &Then::Drop(Reason::Inner));
}

#[test]
fn outer_lengths_are_checked() {
    let node = node();
    let cases: [(&str, usize, Wrap, usize, u8); 6] = [
        ("IPv4 longer than the frame", 0, Wrap::Ip, 3, 255),
        ("IPv4 shorter than its header", 0, Wrap::Ip, 3, 10),
        ("IPv4 with a header of 16 bytes", 0, Wrap::Ip, 0, 0x44),
        ("IPv6 longer than the frame", 1, Wrap::Ip, 5, 255),
        ("UDP longer than its packet", 0, GUE, 25, 255),
        ("UDP shorter than its header", 0, GUE, 25, 7),
    ];
    for (name, outside, wrap, at, value) in cases {
        let mut frame = encapsulate(&inner(0).bytes(), &outer(outside, wrap));
        frame[ETHERNET + at] = value;
        check(&node, name, &frame, &Then::Pass(Some(Reason::Outer)));
    }
}

/// A frame that is cut short is stripped only if nothing of the inner packet is missing.
#[test]
fn no_cut_frame_is_stripped() {
    let node = node();
    for (kind, outside, inside, wrap) in KINDS {
        let wrapped = encapsulate(&inner(inside).bytes(), &outer(outside, wrap));
        for length in ETHERNET..wrapped.len() {
            for program in PROGRAMS.into_iter().filter(|one| one.takes(&wrapped[..length])) {
                let run = match program {
                    Program::Xdp => node.run_xdp(&wrapped[..length]),
                    Program::Tc => node.run_tc(&wrapped[..length]),
                };
                let (verdict, bytes) = program.said(run.unwrap());
                assert_eq!(verdict, Verdict::Pass, "{kind:?} cut to {length}");
                assert!(bytes == wrapped[..length], "{kind:?} cut to {length}");
            }
        }
    }
    let stripped = |totals: Totals| totals.stripped.iter().map(|one| one.packets).sum::<u64>();
    assert_eq!(stripped(node.totals().unwrap()), 0);
}

/// RFC 6040, figure 4: by the outer bits the inner ones as they must leave the tunnel.
const ECN: [[Option<u8>; 4]; 4] = {
    const NOT_ECT: Option<u8> = Some(0);
    const ECT_1: Option<u8> = Some(1);
    const ECT_0: Option<u8> = Some(2);
    const CE: Option<u8> = Some(3);
    [
        // Inner: not-ECT, ECT(1), ECT(0), CE. Outer: not-ECT, then ECT(1), ECT(0), CE.
        [NOT_ECT, ECT_1, ECT_0, CE],
        [NOT_ECT, ECT_1, ECT_1, CE],
        [NOT_ECT, ECT_1, ECT_0, CE],
        [None, CE, CE, CE],
    ]
};

/// Sets the traffic class of a frame; in IPv4 the checksum is reckoned anew.
fn with_class(mut frame: Vec<u8>, family: usize, class: u8) -> Vec<u8> {
    if family == 1 {
        frame[ETHERNET] = 0x60 | class >> 4;
        frame[ETHERNET + 1] = class << 4 | frame[ETHERNET + 1] & 0x0f;
        return frame;
    }
    frame[ETHERNET + 1] = class;
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let words = frame[ETHERNET..ETHERNET + 20].chunks(2);
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn congestion_is_handed_on() {
    let node = node();
    for (kind, outside, inside, wrap) in KINDS {
        for (from_outside, row) in (0..).zip(ECN) {
            for (from_inside, left) in (0..).zip(row) {
                // The rest of the class is the inner packet's own.
                let plain = with_class(inner(inside).bytes(), inside, 0xb8 | from_inside);
                let outer = Outer { class: 0x28 | from_outside, ..outer(outside, wrap) };
                let wrapped = encapsulate(&plain, &outer);
                let then = match left {
                    None => Then::Drop(Reason::Ecn),
                    Some(ecn) => {
                        let marked = with_class(plain, inside, 0xb8 | ecn);
                        read(&marked).unwrap();
                        Then::Strip(kind, marked)
                    }
                };
                let name = format!("{kind:?}: {from_inside} in {from_outside}");
                // A dropped frame is not changed.
                check(&node, &name, &wrapped, &then);
            }
        }
    }
}
