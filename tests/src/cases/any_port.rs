//! Listeners for every port: a packet keeps its own, and so does its answer. A listener, or a
//! backend, that names the port goes first.

use weir_ebpf::abi::Reason;

use super::modes::{Mode, Path, UNKNOWN};
use super::nodes::{AWAY, NETWORK, ROUTED, Spec};
use super::{Case, In, begins, case, datagram, goes};
use crate::packet::{ACK, FIN, PSH, Packet, RST, SYN, ip};

/// A listener for every port, one for a port of the same address, and those of the direct modes.
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
  - name: tcp4
    listeners: [{ address: 198.51.100.3, port: 0, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.3 }] } }
  - name: tcp6
    listeners: [{ address: "2001:db8::3", port: 0, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::3" }] } }
  - name: l2-4
    forwarding: dsr-l2
    listeners:
      - { address: 198.51.100.11, port: 0, protocol: tcp }
      - { address: 198.51.100.11, port: 0, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.11 }] } }
  - name: l2-6
    forwarding: dsr-l2
    listeners:
      - { address: "2001:db8::11", port: 0, protocol: tcp }
      - { address: "2001:db8::11", port: 0, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::11" }] } }
  - name: ipip4
    forwarding: dsr-ipip
    listeners:
      - { address: 198.51.100.21, port: 0, protocol: tcp }
      - { address: 198.51.100.21, port: 0, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::21" }] } }
  - name: gue6
    forwarding: dsr-gue
    listeners:
      - { address: "2001:db8::31", port: 0, protocol: tcp }
      - { address: "2001:db8::31", port: 0, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.31 }] } }
"#,
    hops: &[
        ("10.0.0.1", AWAY),
        ("fd00::1", AWAY),
        ("10.0.0.2", AWAY),
        ("fd00::2", AWAY),
        ("10.0.0.3", AWAY),
        ("fd00::3", AWAY),
        ("10.0.0.11", AWAY),
        ("fd00::11", AWAY),
        ("fd00::21", AWAY),
        ("10.0.0.31", AWAY),
    ],
    network: &[NETWORK],
    forwarding: true,
    ..UNKNOWN
};

/// A listener for every port, by `nat`, and what is beside it.
#[derive(Clone, Copy)]
struct Way {
    family: &'static str,
    client: &'static str,
    listener: &'static str,
    /// The backend of all ports.
    any: &'static str,
    /// The listener for port 80 of the same address.
    listener_80: &'static str,
    /// Its backend, and the address of that.
    other: &'static str,
    other_address: &'static str,
    /// A listener for every port of TCP alone, and its backend.
    tcp_alone: [&'static str; 2],
}

const WAYS: [Way; 2] = [
    Way {
        family: "ipv4",
        client: "192.0.2.7",
        listener: "198.51.100.1",
        any: "10.0.0.1",
        listener_80: "198.51.100.1:80",
        other: "10.0.0.2:8080",
        other_address: "10.0.0.2",
        tcp_alone: ["198.51.100.3", "10.0.0.3"],
    },
    Way {
        family: "ipv6",
        client: "2001:db8:7::7",
        listener: "2001:db8::1",
        any: "fd00::1",
        listener_80: "[2001:db8::1]:80",
        other: "[fd00::2]:8080",
        other_address: "fd00::2",
        tcp_alone: ["2001:db8::3", "fd00::3"],
    },
];

const PORTS: [u16; 6] = [0, 1, 22, 443, 8_080, 65_535];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for way in WAYS {
        all.extend(forwarded(way));
        all.extend(answers(way));
        all.extend(left_alone(way));
    }
    all.extend(direct());
    all
}

impl Way {
    fn named(&self, name: &str) -> String {
        format!("any-port/{}/{name}", self.family)
    }

    fn sent(&self, name: &str, input: Packet, to: &str, counted: In) -> Case {
        let output = input.clone().to(to).ttl(63);
        case(self.named(name), &ANY_PORT, input).to_backend(output, &AWAY, counted)
    }

    fn tcp(&self, port: u16, flags: u8) -> Packet {
        ip(self.client, self.listener).tcp(40_000, port, flags)
    }

    fn udp(&self, port: u16) -> Packet {
        ip(self.client, self.listener).udp(40_000, port).data(b"hello")
    }
}

fn forwarded(way: Way) -> Vec<Case> {
    let (any, other) = (way.any, way.other);
    let mut all = Vec::new();
    for port in PORTS {
        all.push(way.sent(&format!("tcp/{port}"), way.tcp(port, SYN), any, begins(any)));
        all.push(way.sent(&format!("udp/{port}"), way.udp(port), any, datagram(any)));
    }
    let data = way.tcp(22, PSH | ACK).payload(1_000);
    all.push(way.sent("tcp/data", data, any, goes(any)));
    all.push(way.sent("udp/no-checksum", way.udp(5_000).no_checksum(), any, datagram(any)));
    // The listener of port 80 goes first; it is for TCP alone.
    all.push(way.sent("tcp/80", way.tcp(80, SYN), other, begins(other)));
    all.push(way.sent("tcp/80-fin", way.tcp(80, FIN | ACK), other, goes(other)));
    all.push(way.sent("udp/80", way.udp(80), any, datagram(any)));
    let [listener, backend] = way.tcp_alone;
    let tcp = ip(way.client, listener).tcp(40_000, 22, SYN);
    all.push(way.sent("tcp-alone/tcp", tcp, backend, begins(backend)));
    all
}

fn answers(way: Way) -> Vec<Case> {
    let tcp = |from: &str, port, flags| ip(from, way.client).tcp(port, 40_000, flags);
    let udp = |port| ip(way.any, way.client).udp(port, 40_000).data(b"hello back");
    let (any, other, listener) = (way.any, way.other, way.listener);
    [
        ("tcp-22", tcp(any, 22, SYN | ACK), listener, any),
        ("tcp-80", tcp(any, 80, SYN | ACK), listener, any),
        ("tcp-0", tcp(any, 0, RST | ACK), listener, any),
        ("tcp-data", tcp(any, 443, PSH | ACK).payload(1_400), listener, any),
        ("tcp-fin", tcp(any, 443, FIN | ACK), listener, any),
        ("udp-5000", udp(5_000), listener, any),
        ("udp-5000-no-checksum", udp(5_000).no_checksum(), listener, any),
        ("named", tcp(way.other_address, 8_080, SYN | ACK), way.listener_80, other),
    ]
    .into_iter()
    .map(|(name, answer, seen_from, backend)| {
        let seen = answer.clone().from(seen_from).ttl(63);
        let draft = case(way.named(&format!("returns/{name}")), &ANY_PORT, answer);
        draft.to_client(seen, &ROUTED, backend)
    })
    .collect()
}

fn left_alone(way: Way) -> Vec<Case> {
    let passes =
        |name: &str, input: Packet, reason| case(way.named(name), &ANY_PORT, input).passes(reason);
    let [listener, backend] = way.tcp_alone;
    let udp = |from: &str, to: &str| ip(from, to).udp(5_001, 5_001).payload(20);
    // A client's own connection to a backend, whatever the port.
    let there = ip(way.client, way.any).tcp(41_100, 5_000, SYN);
    let back = ip(way.any, way.client).tcp(5_000, 41_100, SYN | ACK);
    let draft = case(way.named("direct/back"), &ANY_PORT, back).after(there.clone());
    vec![
        passes("tcp-alone/udp", udp(way.client, listener), Reason::NotOurs),
        passes("tcp-alone/udp-from-backend", udp(backend, way.client), Reason::NotOurs),
        passes(
            "another-port-of-the-named-backend",
            ip(way.other_address, way.client).tcp(9, 40_000, ACK),
            Reason::NotOurs,
        ),
        passes("direct/there", there, Reason::Direct),
        draft.passes(Reason::Direct),
    ]
}

/// Direct modes never rewrite a port.
fn direct() -> Vec<Case> {
    let path =
        |mode, name, client, listener, backend| Path { mode, name, client, listener, backend };
    let paths = [
        path(Mode::L2, "dsr-l2/ipv4", "192.0.2.7", "198.51.100.11", "10.0.0.11"),
        path(Mode::L2, "dsr-l2/ipv6", "2001:db8:7::7", "2001:db8::11", "fd00::11"),
        path(Mode::Ipip, "ipip/4-in-6", "192.0.2.7", "198.51.100.21", "fd00::21"),
        path(Mode::Gue(6_080), "gue/6-in-4", "2001:db8:7::7", "2001:db8::31", "10.0.0.31"),
    ];
    let mut all = Vec::new();
    for path in paths {
        for port in PORTS {
            let to = ip(path.client, path.listener);
            let tcp = to.clone().tcp(40_000, port, SYN);
            all.push(path.case(&format!("tcp/{port}"), &ANY_PORT, &AWAY, tcp, begins));
            let udp = to.udp(40_000, port).payload(9);
            all.push(path.case(&format!("udp/{port}"), &ANY_PORT, &AWAY, udp, datagram));
        }
    }
    all.into_iter().map(|case| Case { name: format!("any-port/{}", case.name), ..case }).collect()
}
