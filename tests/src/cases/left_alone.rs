//! What is not for weir: other addresses and ports, other protocols. It is left to the stack and
//! counted, and no byte of it changes.

use weir_ebpf::abi::Reason;

use super::nat::WAYS;
use super::nodes::PLAIN;
use super::{Case, case};
use crate::packet::{Packet, SYN, ip, other};

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for way in WAYS {
        let left = |name: &str, input: Packet, reason| {
            case(format!("left-alone/{}/{name}", way.name), &PLAIN, input).passes(reason)
        };
        let elsewhere = if way.name == "ipv4" { "198.51.100.99" } else { "2001:db8::99" };
        let (tcp, udp) = (way.tcp(SYN), way.udp());
        all.extend([
            left(
                "another-port/tcp",
                ip(way.client, way.listener).tcp(40_000, 8_080, SYN),
                Reason::NotOurs,
            ),
            left(
                "another-port/udp",
                ip(way.client, way.listener).udp(40_000, 443),
                Reason::NotOurs,
            ),
            left("port-0/tcp", ip(way.client, way.listener).tcp(40_000, 0, SYN), Reason::NotOurs),
            left("another-address/tcp", tcp.clone().to(elsewhere), Reason::NotOurs),
            left("another-address/udp", udp.clone().to(elsewhere), Reason::NotOurs),
            left("another-address/last-hop", tcp.clone().to(elsewhere).ttl(1), Reason::NotOurs),
            left(
                "sctp",
                ip(way.client, way.listener).raw(132, &[0; 24]).broken(),
                Reason::NotTransport,
            ),
            left("no-transport", ip(way.client, way.listener), Reason::NotTransport),
            left("vlan/three-tags", tcp.clone().tagged(0x88a8, 7).tag(42).tag(43), Reason::Vlan),
            left("vlan/another-port", tcp.clone().tag(42).to(elsewhere), Reason::NotOurs),
        ]);
    }
    for (name, input, reason) in [
        ("arp", arp(), Reason::NotIp),
        ("lldp", other(0x88cc, &[0; 46]).broken(), Reason::NotIp),
        ("802.3-length", other(46, &[0xaa; 46]).broken(), Reason::NotIp),
        ("mpls", other(0x8847, &[0, 0, 0x11, 64, 0x45]).broken(), Reason::NotIp),
    ] {
        all.push(case(format!("left-alone/{name}"), &PLAIN, input).passes(reason));
    }
    all
}

/// Who has 198.51.100.1?
fn arp() -> Packet {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let asks = [2, 0, 0, 0, 0, 2, 192, 0, 2, 7];
    let asked = [0, 0, 0, 0, 0, 0, 198, 51, 100, 1];
    other(0x0806, &[&head[..], &asks, &asked].concat()).macs([0xff; 6], [2, 0, 0, 0, 0, 2])
}
