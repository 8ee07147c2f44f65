//! Packets that are broken: a length that cannot be, at every layer. They are left to the stack and
//! counted, and no byte of them changes.

use weir_ebpf::abi::Reason;

use super::nat::WAYS;
use super::nodes::PLAIN;
use super::{Case, case};
use crate::packet::{DESTINATION, Packet, SYN, ip};

const ETHERNET: usize = 14;

pub(super) fn cases() -> Vec<Case> {
    let [v4, v6] = WAYS;
    let both: [(&str, Packet, Packet, usize); 2] = [
        ("ipv4", v4.tcp(SYN), v4.udp(), ETHERNET + 20),
        ("ipv6", v6.tcp(SYN), v6.udp(), ETHERNET + 40),
    ];
    let mut all = Vec::new();
    for (family, tcp, udp, l4) in both {
        let (tcp, udp) = (|| tcp.clone(), || udp.clone());
        let broken = [
            ("cut/ethernet-alone", tcp().cut(ETHERNET)),
            ("cut/one-byte-of-ip", tcp().cut(ETHERNET + 1)),
            ("cut/in-ip", tcp().cut(l4 - 1)),
            ("cut/behind-ip", tcp().cut(l4)),
            ("cut/in-tcp", tcp().cut(l4 + 19)),
            ("cut/in-tcp-ports", tcp().cut(l4 + 3)),
            ("cut/in-udp", udp().cut(l4 + 7)),
            ("cut/in-udp-data", udp().cut(l4 + 12)),
            ("tcp/data-offset-0", tcp().data_offset(0)),
            ("tcp/data-offset-4", tcp().data_offset(4)),
            ("tcp/data-offset-beyond", tcp().data_offset(6)),
            ("tcp/data-offset-15", tcp().payload(36).data_offset(15)),
            ("udp/length-0", udp().udp_length(0)),
            ("udp/length-7", udp().udp_length(7)),
            ("udp/length-beyond", udp().udp_length(14)),
            ("udp/length-ffff", udp().udp_length(0xffff)),
            ("ip/version-0", tcp().version(0)),
            ("ip/version-5", tcp().version(5)),
            ("ip/other-version", tcp().version(if family == "ipv4" { 6 } else { 4 })),
            ("ip/length-ffff", tcp().length(0xffff)),
        ];
        for (name, input) in broken {
            all.push(malformed(family, name, input));
        }
    }
    for (name, input) in [
        ("header/of-0-bytes", v4.tcp(SYN).header_words(0)),
        ("header/of-16-bytes", v4.tcp(SYN).header_words(4)),
        ("header/beyond-the-packet", v4.tcp(SYN).header_words(15)),
        ("length/0", v4.tcp(SYN).length(0)),
        ("length/shorter-than-the-header", v4.tcp(SYN).length(19)),
        ("length/of-the-header", v4.tcp(SYN).length(20)),
        ("length/ends-in-tcp", v4.tcp(SYN).length(39)),
        ("length/ends-in-udp", v4.udp().length(27)),
        ("length/one-beyond-the-frame", v4.tcp(SYN).length(41)),
        ("options/reach-over-tcp", v4.tcp(SYN).header_words(6)),
    ] {
        all.push(malformed("ipv4", name, input));
    }
    let mapped = v6.tcp(SYN).broken();
    let extended = |body: &[u8]| v6.tcp(SYN).extension(DESTINATION, body);
    for (name, input) in [
        ("length/0", v6.tcp(SYN).length(0)),
        ("length/ends-in-tcp", v6.tcp(SYN).length(19)),
        ("length/ends-in-udp", v6.udp().length(7)),
        ("length/one-beyond-the-frame", v6.tcp(SYN).length(21)),
        ("extension/cut", extended(&[1, 4, 0, 0, 0, 0]).cut(ETHERNET + 40 + 1)),
        ("extension/ends-the-frame", extended(&[1, 4, 0, 0, 0, 0]).cut(ETHERNET + 40 + 8)),
        ("extension/beyond-the-packet", extended(&[&[1, 252][..], &[0; 252]].concat()).cut(200)),
        ("mapped/source", mapped.clone().from("::ffff:192.0.2.7")),
        ("mapped/destination", mapped.to("::ffff:198.51.100.1")),
    ] {
        all.push(malformed("ipv6", name, input));
    }
    // A length behind a header that lies is that of another packet.
    let lies = ip(v4.client, v4.listener).raw(6, &[0; 4]).broken();
    all.push(malformed("ipv4", "tcp/of-four-bytes", lies));
    let lies = ip(v6.client, v6.listener).raw(17, &[0; 4]).broken();
    all.push(malformed("ipv6", "udp/of-four-bytes", lies));
    all
}

fn malformed(family: &str, name: &str, input: Packet) -> Case {
    case(format!("malformed/{family}/{name}"), &PLAIN, input).passes(Reason::Malformed)
}
