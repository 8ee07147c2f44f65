//! Fragments: they follow the first one of their packet. All of it is TC's.

use weir_ebpf::abi::Reason;

use super::icmp::{Why, told};
use super::nat::{WAYS, Way};
use super::nodes::{NETWORKED, PLAIN, ROUTED};
use super::returns::address;
use super::{Case, In, Outcome, Rise, begins, case, datagram, goes};
use crate::packet::{ACK, DESTINATION, HOP_BY_HOP, Packet, SYN, ip};

/// Six bytes of options: one `PadN` over all of them.
const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0];

pub(super) fn cases() -> Vec<Case> {
    let [_, v6] = WAYS;
    let mut all = atomic(v6);
    for way in WAYS {
        let packets = [
            ("tcp-syn", way.tcp(SYN).payload(900), begins as fn(&'static str) -> In),
            ("tcp", way.tcp(ACK).payload(900), goes),
            ("udp", way.udp().payload(900), datagram),
            ("udp-no-checksum", way.udp().payload(900).no_checksum(), datagram),
        ];
        for (id, (name, whole, counted)) in (100..).zip(packets) {
            all.extend(in_three(way, name, &whole, counted, id));
        }
        all.extend(early(way));
        all.extend(cut(way));
        all.extend(between(way));
        all.extend(answers(way));
        all.extend(last_hop(way));
        all.extend(others(way));
    }
    all
}

fn named(way: Way, name: &str) -> String {
    format!("fragments/{}/{name}", way.name)
}

/// Each piece of a packet, after the first one.
fn in_three(
    way: Way,
    name: &str,
    whole: &Packet,
    first: fn(&'static str) -> In,
    id: u32,
) -> Vec<Case> {
    let out = way.forwarded(whole);
    let piece = |packet: &Packet, start| packet.clone().fragment(id, start, 400);
    let starts = [("first", 0), ("second", 400), ("last", 800)];
    starts
        .map(|(which, start)| {
            let name = named(way, &format!("{name}/{which}"));
            let draft = case(name, &PLAIN, piece(whole, start));
            if start == 0 {
                return draft.tc_to_backend(piece(&out, 0), &way.hop, first(way.backend));
            }
            draft.after(piece(whole, 0)).tc_to_backend(
                piece(&out, start),
                &way.hop,
                goes(way.backend),
            )
        })
        .to_vec()
}

/// Before the first of their packet there is no place for the others.
fn early(way: Way) -> Vec<Case> {
    let whole = way.udp().payload(900);
    let later = |id| whole.clone().fragment(id, 400, 400);
    let dropped = |name: &str, before: Packet, input: Packet| {
        let name = named(way, &format!("early/{name}"));
        case(name, &PLAIN, input).after(before).tc_drops(Reason::EarlyFragment)
    };
    let first = |id| whole.clone().fragment(id, 0, 400);
    let v4 = way.name == "ipv4";
    let neighbour = if v4 { "192.0.2.8" } else { "2001:db8:7::8" };
    let elsewhere = if v4 { "198.51.100.99" } else { "2001:db8::99" };
    let tcp = way.tcp(ACK).payload(900);
    let deaf = ip(way.client, way.listener).udp(40_000, 1_081).payload(900);
    vec![
        case(named(way, "early/nothing-before"), &PLAIN, later(200))
            .tc_drops(Reason::EarlyFragment),
        dropped("another-id", first(201), later(202)),
        dropped("another-sender", first(203), later(203).from(neighbour)),
        dropped("another-protocol", first(204), tcp.fragment(204, 400, 400)),
        dropped("after-a-later-one", later(205), later(205)),
        // To a listener's address, but to no listener.
        dropped("no-listener", deaf.fragment(206, 0, 400), later(206)),
        case(named(way, "elsewhere/first"), &PLAIN, first(207).to(elsewhere))
            .passes(Reason::Fragment),
        case(named(way, "elsewhere/later"), &PLAIN, later(207).to(elsewhere))
            .after(first(207).to(elsewhere))
            .passes(Reason::Fragment),
    ]
}

/// Fragments by which a transport header could be hidden or written over (RFC 1858, RFC 3128).
fn cut(way: Way) -> Vec<Case> {
    let (tcp, udp) = (way.tcp(SYN).payload(100), way.udp().payload(100));
    let elsewhere = address(way);
    let mut all = Vec::new();
    for (name, input) in [
        ("tcp-8-bytes", tcp.clone().fragment(300, 0, 8)),
        ("tcp-16-bytes", tcp.clone().fragment(301, 0, 16)),
        ("over-tcp", tcp.clone().fragment(302, 8, 24)),
        ("over-udp", udp.fragment(303, 8, 24)),
        ("tcp-options-behind", tcp.tcp_options(&[1; 20]).fragment(304, 0, 32)),
    ] {
        let input = input.broken();
        let name = format!("cut/{name}");
        let stray =
            case(named(way, &format!("{name}/elsewhere")), &PLAIN, input.clone().to(elsewhere));
        all.push(stray.passes(Reason::Malformed));
        all.push(case(named(way, &name), &PLAIN, input).tc_drops(Reason::Malformed));
    }
    all
}

/// An IPv6 packet that is whole, though it has a fragment header (RFC 6946), is like any other.
fn atomic(way: Way) -> Vec<Case> {
    let atomic = |packet: Packet| packet.fragment(400, 0, 2_000);
    let reaches = |name: &str, whole: Packet, counted: fn(&'static str) -> In| {
        let out = way.forwarded(&whole);
        case(named(way, &format!("atomic/{name}")), &PLAIN, atomic(whole)).tc_to_backend(
            atomic(out),
            &way.hop,
            counted(way.backend),
        )
    };
    let long = way.udp().payload(900);
    vec![
        reaches("syn", way.tcp(SYN), begins),
        reaches("ack", way.tcp(ACK).payload(10), goes),
        reaches("udp", way.udp(), datagram),
        reaches("behind-hop-by-hop", way.tcp(SYN).extension(HOP_BY_HOP, &PAD), begins),
        // Nothing is remembered of it.
        case(named(way, "atomic/and-later"), &PLAIN, long.fragment(400, 400, 400))
            .after(atomic(way.udp()))
            .tc_drops(Reason::EarlyFragment),
    ]
}

/// Headers between, and tags.
fn between(way: Way) -> Vec<Case> {
    let whole = way.udp().payload(900);
    let with: Vec<(&str, Packet)> = if way.name == "ipv4" {
        vec![("options", whole.clone().options(&[1; 12]))]
    } else {
        vec![
            ("hop-by-hop", whole.clone().extension(HOP_BY_HOP, &PAD)),
            (
                "three-extensions",
                whole
                    .clone()
                    .extension(HOP_BY_HOP, &PAD)
                    .extension(DESTINATION, &PAD)
                    .extension(DESTINATION, &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ),
        ]
    };
    let mut all = Vec::new();
    for (id, (name, whole)) in (500..).zip(with) {
        all.extend(in_three(way, name, &whole, datagram, id));
    }
    let piece = |packet: &Packet, start| packet.clone().fragment(510, start, 400);
    let out = way.forwarded(&whole);
    all.push(
        case(named(way, "tag"), &PLAIN, piece(&whole, 400).tag(42))
            .after(piece(&whole, 0).tag(42))
            .tc_to_backend(piece(&out, 400), &way.hop, goes(way.backend)),
    );
    all
}

/// Answers get the listener's address in each piece, its port in the first.
fn answers(way: Way) -> Vec<Case> {
    let answer = ip(address(way), way.client).udp(8_080, 40_000).payload(900);
    let from = if way.name == "ipv4" { "198.51.100.1:80" } else { "[2001:db8::1]:80" };
    let seen = answer.clone().from(from).ttl(63).macs(ROUTED.mac, ROUTED.interface_mac);
    let piece = |packet: &Packet, start| packet.clone().fragment(600, start, 400);
    let sent = |start| Outcome::sent(piece(&seen, start), vec![Rise::Out(way.backend)]);
    vec![
        case(named(way, "answer/first"), &NETWORKED, piece(&answer, 0))
            .becomes(Outcome::left(), sent(0)),
        case(named(way, "answer/later"), &NETWORKED, piece(&answer, 400))
            .after(piece(&answer, 0))
            .becomes(Outcome::left(), sent(400)),
        case(named(way, "answer/early"), &NETWORKED, answer.clone().fragment(601, 400, 400))
            .passes(Reason::Fragment),
    ]
}

/// Only the sender of the first one is told that no hop is left.
fn last_hop(way: Way) -> Vec<Case> {
    let whole = way.tcp(ACK).payload(900);
    let piece = |start, ttl| whole.clone().fragment(700, start, 400).ttl(ttl);
    let first = piece(0, 1);
    let told = told(&first, way.listener, Why::Expired);
    vec![
        case(named(way, "last-hop/first"), &PLAIN, first).tc_sends(told, Reason::HopLimit),
        case(named(way, "last-hop/later"), &PLAIN, piece(400, 1))
            .after(piece(0, 64))
            .tc_drops(Reason::HopLimit),
    ]
}

/// What no listener takes.
fn others(way: Way) -> Vec<Case> {
    let sctp = ip(way.client, way.listener).raw(132, &[0; 100]).broken();
    let passes =
        |name: &str, input: Packet| case(named(way, name), &PLAIN, input).passes(Reason::Fragment);
    let mut all = vec![
        passes("sctp/first", sctp.clone().fragment(800, 0, 48).broken()),
        passes("sctp/later", sctp.fragment(800, 48, 48).broken()),
    ];
    if way.name == "ipv6" {
        // Options within what is in pieces: nobody sends that.
        let whole = way.udp().payload(100).fragment(801, 0, 64).extension(DESTINATION, &PAD);
        all.push(passes("options-within", whole.broken()));
    }
    all
}
