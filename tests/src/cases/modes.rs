//! Every mode with every pair of families that it can carry: a service each, and what a packet
//! becomes on its way to the backend, as the pages of the modes say.

use std::net::{Ipv4Addr, Ipv6Addr};

use weir::dataplane::OuterSource;
use weir::dataplane::kernel::Options;
use weir::dataplane::next_hop::NextHop;

use super::nodes::{BARE, Spec};
use super::{Case, Draft, In, begins, case, datagram};
use crate::packet::{Net, Packet, SYN, ip};
use crate::program::SMALL;

/// How a backend counts a packet.
pub(super) type Count = fn(&'static str) -> In;

/// What is done to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Another destination.
    Nat,
    /// Another MAC address.
    L2,
    /// Into an IP packet.
    Ipip,
    /// Into a datagram to this port.
    Gue(u16),
}

/// From a client to a listener, and by its service's mode to the backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) mode: Mode,
    /// Mode and families, as in a case's name.
    pub(super) name: &'static str,
    pub(super) client: &'static str,
    /// The listener's address; its port is 80.
    pub(super) listener: &'static str,
    /// The backend: with a port in `nat`, else an address.
    pub(super) backend: &'static str,
}

const CLIENT: [&str; 2] = ["192.0.2.7", "2001:db8:7::7"];
/// The node's own addresses that tunnels begin at.
const OUTER: [Ipv4Addr; 1] = [Ipv4Addr::new(203, 0, 113, 1)];
const OUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1);

const fn path(
    mode: Mode,
    name: &'static str,
    listener: &'static str,
    backend: &'static str,
) -> Path {
    // An IPv6 address has a colon within its first five bytes, an IPv4 address has none.
    let bytes = listener.as_bytes();
    let is_v6 = bytes[4] == b':';
    let client = CLIENT[is_v6 as usize];
    Path { mode, name, client, listener, backend }
}

const NAT: [Path; 2] = [
    path(Mode::Nat, "nat/ipv4", "198.51.100.1", "10.0.0.1:8080"),
    path(Mode::Nat, "nat/ipv6", "2001:db8::1", "[fd00::1]:8080"),
];
pub(super) const L2: [Path; 2] = [
    path(Mode::L2, "dsr-l2/ipv4", "198.51.100.11", "10.0.0.11"),
    path(Mode::L2, "dsr-l2/ipv6", "2001:db8::11", "fd00::11"),
];
pub(super) const IPIP: [Path; 3] = [
    path(Mode::Ipip, "ipip/4-in-4", "198.51.100.21", "10.0.0.21"),
    path(Mode::Ipip, "ipip/6-in-6", "2001:db8::21", "fd00::21"),
    path(Mode::Ipip, "ipip/4-in-6", "198.51.100.22", "fd00::22"),
];
pub(super) const GUE: [Path; 4] = [
    path(Mode::Gue(6080), "gue/4-in-4", "198.51.100.31", "10.0.0.31"),
    path(Mode::Gue(6080), "gue/6-in-6", "2001:db8::31", "fd00::31"),
    path(Mode::Gue(6080), "gue/4-in-6", "198.51.100.32", "fd00::32"),
    path(Mode::Gue(6080), "gue/6-in-4", "2001:db8::32", "10.0.0.32"),
];
/// With a port that the service has chosen.
pub(super) const OTHER_PORT: [Path; 2] = [
    path(Mode::Gue(7777), "gue/other-port/4-in-4", "198.51.100.33", "10.0.0.33"),
    path(Mode::Gue(7777), "gue/other-port/6-in-6", "2001:db8::33", "fd00::33"),
];

/// One of each mode and pair of families.
pub(super) fn all() -> impl Iterator<Item = Path> {
    NAT.into_iter().chain(L2).chain(IPIP).chain(GUE)
}

/// The services.
const SERVICES: &str = r#"
services:
  - name: nat4
    listeners:
      - { address: 198.51.100.1, port: 80, protocol: tcp }
      - { address: 198.51.100.1, port: 80, protocol: udp }
    forwarding: nat
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 8080 }] } }
  - name: nat6
    listeners:
      - { address: "2001:db8::1", port: 80, protocol: tcp }
      - { address: "2001:db8::1", port: 80, protocol: udp }
    forwarding: nat
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::1", port: 8080 }] } }
  - name: l2-4
    listeners:
      - { address: 198.51.100.11, port: 80, protocol: tcp }
      - { address: 198.51.100.11, port: 80, protocol: udp }
    forwarding: dsr-l2
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.11 }] } }
  - name: l2-6
    listeners:
      - { address: "2001:db8::11", port: 80, protocol: tcp }
      - { address: "2001:db8::11", port: 80, protocol: udp }
    forwarding: dsr-l2
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::11" }] } }
  - name: ipip-4-in-4
    listeners:
      - { address: 198.51.100.21, port: 80, protocol: tcp }
      - { address: 198.51.100.21, port: 80, protocol: udp }
    forwarding: dsr-ipip
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.21 }] } }
  - name: ipip-6-in-6
    listeners:
      - { address: "2001:db8::21", port: 80, protocol: tcp }
      - { address: "2001:db8::21", port: 80, protocol: udp }
    forwarding: dsr-ipip
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::21" }] } }
  - name: ipip-4-in-6
    listeners:
      - { address: 198.51.100.22, port: 80, protocol: tcp }
      - { address: 198.51.100.22, port: 80, protocol: udp }
    forwarding: dsr-ipip
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::22" }] } }
  - name: gue-4-in-4
    listeners:
      - { address: 198.51.100.31, port: 80, protocol: tcp }
      - { address: 198.51.100.31, port: 80, protocol: udp }
    forwarding: dsr-gue
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.31 }] } }
  - name: gue-6-in-6
    listeners:
      - { address: "2001:db8::31", port: 80, protocol: tcp }
      - { address: "2001:db8::31", port: 80, protocol: udp }
    forwarding: dsr-gue
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::31" }] } }
  - name: gue-4-in-6
    listeners:
      - { address: 198.51.100.32, port: 80, protocol: tcp }
      - { address: 198.51.100.32, port: 80, protocol: udp }
    forwarding: dsr-gue
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::32" }] } }
  - name: gue-6-in-4
    listeners:
      - { address: "2001:db8::32", port: 80, protocol: tcp }
      - { address: "2001:db8::32", port: 80, protocol: udp }
    forwarding: dsr-gue
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.32 }] } }
  - name: other-port4
    listeners:
      - { address: 198.51.100.33, port: 80, protocol: tcp }
      - { address: 198.51.100.33, port: 80, protocol: udp }
    forwarding: dsr-gue
    gue_port: 7777
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.33 }] } }
  - name: other-port6
    listeners:
      - { address: "2001:db8::33", port: 80, protocol: tcp }
      - { address: "2001:db8::33", port: 80, protocol: udp }
    forwarding: dsr-gue
    gue_port: 7777
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::33" }] } }
"#;

/// All services, and next hops that the agent does not know.
pub(super) const UNKNOWN: Spec = Spec {
    name: "unknown",
    services: SERVICES,
    options: Options { outer: OuterSource { v4: Some(OUTER[0]), v6: Some(OUTER_V6) }, ..SMALL },
    ..BARE
};

/// All backends of [`UNKNOWN`] behind one hop.
pub(super) const fn behind(hop: NextHop) -> [(&'static str, NextHop); 13] {
    [
        ("10.0.0.1", hop),
        ("fd00::1", hop),
        ("10.0.0.11", hop),
        ("fd00::11", hop),
        ("10.0.0.21", hop),
        ("fd00::21", hop),
        ("fd00::22", hop),
        ("10.0.0.31", hop),
        ("fd00::31", hop),
        ("fd00::32", hop),
        ("10.0.0.32", hop),
        ("10.0.0.33", hop),
        ("fd00::33", hop),
    ]
}

impl Path {
    pub(super) fn is_v4(&self) -> bool {
        !self.listener.contains(':')
    }

    /// A TCP packet from the client to the listener.
    pub(super) fn tcp(&self, flags: u8) -> Packet {
        ip(self.client, self.listener).tcp(40_000, 80, flags)
    }

    /// A datagram likewise.
    pub(super) fn udp(&self) -> Packet {
        ip(self.client, self.listener).udp(40_000, 80).data(b"hello")
    }

    /// Bytes that are put around a packet.
    pub(super) fn room(&self) -> usize {
        let outer = if self.backend.contains(':') { 40 } else { 20 };
        match self.mode {
            Mode::Nat | Mode::L2 => 0,
            Mode::Ipip => outer,
            Mode::Gue(_) => outer + 8,
        }
    }

    /// The input as it must reach the backend, but for MAC addresses and tags, and for what outer
    /// headers show of the flow's hash.
    pub(super) fn forwarded(&self, input: &Packet) -> Packet {
        let hops = input.inner().ttl;
        match self.mode {
            Mode::Nat => input.clone().to(self.backend).ttl(hops - 1),
            Mode::L2 => input.clone(),
            Mode::Ipip => input.clone().ttl(hops - 1).within(self.outer(input)),
            Mode::Gue(port) => {
                let outer = self.outer(input).udp(0, port).no_checksum();
                input.clone().ttl(hops - 1).within(outer)
            }
        }
    }

    /// The outer header: DSCP and ECN of the inner one, 64 hops, never to be fragmented.
    fn outer(&self, input: &Packet) -> Packet {
        let source =
            if self.backend.contains(':') { OUTER_V6.to_string() } else { OUTER[0].to_string() };
        ip(&source, self.backend).tos(input.inner().tos).ttl(64).id(0).df()
    }

    /// A case that reaches the backend through `hop`.
    pub(super) fn case(
        &self,
        name: &str,
        node: &'static Spec,
        hop: &NextHop,
        input: Packet,
        counted: Count,
    ) -> Case {
        let output = self.forwarded(&input);
        self.draft(name, node, input).to_backend(output, hop, counted(self.backend))
    }

    /// A case of this path.
    pub(super) fn draft(&self, name: &str, node: &'static Spec, input: Packet) -> Draft {
        case(format!("{}/{name}", self.name), node, input)
    }

    /// A TCP packet and a datagram, each with how it counts.
    pub(super) fn both(&self) -> [(&'static str, Packet, Count); 2] {
        [("syn", self.tcp(SYN), begins), ("udp", self.udp(), datagram)]
    }

    /// The input with so much payload that the IP packet is `length` bytes long.
    pub(super) fn filled(input: Packet, length: usize) -> Packet {
        let empty = input.payload(0);
        let Net::Ip(ip) = &empty.net else { unreachable!("an IP packet") };
        let payload = length - ip.bytes().len();
        empty.payload(payload)
    }
}
