//! Nodes for the modes beside `nat`, for VLANs, and for listeners of every port.

use std::net::{Ipv4Addr, Ipv6Addr};

use weir::dataplane::OuterSource;
use weir::dataplane::kernel::Options;
use weir::dataplane::next_hop::NextHop;

use super::nodes::{AWAY, BARE, NETWORK, Spec};
use crate::program::SMALL;

const WITH_SOURCE: Options = Options {
    outer: OuterSource {
        v4: Some(Ipv4Addr::new(203, 0, 113, 9)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 9)),
    },
    ..SMALL
};

/// A service for each mode and pair of families. With one seed, so that hashes can be foretold.
const MODES: &str = r#"
services:
  - name: l2-4
    forwarding: dsr-l2
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: 198.51.100.1, port: 80, protocol: tcp }
      - { address: 198.51.100.1, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.1 }] } }
  - name: l2-6
    forwarding: dsr-l2
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: "2001:db8::1", port: 80, protocol: tcp }
      - { address: "2001:db8::1", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::1" }] } }
  - name: ipip-44
    forwarding: dsr-ipip
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: 198.51.100.2, port: 80, protocol: tcp }
      - { address: 198.51.100.2, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.2 }] } }
  - name: ipip-46
    forwarding: dsr-ipip
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: 198.51.100.3, port: 80, protocol: tcp }
      - { address: 198.51.100.3, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::3" }] } }
  - name: ipip-66
    forwarding: dsr-ipip
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: "2001:db8::2", port: 80, protocol: tcp }
      - { address: "2001:db8::2", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::2" }] } }
  - name: gue-44
    forwarding: dsr-gue
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: 198.51.100.4, port: 80, protocol: tcp }
      - { address: 198.51.100.4, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.4 }] } }
  - name: gue-46
    forwarding: dsr-gue
    gue_port: 7070
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: 198.51.100.5, port: 80, protocol: tcp }
      - { address: 198.51.100.5, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::5" }] } }
  - name: gue-64
    forwarding: dsr-gue
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: "2001:db8::4", port: 80, protocol: tcp }
      - { address: "2001:db8::4", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.6 }] } }
  - name: gue-66
    forwarding: dsr-gue
    gue_port: 7070
    seed: 000102030405060708090a0b0c0d0e0f
    listeners:
      - { address: "2001:db8::5", port: 80, protocol: tcp }
      - { address: "2001:db8::5", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::6" }] } }
"#;

/// Every backend of [`MODES`], by one way.
const fn hops(hop: NextHop) -> [(&'static str, NextHop); 9] {
    [
        ("10.0.0.1", hop),
        ("fd00::1", hop),
        ("10.0.0.2", hop),
        ("fd00::3", hop),
        ("fd00::2", hop),
        ("10.0.0.4", hop),
        ("fd00::5", hop),
        ("10.0.0.6", hop),
        ("fd00::6", hop),
    ]
}

/// All modes, where the agent knows the way to every backend, but not how long packets may be.
pub(super) static DIRECT: Spec =
    Spec { name: "direct", services: MODES, hops: &hops(AWAY), options: WITH_SOURCE, ..BARE };

/// The same, by a way that takes IP packets of up to 1400 bytes.
pub(super) static NARROW: Spec =
    Spec { name: "narrow", hops: &hops(NextHop { mtu: 1_400, ..AWAY }), ..DIRECT };

/// A listener for every port, and one for a port of the same address.
pub(super) static ANY_PORT: Spec = Spec {
    name: "any-port",
    services: r#"
services:
  - name: any4
    listeners:
      - { address: 198.51.100.1, port: 0, protocol: tcp }
      - { address: 198.51.100.1, port: 0, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.1 }] } }
  - name: any6
    listeners:
      - { address: "2001:db8::1", port: 0, protocol: tcp }
      - { address: "2001:db8::1", port: 0, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::1" }] } }
  - name: one4
    listeners: [{ address: 198.51.100.1, port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.2, port: 8080 }] } }
  - name: one6
    listeners: [{ address: "2001:db8::1", port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::2", port: 8080 }] } }
"#,
    hops: &[("10.0.0.1", AWAY), ("fd00::1", AWAY), ("10.0.0.2", AWAY), ("fd00::2", AWAY)],
    network: &[NETWORK],
    forwarding: true,
    ..BARE
};
