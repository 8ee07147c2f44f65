//! Mode `nat`, from a backend to a client: the answer gets the listener's address and port, by the
//! way that the kernel's routing says; and connections to a backend itself, which are left alone.

use weir_ebpf::abi::Reason;

use super::icmp::{Why, told};
use super::nat::{WAYS, Way};
use super::nodes::{LOST, NETWORKED, PLAIN, ROUTED, Spec};
use super::{Case, Outcome, Rise, case};
use crate::packet::{ACK, FIN, HOP_BY_HOP, PSH, Packet, RST, SYN, ip};

pub(super) fn cases() -> Vec<Case> {
    WAYS.into_iter()
        .flat_map(|way| [answers(way), last_hops(way), without_a_way(way), direct(way)].concat())
        .collect()
}

/// The backend's address alone.
pub(super) fn address(way: Way) -> &'static str {
    let (address, _) = way.backend.rsplit_once(':').unwrap();
    address.trim_matches(['[', ']'])
}

fn tcp(way: Way, flags: u8) -> Packet {
    ip(address(way), way.client).tcp(8_080, 40_000, flags)
}

fn udp(way: Way) -> Packet {
    ip(address(way), way.client).udp(8_080, 40_000).data(b"hello back")
}

/// An answer as its client must see it.
fn turned_back(way: Way, answer: &Packet) -> Packet {
    let listener = way.listener;
    let from =
        if way.name == "ipv4" { format!("{listener}:80") } else { format!("[{listener}]:80") };
    answer.clone().from(&from).ttl(answer.inner().ttl - 1)
}

fn answers(way: Way) -> Vec<Case> {
    let mut all: Vec<(&str, Packet)> = vec![
        ("syn-ack", tcp(way, SYN | ACK)),
        ("ack", tcp(way, ACK)),
        ("data", tcp(way, PSH | ACK).payload(1_000)),
        ("full-frame", tcp(way, PSH | ACK).payload(if way.name == "ipv4" { 1_460 } else { 1_440 })),
        ("fin", tcp(way, FIN | ACK)),
        ("rst", tcp(way, RST)),
        ("with-options", tcp(way, SYN | ACK).tcp_options(&[2, 4, 5, 0xb4])),
        ("dscp-and-ecn", tcp(way, ACK).tos(0xbb)),
        ("padded", tcp(way, ACK).padded(80)),
        ("ttl-2", tcp(way, ACK).ttl(2)),
        ("wrong-checksum", tcp(way, ACK).payload(3).checksum_off_by(7)),
        ("udp", udp(way)),
        ("udp-empty", udp(way).data(&[])),
        ("udp-no-checksum", udp(way).no_checksum()),
    ];
    if way.name == "ipv4" {
        all.push(("ip-options", udp(way).options(&[1, 1, 1, 0])));
    } else {
        all.push(("extension", tcp(way, ACK).extension(HOP_BY_HOP, &[1, 4, 0, 0, 0, 0])));
    }
    let turned = |(name, answer): (&str, Packet)| {
        let seen = turned_back(way, &answer);
        case(named(way, name), &NETWORKED, answer).to_client(seen, &ROUTED, way.backend)
    };
    all.into_iter().map(turned).collect()
}

fn named(way: Way, name: &str) -> String {
    format!("returns/{}/{name}", way.name)
}

/// The backend is told, by the listener's address: the client speaks with that.
fn last_hops(way: Way) -> Vec<Case> {
    [("ttl-1", tcp(way, ACK).ttl(1)), ("ttl-0", udp(way).ttl(0))]
        .map(|(name, answer)| {
            let told = told(&answer, way.listener, Why::Expired);
            case(named(way, name), &NETWORKED, answer).tc_sends(told, Reason::HopLimit)
        })
        .to_vec()
}

/// XDP leaves these to TC, which leaves them to the stack: they may be meant for the node itself.
fn without_a_way(way: Way) -> Vec<Case> {
    let nodes: [(&str, &'static Spec); 2] =
        [("without-forwarding", &PLAIN), ("without-a-route", &LOST)];
    let mut all = Vec::new();
    for (name, node) in nodes {
        for (what, answer) in [("tcp", tcp(way, SYN | ACK)), ("udp", udp(way))] {
            let name = named(way, &format!("{name}/{what}"));
            all.push(case(name, node, answer).passes(Reason::Direct));
        }
    }
    // The client is a neighbour that the kernel has yet to find: TC lets it.
    let near = if way.name == "ipv4" { "10.0.1.77" } else { "fd00:1::77" };
    let answer = tcp(way, SYN | ACK).to(near);
    let sent = Outcome::sent(turned_back(way, &answer), vec![Rise::Out(way.backend)]);
    let draft = case(named(way, "neighbour-to-be-found"), &NETWORKED, answer);
    all.push(draft.becomes(Outcome::left(), sent));
    // To the node itself.
    let own = if way.name == "ipv4" { "203.0.113.1" } else { "2001:db8:113::1" };
    let draft = case(named(way, "to-the-node-itself"), &NETWORKED, tcp(way, ACK).to(own));
    all.push(draft.passes(Reason::Direct));
    let other = ip(address(way), way.client).tcp(9, 40_000, ACK);
    all.push(case(named(way, "from-another-port"), &NETWORKED, other).passes(Reason::NotOurs));
    all
}

/// A client's own connection to a backend. Each has a port of its own: that there was one is
/// remembered beyond its case.
fn direct(way: Way) -> Vec<Case> {
    let there = |port: u16, flags| ip(way.client, address(way)).tcp(port, 8_080, flags);
    let back = |port: u16| ip(address(way), way.client).tcp(8_080, port, SYN | ACK);
    let answer = back(41_002);
    let seen = turned_back(way, &answer);
    vec![
        case(named(way, "direct/there"), &NETWORKED, there(41_000, SYN)).passes(Reason::Direct),
        case(
            named(way, "direct/there-udp"),
            &PLAIN,
            ip(way.client, address(way)).udp(41_000, 8_080),
        )
        .passes(Reason::Direct),
        case(named(way, "direct/and-back"), &NETWORKED, back(41_001))
            .after(there(41_001, SYN))
            .passes(Reason::Direct),
        // The same port then begins a flow of the service: its answers are weir's again.
        case(named(way, "direct/then-through-the-service"), &NETWORKED, answer)
            .after(there(41_002, SYN))
            .after(ip(way.client, way.listener).tcp(41_002, 80, SYN))
            .to_client(seen, &ROUTED, way.backend)
            .and_established(way.backend),
    ]
}
