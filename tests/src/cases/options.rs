//! What stands between the headers that are looked at: IPv4 options, IPv6 extension headers, TCP
//! options. They are stepped over within bounds, and kept.

use weir_ebpf::abi::Reason;
use weir_ebpf::packet::MAX_EXTENSIONS;

use super::nat::{WAYS, Way};
use super::nodes::PLAIN;
use super::{Case, In, begins, case, datagram, goes};
use crate::packet::{ACK, DESTINATION, HOP_BY_HOP, PSH, Packet, ROUTING, SYN};

/// Six bytes of options: one `PadN` over all of them.
const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0];
/// A routing header of type 4 (RFC 8754) with one segment, which is behind it.
const ROUTE: [u8; 22] = [4, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Extension headers: numbers and bodies.
type Headers<'a> = &'a [(u8, &'a [u8])];

pub(super) fn cases() -> Vec<Case> {
    let [v4, v6] = WAYS;
    let mut all = ipv4(v4);
    all.extend(ipv6(v6));
    for way in [v4, v6] {
        all.extend(tcp(way));
    }
    all
}

/// A case that reaches the backend.
fn forwards(way: Way, name: &str, input: Packet, counted: fn(&'static str) -> In) -> Case {
    Case { name: format!("options/{}/{name}", way.name), ..way.case(name, input, counted) }
}

/// Options of every length: no operation, ended by the end of the list.
fn ipv4(way: Way) -> Vec<Case> {
    let mut all = Vec::new();
    for length in (4..=40).step_by(4) {
        let mut options = vec![1; length];
        options[length - 1] = 0;
        let tcp = way.tcp(SYN).options(&options);
        all.push(forwards(way, &format!("{length}-bytes/tcp"), tcp, begins));
        let udp = way.udp().options(&options);
        all.push(forwards(way, &format!("{length}-bytes/udp"), udp, datagram));
    }
    let route = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    all.push(forwards(way, "record-route", way.tcp(ACK).options(&route), goes));
    let alert = [148, 4, 0, 0];
    all.push(forwards(way, "router-alert", way.udp().options(&alert), datagram));
    all
}

fn ipv6(way: Way) -> Vec<Case> {
    let long = [&[1, 252][..], &[0; 252]].concat();
    let chain = |packet: Packet, chain: Headers| {
        chain.iter().fold(packet, |packet, (number, body)| packet.extension(*number, body))
    };
    let chains: [(&str, Headers); 7] = [
        ("hop-by-hop", &[(HOP_BY_HOP, &PAD)]),
        ("destination", &[(DESTINATION, &PAD)]),
        ("routing", &[(ROUTING, &ROUTE)]),
        ("254-bytes", &[(DESTINATION, &long)]),
        ("two", &[(HOP_BY_HOP, &PAD), (DESTINATION, &PAD)]),
        ("three", &[(HOP_BY_HOP, &PAD), (DESTINATION, &PAD), (ROUTING, &ROUTE)]),
        (
            "four",
            &[(HOP_BY_HOP, &PAD), (DESTINATION, &PAD), (ROUTING, &ROUTE), (DESTINATION, &PAD)],
        ),
    ];
    let mut all = Vec::new();
    for (name, headers) in chains {
        let tcp = chain(way.tcp(SYN), headers);
        all.push(forwards(way, &format!("{name}/tcp"), tcp, begins));
        let udp = chain(way.udp(), headers);
        all.push(forwards(way, &format!("{name}/udp"), udp, datagram));
    }
    // One more than are stepped over.
    let mut many = vec![(HOP_BY_HOP, &PAD[..]), (DESTINATION, &PAD), (ROUTING, &ROUTE)];
    many.resize(MAX_EXTENSIONS as usize + 1, (DESTINATION, &PAD));
    let passes = |name: &str, input: Packet, reason| {
        case(format!("options/{}/{name}", way.name), &PLAIN, input).passes(reason)
    };
    all.push(passes("one-too-many/tcp", chain(way.tcp(SYN), &many), Reason::NotTransport));
    all.push(passes("one-too-many/udp", chain(way.udp(), &many), Reason::NotTransport));
    // Headers that are not understood: what follows them is not looked at.
    let mobility = way.tcp(SYN).extension(135, &PAD).broken();
    all.push(passes("mobility", mobility, Reason::NotTransport));
    let behind = way.tcp(SYN).extension(HOP_BY_HOP, &PAD).extension(139, &PAD).broken();
    all.push(passes("host-identity-behind-hop-by-hop", behind, Reason::NotTransport));
    let nothing = crate::packet::ip(way.client, way.listener).extension(DESTINATION, &PAD);
    all.push(passes("no-next-header", nothing, Reason::NotTransport));
    all
}

/// TCP options, up to all that the header has room for.
fn tcp(way: Way) -> Vec<Case> {
    let mss = [2, 4, 5, 0xb4];
    let syn = [&mss[..], &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]].concat();
    let time = [1, 1, 8, 10, 0, 0, 0, 2, 0, 0, 0, 1];
    let sack = [&[1, 1, 5, 34][..], &[0x11; 32], &[1; 4]].concat();
    vec![
        forwards(way, "tcp-mss", way.tcp(SYN).tcp_options(&mss), begins),
        forwards(way, "tcp-syn-of-linux", way.tcp(SYN).tcp_options(&syn), begins),
        forwards(way, "tcp-timestamps", way.tcp(PSH | ACK).tcp_options(&time).payload(33), goes),
        forwards(way, "tcp-40-bytes", way.tcp(ACK).tcp_options(&sack), goes),
    ]
}
