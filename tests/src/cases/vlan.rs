//! VLAN tags: those of a frame that comes in are taken off, and it leaves with those of the link it
//! leaves by, and no others. XDP writes them; TC sends the frame without to the VLAN's own
//! interface, which is not tried here.

use weir::dataplane::next_hop::NextHop;

use super::direct_nodes::{TAGGED, VLAN, VLANS};
use super::forwarding::flow_hash;
use super::nodes::{AWAY, NETWORKED, ROUTED};
use super::{Case, In, Outcome, Rise, begins, case, datagram, goes};
use crate::packet::{ACK, Packet, SYN, ip};

/// How a backend is reached, and the tags that are seen there.
struct Link {
    hop: NextHop,
    tags: &'static [(u16, u16)],
}

const UNTAGGED: Link = Link { hop: AWAY, tags: &[] };
const ONE: Link = Link { hop: VLAN, tags: &[(0x8100, 0x2a)] };
const TWO: Link = Link { hop: VLANS, tags: &[(0x88a8, 7), (0x8100, 0x2a)] };

/// A listener's address, and the backend behind it.
const WAYS: [(&str, &str, &str, Link); 4] = [
    ("ipv4/to-none", "198.51.100.1", "10.0.0.1:8080", UNTAGGED),
    ("ipv6/to-none", "2001:db8::1", "[fd00::1]:8080", UNTAGGED),
    ("ipv4/to-one", "198.51.100.2", "10.0.0.2:8080", ONE),
    ("ipv6/to-two", "2001:db8::2", "[fd00::2]:8080", TWO),
];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (name, listener, backend, link) in WAYS {
        let client = if listener.contains(':') { "2001:db8:7::7" } else { "192.0.2.7" };
        let tcp = |flags| ip(client, listener).tcp(40_000, 80, flags);
        let udp = ip(client, listener).udp(40_000, 80).data(b"hello");
        for (kind, input, counted) in [
            ("syn", tcp(SYN), begins(backend)),
            ("data", tcp(ACK).payload(500), goes(backend)),
            ("udp", udp, datagram(backend)),
        ] {
            for (with, input) in with_tags(&input) {
                let sent = input.clone().untagged().to(backend).ttl(63);
                all.push(link.case(&format!("{name}/{kind}/{with}"), input, sent, counted));
            }
        }
    }
    let answer = ip("10.0.0.1", "192.0.2.7").tcp(8_080, 40_000, ACK).payload(100);
    for (with, answer) in with_tags(&answer) {
        let seen = answer.clone().untagged().from("198.51.100.1:80").ttl(63);
        let draft = case(format!("vlan/returns/{with}"), &NETWORKED, answer);
        all.push(draft.to_client(seen, &ROUTED, "10.0.0.1:8080"));
    }
    all.extend(tunnels());
    all
}

impl Link {
    /// A case in which this frame leaves, but for MAC addresses and tags.
    fn case(&self, name: &str, input: Packet, sent: Packet, counted: In) -> Case {
        let sent = sent.macs(self.hop.mac, self.hop.interface_mac);
        let tag = |frame: Packet, (protocol, tag): &(u16, u16)| frame.tagged(*protocol, *tag);
        let written = self.tags.iter().fold(sent.clone(), tag);
        let leaves = |frame| Outcome::sent(frame, vec![Rise::In(counted)]);
        case(format!("vlan/{name}"), &TAGGED, input).becomes(leaves(written), leaves(sent))
    }
}

/// With no tag, one and two.
fn with_tags(packet: &Packet) -> [(&'static str, Packet); 4] {
    let packet = || packet.clone();
    [
        ("from-none", packet()),
        ("from-one", packet().tag(0x602b)),
        ("from-service-tag", packet().tagged(0x88a8, 7)),
        ("from-two", packet().tagged(0x88a8, 9).tag(0x0fff)),
    ]
}

/// Tags and an outer header, in one go.
fn tunnels() -> Vec<Case> {
    let mut all = Vec::new();
    let input = |listener| ip("192.0.2.7", listener).tcp(40_000, 80, ACK).payload(77);
    for (with, input) in with_tags(&input("198.51.100.3")) {
        let outer = ip("203.0.113.9", "10.0.0.3").id(0).df();
        let sent = input.clone().untagged().ttl(63).within(outer);
        all.push(ONE.case(&format!("tunnel/4-in-4/{with}"), input, sent, goes("10.0.0.3")));
    }
    for (with, input) in with_tags(&input("198.51.100.4")) {
        let label = flow_hash(&input) >> 12;
        let outer = ip("2001:db8:113::9", "fd00::4").flow_label(label);
        let sent = input.clone().untagged().ttl(63).within(outer);
        all.push(TWO.case(&format!("tunnel/4-in-6/{with}"), input, sent, goes("fd00::4")));
    }
    all
}
