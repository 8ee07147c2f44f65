//! Mode `nat`, from a client to a backend: address, port, hop limit and MAC addresses change, and
//! the checksums that cover them; nothing else does.

use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::Reason;

use super::icmp::{Why, told};
use super::nodes::{AWAY, HERE, LOST, NETWORKED, PLAIN, ROUTED, Spec};
use super::{Case, In, begins, case, datagram, goes};
use crate::packet::{ACK, CWR, ECE, FIN, PSH, Packet, RST, SYN, URG, ip};

/// From a client to a listener and its backend.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// Family and where the backend is.
    pub(super) name: &'static str,
    /// The client.
    pub(super) client: &'static str,
    /// The listener's address; its port is 80.
    pub(super) listener: &'static str,
    /// The backend.
    pub(super) backend: &'static str,
    /// The way to it.
    pub(super) hop: NextHop,
}

/// To backends behind another interface.
pub(super) const WAYS: [Way; 2] = [
    Way {
        name: "ipv4",
        client: "192.0.2.7",
        listener: "198.51.100.1",
        backend: "10.0.0.1:8080",
        hop: AWAY,
    },
    Way {
        name: "ipv6",
        client: "2001:db8:7::7",
        listener: "2001:db8::1",
        backend: "[fd00::1]:8080",
        hop: AWAY,
    },
];

/// To backends behind the interface that the client's packets come by.
const BACK: [Way; 2] = [
    Way { listener: "198.51.100.2", backend: "10.0.0.2:8080", hop: HERE, ..WAYS[0] },
    Way { listener: "2001:db8::2", backend: "[fd00::2]:8080", hop: HERE, ..WAYS[1] },
];

/// To backends whose next hop the agent does not know.
const UNKNOWN: [Way; 2] = [
    Way { listener: "198.51.100.3", backend: "10.0.0.3:8080", ..WAYS[0] },
    Way { listener: "2001:db8::3", backend: "[fd00::3]:8080", ..WAYS[1] },
];

/// To backends whose neighbour nobody knows.
const UNRESOLVED: [Way; 2] = [
    Way { listener: "198.51.100.4", backend: "10.0.1.4:8080", ..WAYS[0] },
    Way { listener: "2001:db8::4", backend: "[fd00:1::4]:8080", ..WAYS[1] },
];

impl Way {
    /// A TCP packet from the client to the listener.
    pub(super) fn tcp(&self, flags: u8) -> Packet {
        ip(self.client, self.listener).tcp(40_000, 80, flags)
    }

    /// A datagram likewise.
    pub(super) fn udp(&self) -> Packet {
        ip(self.client, self.listener).udp(40_000, 80).data(b"hello")
    }

    /// The input as it must reach the backend.
    pub(super) fn forwarded(&self, input: &Packet) -> Packet {
        let ttl = input.inner().ttl - 1;
        input.clone().to(self.backend).ttl(ttl)
    }

    /// A case of [`PLAIN`] that reaches the backend.
    pub(super) fn case(&self, name: &str, input: Packet, counted: fn(&'static str) -> In) -> Case {
        let output = self.forwarded(&input);
        let name = format!("nat/{}/{name}", self.name);
        case(name, &PLAIN, input).to_backend(output, &self.hop, counted(self.backend))
    }

    /// The name of a case in which something else happens.
    pub(super) fn named(&self, name: &str) -> String {
        format!("nat/{}/{name}", self.name)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for way in WAYS {
        all.extend(flags(way));
        all.extend(datagrams(way));
        all.extend(sizes(way));
        all.extend(hops(way));
        all.extend(kept(way));
        all.extend(nowhere(way));
    }
    for way in BACK {
        let cases = [
            way.case("out-where-it-came-in/syn", way.tcp(SYN), begins),
            way.case("out-where-it-came-in/data", way.tcp(PSH | ACK).payload(100), goes),
            way.case("out-where-it-came-in/udp", way.udp(), datagram),
        ];
        all.extend(cases);
    }
    for (unknown, unresolved) in UNKNOWN.into_iter().zip(UNRESOLVED) {
        all.extend(by_kernel(unknown, unresolved));
    }
    all
}

fn flags(way: Way) -> Vec<Case> {
    vec![
        way.case("tcp/syn", way.tcp(SYN), begins),
        way.case("tcp/syn-ecn", way.tcp(SYN | ECE | CWR), begins),
        way.case("tcp/syn-psh-urg", way.tcp(SYN | PSH | URG), begins),
        way.case("tcp/syn-with-data", way.tcp(SYN).payload(32), begins),
        way.case("tcp/syn-ack", way.tcp(SYN | ACK), goes),
        way.case("tcp/ack", way.tcp(ACK), goes),
        way.case("tcp/psh-ack", way.tcp(PSH | ACK).payload(10), goes),
        way.case("tcp/urg", way.tcp(URG | ACK).payload(1), goes),
        way.case("tcp/fin", way.tcp(FIN), goes),
        way.case("tcp/fin-ack", way.tcp(FIN | ACK), goes),
        way.case("tcp/rst", way.tcp(RST), goes),
        way.case("tcp/rst-ack", way.tcp(RST | ACK), goes),
        way.case("tcp/syn-fin", way.tcp(SYN | FIN), goes),
        way.case("tcp/syn-rst", way.tcp(SYN | RST), goes),
        way.case("tcp/no-flags", way.tcp(0), goes),
        way.case("tcp/all-flags", way.tcp(0xff), goes),
    ]
}

fn datagrams(way: Way) -> Vec<Case> {
    let (arrives, leaves) = (with_checksum(way, way.listener), with_checksum(way, way.backend));
    vec![
        way.case("udp/datagram", way.udp(), datagram),
        way.case("udp/empty", way.udp().data(&[]), datagram),
        way.case("udp/one-byte", way.udp().data(b"x"), datagram),
        way.case("udp/no-checksum", way.udp().no_checksum(), datagram),
        way.case("udp/no-checksum-empty", way.udp().data(&[]).no_checksum(), datagram),
        // A checksum that comes out as zero is sent as 0xffff: zero would mean that there is none.
        way.case("udp/checksum-ffff-arrives", arrives, datagram),
        way.case("udp/checksum-ffff-leaves", leaves, datagram),
    ]
}

/// A datagram for the listener whose checksum is 0xffff once it is addressed `to` this.
fn with_checksum(way: Way, to: &str) -> Packet {
    let sum = |data: [u8; 2]| {
        let bytes = way.udp().data(&data).to(to).bytes();
        let end = bytes.len();
        u16::from_be_bytes([bytes[end - 4], bytes[end - 3]])
    };
    let data = sum([0, 0]).to_be_bytes();
    assert_eq!(sum(data), 0xffff, "the checksum covers the two bytes");
    way.udp().data(&data)
}

/// Lengths of the frame, Ethernet header included.
fn sizes(way: Way) -> Vec<Case> {
    let (tcp, udp) = (way.tcp(PSH | ACK), way.udp().data(&[]));
    let long = |base: &Packet, length: usize| {
        base.clone().payload(length - base.clone().payload(0).bytes().len())
    };
    let mut all = Vec::new();
    for length in [75, 128, 129, 576, 1_000, 1_001, 1_280, 1_500, 1_513, 1_514] {
        all.push(way.case(&format!("tcp/frame-of-{length}"), long(&tcp, length), goes));
        all.push(way.case(&format!("udp/frame-of-{length}"), long(&udp, length), datagram));
    }
    // What fills a frame up is carried along.
    let pad = |packet: Packet| {
        let length = packet.bytes().len();
        packet.padded(length.max(51) + 9)
    };
    all.push(way.case("tcp/padded", pad(way.tcp(SYN)), begins));
    all.push(way.case("udp/padded", pad(way.udp()), datagram));
    all
}

fn hops(way: Way) -> Vec<Case> {
    let mut all = Vec::new();
    for ttl in [0, 1] {
        let drops = |name: &str, input: Packet| {
            let name = way.named(&format!("{name}/ttl-{ttl}"));
            let input = input.ttl(ttl);
            let told = told(&input, way.listener, Why::Expired);
            case(name, &PLAIN, input).tc_sends(told, Reason::HopLimit)
        };
        all.push(drops("tcp", way.tcp(SYN)));
        // The flow of a datagram is remembered before the hop limit is looked at.
        all.push(drops("udp", way.udp()).and_remembered());
    }
    for ttl in [2, 255] {
        all.push(way.case(&format!("tcp/ttl-{ttl}"), way.tcp(SYN).ttl(ttl), begins));
        all.push(way.case(&format!("udp/ttl-{ttl}"), way.udp().ttl(ttl), datagram));
    }
    all
}

/// What must not change.
fn kept(way: Way) -> Vec<Case> {
    let mut all = vec![
        way.case("tcp/dscp-ef", way.tcp(SYN).tos(46 << 2), begins),
        way.case("tcp/ecn-ce", way.tcp(ACK).tos(3), goes),
        way.case("udp/dscp-and-ecn", way.udp().tos(0xff), datagram),
        // Checksums are mended, not made: what comes in wrong goes out wrong by as much.
        way.case("tcp/wrong-checksum", way.tcp(ACK).payload(9).checksum_off_by(1), goes),
        way.case("udp/wrong-checksum", way.udp().checksum_off_by(0x100), datagram),
    ];
    if way.name == "ipv4" {
        all.extend([
            way.case("tcp/df", way.tcp(SYN).df(), begins),
            way.case("tcp/id-ffff", way.tcp(ACK).id(0xffff), goes),
            way.case("udp/id-0", way.udp().id(0).df(), datagram),
            way.case("tcp/wrong-ip-checksum", way.tcp(SYN).header_checksum_off_by(1), begins),
        ]);
    } else {
        all.extend([
            way.case("tcp/flow-label", way.tcp(SYN).flow_label(0xf_ffff), begins),
            way.case("udp/flow-label", way.udp().flow_label(0x1_2345).tos(1), datagram),
        ]);
    }
    all
}

/// Services without a backend, or without a table.
fn nowhere(way: Way) -> Vec<Case> {
    let mut all = Vec::new();
    for (what, port, reason) in
        [("no-backend", 81, Reason::NoBackend), ("no-table", 82, Reason::NoTable)]
    {
        let tcp = |flags| ip(way.client, way.listener).tcp(40_000, port, flags);
        for (name, input) in [
            ("tcp-syn", tcp(SYN)),
            ("tcp-ack", tcp(ACK)),
            ("udp", ip(way.client, way.listener).udp(40_000, port).payload(3)),
        ] {
            let name = way.named(&format!("{what}/{name}"));
            all.push(case(name, &PLAIN, input).drops(reason));
        }
    }
    all
}

/// The agent does not know the next hop: XDP leaves it to TC, and TC asks the kernel.
fn by_kernel(unknown: Way, unresolved: Way) -> Vec<Case> {
    let mut all = Vec::new();
    let none: [(&str, &'static Spec); 2] =
        [("without-forwarding", &PLAIN), ("without-a-route", &LOST)];
    for (name, node) in none {
        let name = unknown.named(&format!("by-kernel/{name}"));
        let (tcp, udp) = (format!("{name}/tcp"), format!("{name}/udp"));
        all.push(case(tcp, node, unknown.tcp(SYN)).tc_drops(Reason::NoRoute));
        let dropped = case(udp, node, unknown.udp()).tc_drops(Reason::NoRoute);
        all.push(dropped.and_remembered());
    }
    for (name, input, counted) in [
        ("syn", unknown.tcp(SYN), begins(unknown.backend)),
        ("ack", unknown.tcp(ACK).payload(700), goes(unknown.backend)),
    ] {
        let output = unknown.forwarded(&input).macs(ROUTED.mac, ROUTED.interface_mac);
        let name = unknown.named(&format!("by-kernel/{name}"));
        all.push(case(name, &NETWORKED, input).to_backend_by_kernel(output, counted));
    }
    let name = unknown.named("by-kernel/last-hop");
    let last = unknown.tcp(SYN).ttl(1);
    let told = told(&last, unknown.listener, Why::Expired);
    all.push(case(name, &NETWORKED, last).tc_sends(told, Reason::HopLimit));
    // Once the kernel has found the neighbour, it writes the MAC addresses: after the program.
    let input = unresolved.tcp(SYN);
    let (name, output) =
        (unresolved.named("by-kernel/neighbour-to-be-found"), unresolved.forwarded(&input));
    let draft = case(name, &NETWORKED, input);
    all.push(draft.to_backend_by_kernel(output, begins(unresolved.backend)));
    all
}
