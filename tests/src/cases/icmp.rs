//! ICMP and ICMPv6: echo requests are answered, errors go where the flow goes that they are about,
//! and senders are told why their packets go no further. All of it is TC's.

use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::Reason;

use super::nat::{WAYS, Way};
use super::nodes::{AWAY, NETWORKED, PLAIN, ROUTED, Spec};
use super::returns::address;
use super::{Case, case, goes};
use crate::packet::{ACK, DESTINATION, PSH, Packet, ip};

/// Type, code and second word of a message.
pub(super) type Kind = (u8, u8, [u8; 4]);

/// Links to backends that take no more than this.
const NARROW: u16 = 1_400;
const NARROW_HOP: NextHop = NextHop { mtu: NARROW as u32, ..AWAY };

/// [`PLAIN`] with narrow links, and a narrow route to the clients.
static NARROWED: Spec = Spec {
    name: "narrowed",
    hops: &[("10.0.0.1", NARROW_HOP), ("fd00::1", NARROW_HOP)],
    network: &[&[
        "link set lo up",
        "link add name near index 17 address 02:11:00:00:00:01 type veth peer name far index 18",
        "link set near mtu 1400 up",
        "link set far up",
        "addr add 192.0.2.1/24 dev near",
        "addr add 2001:db8:7::1/64 dev near nodad",
        "neigh add 192.0.2.7 lladdr 02:11:00:00:00:02 nud permanent dev near",
        "neigh add 2001:db8:7::7 lladdr 02:11:00:00:00:02 nud permanent dev near",
    ]],
    forwarding: true,
    ..PLAIN
};

pub(super) fn cases() -> Vec<Case> {
    WAYS.into_iter()
        .flat_map(|way| {
            [echoes(way), other_messages(way), errors(way), other_errors(way), too_big(way)]
                .concat()
        })
        .collect()
}

fn named(way: Way, name: &str) -> String {
    format!("icmp/{}/{name}", way.name)
}

/// One of two, by the family.
fn by<T>(way: Way, v4: T, v6: T) -> T {
    if way.name == "ipv4" { v4 } else { v6 }
}

/// Why a packet goes no further.
#[derive(Clone, Copy)]
pub(super) enum Why {
    /// No hop is left.
    Expired,
    /// Packets of up to this many bytes would fit.
    Fits(u16),
}

impl Why {
    fn kind(self, v4: bool) -> Kind {
        match (self, v4) {
            (Self::Expired, true) => (11, 0, [0; 4]),
            (Self::Expired, false) => (3, 0, [0; 4]),
            (Self::Fits(mtu), _) => {
                let [high, low] = mtu.to_be_bytes();
                let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
                (kind, code, [0, 0, high, low])
            }
        }
    }
}

/// What the sender of a packet is told by this address: how the packet began, back by where it
/// came from.
pub(super) fn told(input: &Packet, by: &str, why: Why) -> Packet {
    let sender = input.inner().source;
    let (kind, code, rest) = why.kind(sender.is_ipv4());
    let error = ip(by, &sender.to_string()).icmp(kind, code, rest).quoting(input, 192);
    let error = if sender.is_ipv4() { error.id(0).df().tos(0xc0) } else { error };
    let [to, from] = input.macs;
    Packet { tags: input.tags.clone(), ..error.macs(from, to) }
}

fn echoes(way: Way) -> Vec<Case> {
    let (asks, answers) = by(way, (8, 0), (128, 129));
    let request = ip(way.client, way.listener).icmp(asks, 0, [0x12, 0x34, 0, 7]);
    let answered = |name: &str, input: Packet| {
        let [to, from] = input.macs;
        let answer = input.clone().to(way.client).from(way.listener).macs(from, to).ttl(64);
        let answer = answer.icmp_kind(answers);
        case(named(way, &format!("echo/{name}")), &PLAIN, input).tc_sends(answer, Reason::Echo)
    };
    let mut all = vec![
        answered("nothing", request.clone()),
        answered("one-byte", request.clone().data(b"x")),
        answered("as-ping-does", request.clone().payload(56)),
        answered("odd", request.clone().payload(57)),
        answered("full-frame", request.clone().payload(by(way, 1_472, 1_452))),
        answered("jumbo", request.clone().payload(3_000)),
        answered("last-hop", request.clone().payload(8).ttl(1)),
        answered("many-hops", request.clone().payload(8).ttl(255)),
        answered("dscp-and-ecn", request.clone().payload(8).tos(0xbb)),
        answered("padded", request.clone().data(b"ab").padded(71)),
        answered("tag", request.clone().payload(8).tag(42)),
        answered("two-tags", request.clone().payload(8).tagged(0x88a8, 7).tag(42)),
        // It is mended, not made: a wrong one stays wrong by as much.
        answered("wrong-checksum", request.clone().payload(9).checksum_off_by(3)),
    ];
    if way.name == "ipv4" {
        all.push(answered("options", request.clone().payload(8).options(&[1; 12])));
    } else {
        let pad = [1, 4, 0, 0, 0, 0];
        all.push(answered("extension", request.clone().payload(8).extension(DESTINATION, &pad)));
    }
    all.extend(unanswered(way, &request.payload(40)));
    all
}

/// Requests to others, and from where no answer may go.
fn unanswered(way: Way, request: &Packet) -> Vec<Case> {
    let left = |name: &str, input: Packet| {
        let name = named(way, &format!("echo/unanswered/{name}"));
        case(name, &PLAIN, input).passes(Reason::NotTransport)
    };
    let mut all = vec![
        left("to-another-address", request.clone().to(by(way, "198.51.100.99", "2001:db8::99"))),
        left("to-a-backend", request.clone().to(address(way))),
        left("to-all-macs", request.clone().macs([0xff; 6], [2, 0, 0, 0, 0, 2])),
        left("to-many-macs", request.clone().macs([0x33, 0x33, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])),
        left("cut", ip(way.client, way.listener).raw(by(way, 1, 58), &[8; 7]).broken()),
        left("empty", ip(way.client, way.listener).raw(by(way, 1, 58), &[]).broken()),
        // ICMP in IPv6 and the other way round is nothing that exists.
        left("of-the-other-family", {
            let bytes = [by(way, 128, 8), 0, 0, 0, 0, 0, 0, 0];
            ip(way.client, way.listener).raw(by(way, 58, 1), &bytes).broken()
        }),
    ];
    let bad: &[&str] = by(
        way,
        &["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"],
        &["::", "::1", "ff02::1"],
    );
    for from in bad {
        all.push(left(&format!("from-{from}"), request.clone().from(from)));
    }
    for (n, start) in [0, 24].into_iter().enumerate() {
        let name = named(way, &format!("echo/fragment-{n}"));
        let piece = request.clone().fragment(99, start, 24);
        all.push(case(name, &PLAIN, piece).passes(Reason::Fragment));
    }
    all
}

fn other_messages(way: Way) -> Vec<Case> {
    [(0, 0), (129, 0), (13, 0), (5, 0), (9, 0), (10, 0), (135, 0), (136, 0), (137, 0), (200, 7)]
        .map(|(kind, code)| {
            // Not what such a message really holds: it is not looked at.
            let input = ip(way.client, way.listener).icmp(kind, code, [0; 4]).payload(60).broken();
            let name = named(way, &format!("left-alone/{kind}-{code}"));
            case(name, &PLAIN, input).passes(Reason::NotTransport)
        })
        .to_vec()
}

/// Somebody on the way.
fn router(way: Way) -> &'static str {
    by(way, "203.0.113.77", "2001:db8:113::77")
}

/// Errors about packets.
fn kinds(way: Way) -> Vec<(&'static str, Kind)> {
    by(
        way,
        vec![
            ("unreachable", (3, 1, [0; 4])),
            ("port-unreachable", (3, 3, [0; 4])),
            ("fragmentation-needed", Why::Fits(1_280).kind(true)),
            ("time-exceeded", Why::Expired.kind(true)),
            ("parameter-problem", (12, 0, [20, 0, 0, 0])),
        ],
        vec![
            ("unreachable", (1, 0, [0; 4])),
            ("port-unreachable", (1, 4, [0; 4])),
            ("too-big", Why::Fits(1_280).kind(false)),
            ("time-exceeded", Why::Expired.kind(false)),
            ("parameter-problem", (4, 1, [0, 0, 0, 6])),
        ],
    )
}

/// An answer as the client was sent it, and as the backend has sent it.
fn answers(way: Way) -> [(&'static str, Packet, Packet); 3] {
    let tcp = |from: &str, port| ip(from, way.client).tcp(port, 40_000, PSH | ACK).payload(400);
    let udp = |from: &str, port| ip(from, way.client).udp(port, 40_000).payload(400);
    let own = address(way);
    [
        ("tcp", tcp(way.listener, 80), tcp(own, 8_080)),
        ("udp", udp(way.listener, 80), udp(own, 8_080)),
        ("udp-no-checksum", udp(way.listener, 80).no_checksum(), udp(own, 8_080).no_checksum()),
    ]
}

/// A request as the backend was sent it, and as the client has sent it.
fn requests(way: Way) -> [(&'static str, Packet, Packet); 3] {
    let tcp = |to: &str, port| ip(way.client, to).tcp(40_000, port, PSH | ACK).payload(400);
    let udp = |to: &str, port| ip(way.client, to).udp(40_000, port).payload(400);
    let own = address(way);
    [
        ("tcp", tcp(own, 8_080), tcp(way.listener, 80)),
        ("udp", udp(own, 8_080), udp(way.listener, 80)),
        ("udp-no-checksum", udp(own, 8_080).no_checksum(), udp(way.listener, 80).no_checksum()),
    ]
}

/// An error about a packet goes to its sender, about the packet as it was sent.
fn errors(way: Way) -> Vec<Case> {
    let mut all = Vec::new();
    for (what, (kind, code, rest)) in kinds(way) {
        let error = |from: &str, to: &str, about: &Packet| {
            ip(from, to).icmp(kind, code, rest).quoting(about, 128).ttl(60)
        };
        let to_backend = |name: &str, from: &str, seen: &Packet, own: &Packet| {
            let name = named(way, &format!("error/to-backend/{what}/{name}"));
            let out = error(from, address(way), own).ttl(59).macs(AWAY.mac, AWAY.interface_mac);
            case(name, &PLAIN, error(from, way.listener, seen)).tc_sends(out, Reason::Quoted)
        };
        let to_client = |name: &str, (from, by): (&str, &str), seen: &Packet, own: &Packet| {
            let name = named(way, &format!("error/to-client/{what}/{name}"));
            let out = error(by, way.client, own).ttl(59).macs(ROUTED.mac, ROUTED.interface_mac);
            case(name, &NETWORKED, error(from, way.client, seen)).tc_sends(out, Reason::Quoted)
        };
        for (protocol, seen, own) in answers(way) {
            all.push(to_backend(&format!("{protocol}/router"), router(way), &seen, &own));
            all.push(to_backend(&format!("{protocol}/client"), way.client, &seen, &own));
        }
        for (protocol, seen, own) in requests(way) {
            let there = (router(way), router(way));
            all.push(to_client(&format!("{protocol}/router"), there, &seen, &own));
            // The backend's own come from the listener.
            let there = (address(way), way.listener);
            all.push(to_client(&format!("{protocol}/backend"), there, &seen, &own));
        }
    }
    all.extend(errors_kept(way));
    all
}

/// Where there is more around an error, or more in it.
fn errors_kept(way: Way) -> Vec<Case> {
    let (kind, code, rest) = Why::Fits(1_300).kind(way.name == "ipv4");
    let [(_, seen, own), ..] = answers(way);
    let error = |to: &str, about: &Packet, length| {
        ip(router(way), to).icmp(kind, code, rest).quoting(about, length)
    };
    let sent = |name: &str, input: Packet, output: Packet| {
        let name = named(way, &format!("error/kept/{name}"));
        let output = output.ttl(63).macs(AWAY.mac, AWAY.interface_mac);
        case(name, &PLAIN, input).tc_sends(output, Reason::Quoted)
    };
    let (input, output) = (error(way.listener, &seen, 500), error(address(way), &own, 500));
    let least = by(way, 28, 48);
    let mut all = vec![
        sent("tag", input.clone().tag(42), output.clone()),
        sent("two-tags", input.clone().tagged(0x88a8, 7).tag(42), output.clone()),
        sent("tos", input.clone().tos(0xc0), output.clone().tos(0xc0)),
        sent(
            "padded",
            error(way.listener, &seen, least).padded(120),
            error(address(way), &own, least).padded(120),
        ),
        sent("wrong-checksum", input.clone().checksum_off_by(9), output.clone().checksum_off_by(9)),
    ];
    if way.name == "ipv4" {
        let options = [1; 40];
        all.push(sent(
            "options-in-both",
            error(way.listener, &seen.clone().options(&options), 120).options(&options),
            error(address(way), &own.clone().options(&options), 120).options(&options),
        ));
        all.push(sent(
            "a-first-fragment-in-it",
            error(way.listener, &seen.fragment(7, 0, 200), 128),
            error(address(way), &own.fragment(7, 0, 200), 128),
        ));
    } else {
        let pad = [1, 4, 0, 0, 0, 0];
        all.push(sent(
            "extension-around",
            error(way.listener, &seen, 128).extension(DESTINATION, &pad),
            error(address(way), &own, 128).extension(DESTINATION, &pad),
        ));
    }
    all
}

/// Errors that are about nothing of ours, or that cannot be believed.
fn other_errors(way: Way) -> Vec<Case> {
    let (kind, code, rest) = Why::Fits(1_300).kind(way.name == "ipv4");
    let [(_, seen, _), ..] = answers(way);
    let own = address(way);
    let error = |from: &str, to: &str, about: &Packet, length| {
        ip(from, to).icmp(kind, code, rest).quoting(about, length)
    };
    let left = |name: &str, input: Packet, reason| {
        let name = named(way, &format!("error/left-alone/{name}"));
        case(name, &NETWORKED, input).passes(reason)
    };
    let tcp = |from: &str, to: &str, ports: [u16; 2]| ip(from, to).tcp(ports[0], ports[1], ACK);
    let other_port = tcp(way.listener, way.client, [81 + 1_000, 40_000]);
    let strange = tcp(way.client, own, [40_000, 8_081]);
    let direct = tcp(way.client, own, [42_000, 8_080]);
    let node = by(way, "203.0.113.1", "2001:db8:113::1");
    let health = tcp(node, own, [42_001, 8_080]);
    let not_ours = Reason::NotTransport;
    let short = by(way, 27, 47);
    let mut all = vec![
        left("no-listener", error(router(way), way.listener, &other_port, 128), not_ours),
        left("no-backend", error(router(way), way.client, &strange, 128), not_ours),
        left("to-somebody-else", error(router(way), way.client, &seen, 128), not_ours),
        left("too-short", error(router(way), way.listener, &seen, short), not_ours),
        left("no-quote", ip(router(way), way.listener).icmp(kind, code, rest).broken(), not_ours),
        left("about-the-nodes-own", error(own, node, &health, 128), Reason::Direct),
    ];
    let name = named(way, "error/left-alone/about-a-direct-connection");
    let about_direct = error(own, way.client, &direct, 128);
    all.push(case(name, &NETWORKED, about_direct).after(direct).passes(not_ours));
    let name = named(way, "error/no-hop-left");
    let tired = error(router(way), way.listener, &seen, 128).ttl(1);
    all.push(case(name, &PLAIN, tired).tc_drops(Reason::HopLimit));
    if way.name == "ipv4" {
        let later = seen.clone().fragment(7, 64, 200);
        all.push(left("a-later-fragment", error(router(way), way.listener, &later, 128), not_ours));
        for words in [4, 15] {
            let odd = error(router(way), way.listener, &seen.clone().header_words(words), 60);
            all.push(left(&format!("header-of-{words}-words"), odd.broken(), not_ours));
        }
    } else {
        let extended = seen.clone().extension(DESTINATION, &[1, 4, 0, 0, 0, 0]);
        let input = error(router(way), way.listener, &extended, 128);
        all.push(left("an-extension-in-it", input, not_ours));
    }
    let odd = error(router(way), way.listener, &seen.version(5), 128);
    all.push(left("of-another-version", odd.broken(), not_ours));
    all
}

/// Packets that do not fit where they have to go, and those that just do.
fn too_big(way: Way) -> Vec<Case> {
    let headers = by(way, 40, 60);
    let sized = |length: u16| way.tcp(PSH | ACK).payload(usize::from(length) - headers);
    let too_big = |name: &str, node, input: Packet, by: &str, mtu: u16| {
        let told = told(&input, by, Why::Fits(mtu));
        case(named(way, &format!("too-big/{name}")), node, input).tc_sends(told, Reason::TooBig)
    };
    let fitting = sized(NARROW);
    let hop = &NARROW_HOP;
    let mut all = vec![
        case(named(way, "too-big/just-fits"), &NARROWED, fitting.clone()).to_backend(
            way.forwarded(&fitting),
            hop,
            goes(way.backend),
        ),
        too_big("nat", &NARROWED, sized(NARROW + 1), way.listener, NARROW),
        too_big("nat/tag", &NARROWED, sized(1_500).tag(42), way.listener, NARROW),
        too_big("nat/df", &NARROWED, sized(1_500).df(), way.listener, NARROW),
    ];
    let answer = |length: u16| {
        let packet = ip(address(way), way.client).tcp(8_080, 40_000, PSH | ACK);
        packet.payload(usize::from(length) - headers)
    };
    all.push(too_big("answer", &NARROWED, answer(NARROW + 1), way.listener, NARROW));
    all
}
