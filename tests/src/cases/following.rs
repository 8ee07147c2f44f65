//! What follows a flow, where answers do not come back through the node: ICMP errors about what a
//! client was sent, and fragments. They go to the flow's backend in the flow's mode, and are not
//! changed: the backend itself has the listener's address. All of it is TC's.

use weir_ebpf::abi::Reason;

use super::any_port::ANY_PORT;
use super::direct::DIRECT;
use super::modes::{self, Mode, Path};
use super::nodes::AWAY;
use super::too_big::BY_HOP;
use super::{Case, case, datagram, goes};
use crate::packet::{ACK, PSH, Packet, SYN, ip};

pub(super) fn cases() -> Vec<Case> {
    let mut all = any_port();
    let paths = modes::all().filter(|path| path.mode != Mode::Nat);
    all.extend(paths.flat_map(|path| [errors(path), fragments(path)].concat()));
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

/// An error about an answer, from somebody on the way to the client.
fn error(path: Path, kind: (u8, u8), about: &Packet, length: usize) -> Packet {
    let router = if path.is_v4() { "203.0.113.77" } else { "2001:db8:113::77" };
    ip(router, path.listener).icmp(kind.0, kind.1, [0, 0, 5, 0]).quoting(about, length)
}

fn errors(path: Path) -> Vec<Case> {
    let answer = |packet: Packet| packet.payload(400);
    let tcp = answer(ip(path.listener, path.client).tcp(80, 40_000, PSH | ACK));
    let udp = answer(ip(path.listener, path.client).udp(80, 40_000));
    let kinds = if path.is_v4() { [(3, 4), (11, 0)] } else { [(2, 0), (1, 4)] };
    let named = |name: &str| format!("following/{}/error/{name}", path.name);
    let mut all = Vec::new();
    for (kind, code) in kinds {
        for (name, about, flow) in [("tcp", &tcp, path.tcp(ACK)), ("udp", &udp, path.udp())] {
            let input = error(path, (kind, code), about, 128);
            let out = path.forwarded(&input).macs(AWAY.mac, AWAY.interface_mac);
            let name = named(&format!("{kind}-{code}/{name}"));
            all.push(case(name, &DIRECT, input).after(flow).tc_sends(out, Reason::Quoted));
        }
    }
    let tagged = error(path, kinds[0], &tcp, 128).tag(42);
    let out = path.forwarded(&tagged).untagged().macs(AWAY.mac, AWAY.interface_mac);
    let draft = case(named("tag"), &DIRECT, tagged).after(path.tcp(ACK));
    all.push(draft.tc_sends(out, Reason::Quoted));
    // Nobody is told of an error that goes no further.
    if path.mode != Mode::L2 {
        let tired = error(path, kinds[0], &tcp, 128).ttl(1);
        all.push(case(named("last-hop"), &DIRECT, tired).tc_drops(Reason::HopLimit));
    }
    let long = error(path, kinds[0], &tcp.payload(1_500), 1_480);
    all.push(case(named("too-big"), &BY_HOP, long).tc_drops(Reason::TooBig));
    all
}

fn fragments(path: Path) -> Vec<Case> {
    let mut all = Vec::new();
    for (id, (protocol, whole, first)) in (900..).zip([
        ("tcp", path.tcp(SYN | ACK).payload(900), goes as fn(&'static str) -> super::In),
        ("udp", path.udp().payload(900), datagram),
    ]) {
        let piece = |start| whole.clone().fragment(id, start, 400);
        for (name, start) in [("first", 0), ("second", 400), ("last", 800)] {
            let name = format!("following/{}/fragment/{protocol}/{name}", path.name);
            let out = path.forwarded(&piece(start));
            let draft = case(name, &DIRECT, piece(start));
            all.push(if start == 0 {
                draft.tc_to_backend(out, &AWAY, first(path.backend))
            } else {
                draft.after(piece(0)).tc_to_backend(out, &AWAY, goes(path.backend))
            });
        }
        // It shows the same outside as the flow's other packets.
        let name = format!("following/{}/fragment/{protocol}/first-of-many", path.name);
        let draft = case(name, &DIRECT, piece(0)).after(whole.clone());
        all.push(draft.tc_to_backend(path.forwarded(&piece(0)), &AWAY, goes(path.backend)));
        let name = format!("following/{}/fragment/{protocol}/early", path.name);
        let early = whole.clone().fragment(id + 10, 400, 400);
        all.push(case(name, &DIRECT, early).tc_drops(Reason::EarlyFragment));
    }
    all
}
