//! What follows a flow, where answers do not come back through the node: ICMP errors about what a
//! client was sent, and fragments. They go to the flow's backend in the flow's mode, and are not
//! changed: the backend itself has the listener's address. All of it is TC's.

use weir_ebpf::abi::Reason;

use super::direct_nodes::{ANY_PORT, DIRECT, NARROW};
use super::forwarding::{Tunnel, WAYS, Way};
use super::nodes::AWAY;
use super::{Case, case, datagram, goes};
use crate::packet::{ACK, PSH, Packet, SYN, ip};

pub(super) fn cases() -> Vec<Case> {
    let mut all = any_port();
    all.extend(WAYS.into_iter().flat_map(|way| [errors(way), fragments(way)].concat()));
    all
}

/// A listener for every port, in `nat`: the quote keeps its port.
fn any_port() -> Vec<Case> {
    [("198.51.100.1", "192.0.2.7", "10.0.0.1"), ("2001:db8::1", "2001:db8:7::7", "fd00::1")]
        .into_iter()
        .map(|(listener, client, backend)| {
            let kind = if listener.contains(':') { (1, 4) } else { (3, 3) };
            let error = |to: &str| {
                let about = ip(to, client).udp(4_711, 40_000).payload(60);
                ip(client, to).icmp(kind.0, kind.1, [0; 4]).quoting(&about, 108)
            };
            let out = error(backend).ttl(63).macs(AWAY.mac, AWAY.interface_mac);
            let name = format!("any-port/error/{listener}");
            case(name, &ANY_PORT, error(listener)).tc_sends(out, Reason::Quoted)
        })
        .collect()
}

fn v4(way: Way) -> bool {
    !way.listener.contains(':')
}

/// An error about an answer, from somebody on the way to the client.
fn error(way: Way, kind: (u8, u8), about: &Packet, length: usize) -> Packet {
    let router = if v4(way) { "203.0.113.77" } else { "2001:db8:113::77" };
    ip(router, way.listener).icmp(kind.0, kind.1, [0, 0, 5, 0]).quoting(about, length)
}

fn errors(way: Way) -> Vec<Case> {
    let answer = |packet: Packet| packet.payload(400);
    let tcp = answer(ip(way.listener, way.client()).tcp(80, 40_000, PSH | ACK));
    let udp = answer(ip(way.listener, way.client()).udp(80, 40_000));
    let kinds = if v4(way) { [(3, 4), (11, 0)] } else { [(2, 0), (1, 4)] };
    let named = |name: &str| way.named(&format!("error/{name}"));
    let mut all = Vec::new();
    for (kind, code) in kinds {
        for (name, about, flow) in [("tcp", &tcp, way.tcp(ACK)), ("udp", &udp, way.udp())] {
            let input = error(way, (kind, code), about, 128);
            let out = way.carried(&input, &flow).macs(AWAY.mac, AWAY.interface_mac);
            let name = named(&format!("{kind}-{code}/{name}"));
            all.push(case(name, &DIRECT, input).tc_sends(out, Reason::Quoted));
        }
    }
    let tagged = error(way, kinds[0], &tcp, 128).tag(42);
    let out = way.carried(&tagged, &way.tcp(ACK)).untagged();
    let out = out.macs(AWAY.mac, AWAY.interface_mac);
    all.push(case(named("tag"), &DIRECT, tagged).tc_sends(out, Reason::Quoted));
    // Nobody is told of an error that goes no further.
    if way.tunnel != Tunnel::None {
        let tired = error(way, kinds[0], &tcp, 128).ttl(1);
        all.push(case(named("last-hop"), &DIRECT, tired).tc_drops(Reason::HopLimit));
    }
    let long = error(way, kinds[0], &tcp.payload(1_400), 1_380);
    all.push(case(named("too-big"), &NARROW, long).tc_drops(Reason::TooBig));
    all
}

fn fragments(way: Way) -> Vec<Case> {
    let mut all = Vec::new();
    for (id, (protocol, whole, first)) in (900..).zip([
        ("tcp", way.tcp(SYN | ACK).payload(900), goes as fn(&'static str) -> super::In),
        ("udp", way.udp().payload(900), datagram),
    ]) {
        let piece = |start| whole.clone().fragment(id, start, 400);
        for (name, start) in [("first", 0), ("second", 400), ("last", 800)] {
            let name = way.named(&format!("fragment/{protocol}/{name}"));
            let out = way.carried(&piece(start), &whole);
            let draft = case(name, &DIRECT, piece(start));
            all.push(if start == 0 {
                draft.tc_to_backend(out, &AWAY, first(way.backend))
            } else {
                draft.after(piece(0)).tc_to_backend(out, &AWAY, goes(way.backend))
            });
        }
        let name = way.named(&format!("fragment/{protocol}/early"));
        let early = whole.clone().fragment(id + 10, 400, 400);
        all.push(case(name, &DIRECT, early).tc_drops(Reason::EarlyFragment));
    }
    all
}
