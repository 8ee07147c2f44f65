//! VLAN tags. A frame leaves with those of its next hop's link and no others, whatever it came
//! with. XDP writes them; TC sends the frame without to the VLAN's own interface.

use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::Reason;

use super::direct::{BY_KERNEL, DIRECT};
use super::modes::{self, Mode, Path, UNKNOWN, behind};
use super::nodes::{AWAY, HERE, NETWORKED, PLAIN, ROUTED, Spec};
use super::told::Why;
use super::{Case, begins, case, datagram, goes};
use crate::packet::{ACK, PSH, Packet, SYN, ip, other};

/// Through a VLAN's interface, which is on top of that of `below`.
const fn vlan(below: NextHop, tags: [u32; 2]) -> NextHop {
    NextHop { interface: 70, tags, ..below }
}

/// A tag as it stands on the wire.
const fn on_wire(protocol: u16, id: u16) -> u32 {
    let ([a, b], [c, d]) = (protocol.to_be_bytes(), id.to_be_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

const ONE: NextHop = vlan(AWAY, [on_wire(0x8100, 42), 0]);
const OTHER: NextHop = vlan(AWAY, [on_wire(0x8100, 4_094), 0]);
const SERVICE: NextHop = vlan(AWAY, [on_wire(0x88a8, 7), on_wire(0x8100, 42)]);
const TWO: NextHop = vlan(AWAY, [on_wire(0x8100, 100), on_wire(0x8100, 200)]);
/// In a VLAN of the interface that packets come by.
const BACK: NextHop = vlan(HERE, [on_wire(0x8100, 42), 0]);

static TO_ONE: Spec = Spec { name: "to-42", hops: &behind(ONE), ..UNKNOWN };
static TO_OTHER: Spec = Spec { name: "to-4094", hops: &behind(OTHER), ..UNKNOWN };
static TO_SERVICE: Spec = Spec { name: "to-7-42", hops: &behind(SERVICE), ..UNKNOWN };
static TO_TWO: Spec = Spec { name: "to-100-200", hops: &behind(TWO), ..UNKNOWN };
static TO_BACK: Spec = Spec { name: "back-42", hops: &behind(BACK), ..UNKNOWN };

/// A node's name in cases, the node, and the hop of all its backends.
const LINKS: [(&str, &Spec, NextHop); 6] = [
    ("to-none", &DIRECT, AWAY),
    ("to-one", &TO_ONE, ONE),
    ("to-other", &TO_OTHER, OTHER),
    ("to-service", &TO_SERVICE, SERVICE),
    ("to-two", &TO_TWO, TWO),
    ("back", &TO_BACK, BACK),
];

/// Tags that frames come with. The last one says a priority alone.
const TAGS: [(&str, &[(u16, u16)]); 5] = [
    ("from-none", &[]),
    ("from-one", &[(0x8100, 42)]),
    ("from-service", &[(0x88a8, 7), (0x8100, 42)]),
    ("from-two", &[(0x8100, 1), (0x8100, 0xefff)]),
    ("from-priority", &[(0x8100, 0xe000)]),
];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for path in modes::all() {
        for (from, tags) in TAGS {
            all.extend(forwarded(path, from, tags));
            all.extend(not_forwarded(path, from, tags));
        }
    }
    all.extend(left_alone());
    all
}

fn tagged(packet: Packet, tags: &[(u16, u16)]) -> Packet {
    tags.iter().fold(packet, |packet, (protocol, tag)| packet.tagged(*protocol, *tag))
}

fn named(case: Case) -> Case {
    Case { name: format!("vlan/{}", case.name), ..case }
}

fn forwarded(path: Path, from: &str, tags: &[(u16, u16)]) -> Vec<Case> {
    let mut all = Vec::new();
    for (to, node, hop) in LINKS {
        let input = tagged(path.tcp(PSH | ACK).payload(77), tags);
        all.push(path.case(&format!("{from}/{to}/data"), node, &hop, input, goes));
    }
    let input = tagged(path.tcp(SYN), tags);
    all.push(path.case(&format!("{from}/to-one/syn"), &TO_ONE, &ONE, input, begins));
    let input = tagged(path.udp(), tags);
    all.push(path.case(&format!("{from}/to-two/udp"), &TO_TWO, &TWO, input, datagram));
    let input = tagged(path.udp(), tags).padded(90);
    all.push(path.case(&format!("{from}/to-one/padded"), &TO_ONE, &ONE, input, datagram));

    let input = tagged(path.tcp(SYN), tags);
    let sent = path.forwarded(&input).untagged().macs(ROUTED.mac, ROUTED.interface_mac);
    let draft = path.draft(&format!("{from}/by-kernel"), &BY_KERNEL, input);
    all.push(draft.to_backend_by_kernel(sent, begins(path.backend)));
    all.into_iter().map(named).collect()
}

/// Answers to clients, and what the node tells a client: by the way that the client's packet came.
fn not_forwarded(path: Path, from: &str, tags: &[(u16, u16)]) -> Vec<Case> {
    let mut all = Vec::new();
    if path.mode != Mode::L2 {
        let input = tagged(path.tcp(ACK).payload(33).ttl(1), tags);
        all.push(path.draft(&format!("{from}/last-hop"), &TO_ONE, input).tells(Why::Expired));
    }
    if path.mode == Mode::Nat {
        let (address, _) = path.backend.rsplit_once(':').unwrap();
        let answer = ip(address.trim_matches(['[', ']']), path.client);
        let answer = tagged(answer.tcp(8_080, 40_000, PSH | ACK).payload(99), tags);
        let listener = if path.is_v4() { "198.51.100.1:80" } else { "[2001:db8::1]:80" };
        let seen = answer.clone().from(listener).ttl(63);
        let draft = path.draft(&format!("{from}/answer"), &NETWORKED, answer);
        all.push(draft.to_client(seen, &ROUTED, path.backend));
    }
    all.into_iter().map(named).collect()
}

fn left_alone() -> Vec<Case> {
    let tcp = || ip("192.0.2.7", "198.51.100.1").tcp(40_000, 80, SYN);
    let elsewhere = || tcp().to("198.51.100.99");
    let tcp6 = || ip("2001:db8:7::7", "2001:db8::1").tcp(40_000, 80, SYN);
    let arp = || {
        other(
            0x0806,
            &[
                0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 198, 51,
                100, 1,
            ],
        )
    };
    [
        ("arp/one-tag", arp().tag(42), Reason::NotIp),
        ("arp/two-tags", arp().tagged(0x88a8, 7).tag(42), Reason::NotIp),
        ("not-ours/one-tag", elsewhere().tag(42), Reason::NotOurs),
        ("not-ours/two-tags", elsewhere().tagged(0x88a8, 7).tag(42), Reason::NotOurs),
        ("not-ours/priority", elsewhere().tag(0xe000), Reason::NotOurs),
        ("three-tags/ipv4", tcp().tag(1).tag(2).tag(3), Reason::Vlan),
        ("three-tags/ipv6", tcp6().tagged(0x88a8, 1).tagged(0x88a8, 2).tag(3), Reason::Vlan),
        // Made by some before there was a standard; not understood.
        ("0x9100", tcp().tagged(0x9100, 42), Reason::NotIp),
        ("0x9100-inside", tcp().tag(42).tagged(0x9100, 42), Reason::NotIp),
        ("cut/in-the-tag", tcp().tag(42).cut(16), Reason::Malformed),
        ("cut/in-the-second-tag", tcp().tagged(0x88a8, 7).tag(42).cut(20), Reason::Malformed),
        ("cut/behind-the-tag", tcp().tag(42).cut(18), Reason::Malformed),
        ("cut/in-ipv4", tcp().tag(42).cut(18 + 19), Reason::Malformed),
        ("cut/in-ipv6", tcp6().tag(42).cut(18 + 39), Reason::Malformed),
        ("cut/in-tcp", tcp().tagged(0x88a8, 7).tag(42).cut(22 + 20 + 19), Reason::Malformed),
        ("fragment/not-ours", elsewhere().payload(64).fragment(9, 0, 32).tag(42), Reason::Fragment),
    ]
    .into_iter()
    .map(|(name, input, reason)| {
        case(format!("vlan/left-alone/{name}"), &PLAIN, input).passes(reason)
    })
    .collect()
}
