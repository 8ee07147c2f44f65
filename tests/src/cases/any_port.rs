//! Listeners for every port: a packet keeps its own, and so does its answer. A listener, or a
//! backend, that names the port goes first.

use weir_ebpf::abi::Reason;

use super::direct_nodes::ANY_PORT;
use super::nodes::{AWAY, ROUTED};
use super::{Case, In, begins, case, datagram};
use crate::packet::{ACK, Packet, SYN, ip};

/// Client; the listener for every port, and that for port 80; the backend of the one, the address
/// of the other's backend, and its port too.
const WAYS: [(&str, [&str; 6]); 2] = [
    (
        "ipv4",
        ["192.0.2.7", "198.51.100.1", "198.51.100.1:80", "10.0.0.1", "10.0.0.2", "10.0.0.2:8080"],
    ),
    (
        "ipv6",
        [
            "2001:db8:7::7",
            "2001:db8::1",
            "[2001:db8::1]:80",
            "fd00::1",
            "fd00::2",
            "[fd00::2]:8080",
        ],
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (family, [client, listener, listener_80, any, other, other_at]) in WAYS {
        let named = |name: &str| format!("any-port/{family}/{name}");
        let sent = |name: &str, input: Packet, to: &str, counted: In| {
            let output = input.clone().to(to).ttl(63);
            case(named(name), &ANY_PORT, input).to_backend(output, &AWAY, counted)
        };
        let tcp = |port| ip(client, listener).tcp(40_000, port, SYN);
        for port in [1, 22, 8_080, 65_535] {
            all.push(sent(&format!("tcp/{port}"), tcp(port), any, begins(any)));
        }
        all.push(sent("tcp/80", tcp(80), other_at, begins(other_at)));
        // The listener of port 80 is for TCP alone.
        let udp = ip(client, listener).udp(40_000, 80).data(b"hello");
        all.push(sent("udp/80", udp, any, datagram(any)));

        let answer = |from: &str, port| ip(from, client).tcp(port, 40_000, SYN | ACK);
        for (name, answer, seen_from, backend) in [
            ("any", answer(any, 22), listener, any),
            ("any-80", answer(any, 80), listener, any),
            ("named", answer(other, 8_080), listener_80, other_at),
        ] {
            let seen = answer.clone().from(seen_from).ttl(63);
            let draft = case(named(&format!("returns/{name}")), &ANY_PORT, answer);
            all.push(draft.to_client(seen, &ROUTED, backend));
        }
        // A client's own connection to a backend.
        let there = ip(client, any).tcp(41_100, 5_000, SYN);
        let back = ip(any, client).tcp(5_000, 41_100, SYN | ACK);
        all.push(case(named("direct/there"), &ANY_PORT, there.clone()).passes(Reason::Direct));
        all.push(case(named("direct/back"), &ANY_PORT, back).after(there).passes(Reason::Direct));
    }
    all
}
