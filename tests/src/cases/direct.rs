//! What all modes in which backends answer clients directly have in common: packets of every kind
//! go to the backend, unchanged or in a tunnel, and nothing that a backend sends is turned back.

use weir_ebpf::abi::Reason;

use super::modes::{Count, Path, UNKNOWN, behind};
use super::nodes::{AWAY, HERE, NETWORK, NETWORK_ON_LINK, ROUTED, Spec};
use super::{Case, begins, datagram, goes};
use crate::packet::{
    ACK, CWR, DESTINATION, ECE, FIN, HOP_BY_HOP, PSH, Packet, ROUTING, RST, SYN, ip,
};

/// All backends behind another interface.
pub(super) static DIRECT: Spec = Spec { name: "direct", hops: &behind(AWAY), ..UNKNOWN };

/// All backends behind the interface that packets come by.
static BACK: Spec = Spec { name: "back", hops: &behind(HERE), ..UNKNOWN };

/// The agent knows no next hop, but the kernel does.
pub(super) static BY_KERNEL: Spec =
    Spec { name: "by-kernel", network: &[NETWORK], forwarding: true, ..UNKNOWN };

/// Nobody knows the backends' MAC addresses yet.
static ON_LINK: Spec =
    Spec { name: "on-link", network: &[NETWORK_ON_LINK], forwarding: true, ..UNKNOWN };

/// There is no way to the backends.
static LOST: Spec = Spec { name: "lost-direct", forwarding: true, ..UNKNOWN };

/// A packet, with its name and how it counts.
type Input = (String, Packet, Count);

/// All that holds for a path in any of these modes.
pub(super) fn cases(path: Path) -> Vec<Case> {
    let inputs = [flags(path), datagrams(path), sizes(path), kept(path), options(path)].concat();
    let mut all: Vec<Case> = inputs
        .into_iter()
        .map(|(name, input, counted)| path.case(&name, &DIRECT, &AWAY, input, counted))
        .collect();
    all.extend(ways(path));
    all.extend(not_for_a_service(path));
    all
}

fn input(name: &str, packet: Packet, counted: Count) -> Input {
    (name.to_owned(), packet, counted)
}

fn flags(path: Path) -> Vec<Input> {
    vec![
        input("tcp/syn", path.tcp(SYN), begins),
        input("tcp/syn-ecn", path.tcp(SYN | ECE | CWR), begins),
        input("tcp/syn-with-data", path.tcp(SYN).payload(32), begins),
        input("tcp/syn-ack", path.tcp(SYN | ACK), goes),
        input("tcp/ack", path.tcp(ACK), goes),
        input("tcp/psh-ack", path.tcp(PSH | ACK).payload(10), goes),
        input("tcp/fin-ack", path.tcp(FIN | ACK), goes),
        input("tcp/rst", path.tcp(RST), goes),
        input("tcp/rst-ack", path.tcp(RST | ACK), goes),
        input("tcp/no-flags", path.tcp(0), goes),
    ]
}

fn datagrams(path: Path) -> Vec<Input> {
    vec![
        input("udp/datagram", path.udp(), datagram),
        input("udp/empty", path.udp().data(&[]), datagram),
        input("udp/no-checksum", path.udp().no_checksum(), datagram),
        input("udp/no-checksum-empty", path.udp().data(&[]).no_checksum(), datagram),
        input("udp/wrong-checksum", path.udp().checksum_off_by(0x100), datagram),
    ]
}

/// Lengths of the IP packet, and frames that are longer than it: what fills a frame up stays
/// behind the packet, and the outer header does not count it.
fn sizes(path: Path) -> Vec<Input> {
    let mut all = Vec::new();
    for length in [61, 127, 128, 576, 1_279, 1_280, 1_452] {
        let tcp = Path::filled(path.tcp(PSH | ACK), length);
        all.push(input(&format!("tcp/packet-of-{length}"), tcp, goes));
        let udp = Path::filled(path.udp(), length);
        all.push(input(&format!("udp/packet-of-{length}"), udp, datagram));
    }
    for more in [1, 6, 46] {
        let padded = |packet: Packet| {
            let length = packet.bytes().len() + more;
            packet.padded(length)
        };
        all.push(input(&format!("tcp/padded-by-{more}"), padded(path.tcp(ACK)), goes));
        all.push(input(&format!("udp/padded-by-{more}"), padded(path.udp()), datagram));
    }
    all
}

/// What is kept inside; a tunnel shows DSCP and ECN outside too.
fn kept(path: Path) -> Vec<Input> {
    let mut all = vec![
        input("ttl-255", path.tcp(ACK).ttl(255), goes),
        input("ttl-2", path.udp().ttl(2), datagram),
        input("tcp/wrong-checksum", path.tcp(ACK).payload(9).checksum_off_by(1), goes),
    ];
    for tos in [0x01, 0x02, 0x03, 0x28, 0xb8, 0xbb, 0xff] {
        all.push(input(&format!("tos-{tos:02x}"), path.tcp(ACK).tos(tos), goes));
    }
    if path.is_v4() {
        all.extend([
            input("df", path.tcp(SYN).df(), begins),
            input("id-ffff", path.tcp(ACK).id(0xffff), goes),
            input("id-0", path.udp().id(0).df(), datagram),
            input("wrong-ip-checksum", path.tcp(SYN).header_checksum_off_by(1), begins),
        ]);
    } else {
        all.extend([
            input("flow-label", path.tcp(SYN).flow_label(0xf_ffff), begins),
            input("flow-label-and-tos", path.udp().flow_label(0x1_2345).tos(0xb9), datagram),
        ]);
    }
    all
}

fn options(path: Path) -> Vec<Input> {
    const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0];
    let route = [&[4, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1]].concat();
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let sack = [&[1, 1, 5, 34][..], &[0x11; 32], &[1; 4]].concat();
    let mut all = vec![
        input("tcp-options/syn-of-linux", path.tcp(SYN).tcp_options(&linux), begins),
        input("tcp-options/40-bytes", path.tcp(ACK).tcp_options(&sack).payload(3), goes),
    ];
    if path.is_v4() {
        let most = [&[1; 39][..], &[0]].concat();
        all.extend([
            input("ip-options/4-bytes", path.tcp(SYN).options(&[1, 1, 1, 0]), begins),
            input("ip-options/router-alert", path.udp().options(&[148, 4, 0, 0]), datagram),
            input("ip-options/40-bytes", path.tcp(ACK).options(&most), goes),
            input("ip-options/40-bytes-udp", path.udp().options(&most).payload(99), datagram),
        ]);
    } else {
        let four = |packet: Packet| {
            let packet = packet.extension(HOP_BY_HOP, &PAD).extension(DESTINATION, &PAD);
            packet.extension(ROUTING, &route).extension(DESTINATION, &PAD)
        };
        all.extend([
            input("extensions/hop-by-hop", path.tcp(SYN).extension(HOP_BY_HOP, &PAD), begins),
            input("extensions/destination", path.udp().extension(DESTINATION, &PAD), datagram),
            input("extensions/routing", path.tcp(ACK).extension(ROUTING, &route), goes),
            input("extensions/four", four(path.tcp(ACK)), goes),
            input("extensions/four-udp", four(path.udp()), datagram),
        ]);
    }
    all
}

/// Where the next hop is, and who knows it.
fn ways(path: Path) -> Vec<Case> {
    let mut all = Vec::new();
    for (what, input, counted) in path.both() {
        let back = format!("out-where-it-came-in/{what}");
        all.push(path.case(&back, &BACK, &HERE, input.clone(), counted));

        let sent = path.forwarded(&input);
        let draft = path.draft(&format!("by-kernel/{what}"), &BY_KERNEL, input.clone());
        let routed = sent.clone().macs(ROUTED.mac, ROUTED.interface_mac);
        all.push(draft.to_backend_by_kernel(routed, counted(path.backend)));
        // The kernel writes the MAC addresses once it has found them: after the program.
        let draft = path.draft(&format!("neighbour-to-be-found/{what}"), &ON_LINK, input.clone());
        all.push(draft.to_backend_by_kernel(sent, counted(path.backend)));

        for (why, node) in [("without-a-route", &LOST), ("without-forwarding", &IDLE)] {
            let draft = path.draft(&format!("{why}/{what}"), node, input.clone());
            let dropped = draft.tc_drops(Reason::NoRoute);
            all.push(if what == "udp" { dropped.and_remembered() } else { dropped });
        }
    }
    all
}

/// Neither route nor forwarding.
static IDLE: Spec = Spec { name: "idle", ..UNKNOWN };

/// Backends answer their clients themselves: what comes from one, or is for one itself, is not weir's.
fn not_for_a_service(path: Path) -> Vec<Case> {
    let backend = path.backend;
    // Of the backend's family.
    let client = if backend.contains(':') { "2001:db8:7::7" } else { "192.0.2.7" };
    let passes = |name: &str, packet: Packet| {
        let draft = path.draft(name, &BY_KERNEL, packet);
        draft.passes(Reason::NotOurs)
    };
    vec![
        passes("from-backend/tcp", ip(backend, client).tcp(80, 40_000, SYN | ACK)),
        passes("from-backend/udp", ip(backend, client).udp(80, 40_000).payload(9)),
        passes("from-backend/rst", ip(backend, client).tcp(80, 40_000, RST)),
        passes("to-backend/tcp", ip(client, backend).tcp(40_000, 80, SYN)),
        passes("to-backend/udp", ip(client, backend).udp(40_000, 80).payload(9)),
        // What a backend sends by itself with the listener's address is for the client alone.
        passes("from-listener/tcp", ip(path.listener, path.client).tcp(80, 40_000, SYN | ACK)),
    ]
}
