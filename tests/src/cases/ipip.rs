//! Mode `dsr-ipip`: IPv4 in IPv4, IPv6 in IPv6 and IPv4 in IPv6. And what both tunnels have in
//! common beyond what all direct modes have.

use weir_ebpf::abi::{Reason, SEEN_DATA, SEEN_SYN};

use super::direct::{self, BY_KERNEL, DIRECT};
use super::modes::{IPIP, Mode, Path, UNKNOWN, behind};
use super::nodes::{AWAY, BARE, Spec};
use super::told::Why;
use super::{Case, begins, case, datagram, goes};
use crate::packet::{ACK, Packet, SYN};
use crate::program::SMALL;

/// The agent was started again, and told no source for tunnels of either family.
static NO_SOURCE: Spec = Spec { name: "no-source", hops: &behind(AWAY), ..NO_SOURCE_BY_KERNEL };
/// The same, and the agent knows no next hop.
static NO_SOURCE_BY_KERNEL: Spec = Spec {
    name: "no-source-by-kernel",
    left_with: Some(UNKNOWN.options.outer),
    options: SMALL,
    ..UNKNOWN
};

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = IPIP.into_iter().flat_map(tunnel).collect();
    all.extend(between_families(
        ["10.0.0.61", "fd00::61"]
            .map(|backend| between(Mode::Ipip, "ipip", "198.51.100.61", backend)),
    ));
    all
}

/// What holds for a path through any tunnel.
pub(super) fn tunnel(path: Path) -> Vec<Case> {
    [direct::cases(path), last_hops(path), without_a_source(path)].concat()
}

/// The tunnel is a hop for the packet in it.
fn last_hops(path: Path) -> Vec<Case> {
    let mut all = Vec::new();
    for (node, how) in [(&DIRECT, ""), (&BY_KERNEL, "by-kernel/")] {
        for ttl in [0, 1] {
            let drops = |what: &str, input: Packet| {
                let draft = path.draft(&format!("{how}ttl-{ttl}/{what}"), node, input.ttl(ttl));
                draft.tells(Why::Expired)
            };
            all.push(drops("syn", path.tcp(SYN)));
            all.push(drops("udp", path.udp()).and_remembered());
        }
    }
    all
}

fn without_a_source(path: Path) -> Vec<Case> {
    let draft = |name: &str, node, input| path.draft(&format!("no-source/{name}"), node, input);
    vec![
        draft("syn", &NO_SOURCE, path.tcp(SYN)).drops(Reason::NoSource),
        draft("ack", &NO_SOURCE, path.tcp(ACK)).drops(Reason::NoSource),
        draft("udp", &NO_SOURCE, path.udp()).drops(Reason::NoSource).and_remembered(),
        draft("by-kernel", &NO_SOURCE_BY_KERNEL, path.tcp(SYN)).tc_drops(Reason::NoSource),
    ]
}

/// Blue's backends are IPv4, green's IPv6, and every slot has just moved from one to the other.
static BETWEEN: Spec = Spec {
    name: "between",
    services: r#"
services:
  - name: ipip
    listeners:
      - { address: 198.51.100.61, port: 80, protocol: tcp }
      - { address: 198.51.100.61, port: 80, protocol: udp }
    forwarding: dsr-ipip
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.61 }] }
      green: { backends: [{ address: "fd00::61" }] }
  - name: gue
    listeners:
      - { address: 198.51.100.62, port: 80, protocol: tcp }
      - { address: 198.51.100.62, port: 80, protocol: udp }
    forwarding: dsr-gue
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.62 }] }
      green: { backends: [{ address: "fd00::62" }] }
"#,
    shifts: &[("ipip", [0, 10_000, 0]), ("gue", [0, 10_000, 0])],
    hops: &[("10.0.0.61", AWAY), ("fd00::61", AWAY), ("10.0.0.62", AWAY), ("fd00::62", AWAY)],
    options: UNKNOWN.options,
    ..BARE
};

/// A way to a backend of [`BETWEEN`].
pub(super) fn between(
    mode: Mode,
    name: &'static str,
    listener: &'static str,
    backend: &'static str,
) -> Path {
    Path { mode, name, client: "192.0.2.7", listener, backend }
}

/// A shift between versions whose backends are of two families breaks no connection.
pub(super) fn between_families([old, new]: [Path; 2]) -> Vec<Case> {
    let (blue, green) = (old.backend, new.backend);
    let draft = |name: &str, input: &Packet| {
        let name = format!("{}/4-to-6/{name}", old.name);
        case(name, &BETWEEN, input.clone())
    };
    let (syn, ack, udp) = (old.tcp(SYN), old.tcp(ACK), old.udp());
    vec![
        draft("syn", &syn).to_backend(new.forwarded(&syn), &AWAY, begins(green).remembered()),
        draft("ack-of-an-old-flow", &ack).to_backend(
            old.forwarded(&ack),
            &AWAY,
            goes(blue).remembered(),
        ),
        draft("udp", &udp).to_backend(new.forwarded(&udp), &AWAY, datagram(green)),
        draft("ack-of-a-new-flow", &ack).remembered(green, SEEN_SYN).to_backend(
            new.forwarded(&ack),
            &AWAY,
            goes(green),
        ),
        draft("udp-of-an-old-flow", &udp).remembered(blue, SEEN_DATA).to_backend(
            old.forwarded(&udp),
            &AWAY,
            goes(blue),
        ),
    ]
}
