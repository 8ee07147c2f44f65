//! Mode `dsr-gue`: in a UDP datagram to the port of the backends' receivers, without a checksum,
//! and from a port that shows the flow.

use super::direct::DIRECT;
use super::ipip::{between, between_families, tunnel};
use super::modes::{GUE, Mode, OTHER_PORT, Path};
use super::nodes::AWAY;
use super::{Case, datagram, goes};
use crate::packet::{ACK, PSH, SYN, ip};

/// Flows of each path in [`flows`].
pub const FLOWS: u16 = 32;

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = GUE.into_iter().flat_map(tunnel).collect();
    all.extend(OTHER_PORT.into_iter().flat_map(other_port));
    all.extend(between_families(
        ["10.0.0.62", "fd00::62"]
            .map(|backend| between(Mode::Gue(6080), "gue", "198.51.100.62", backend)),
    ));
    all.extend(flows().into_iter().step_by(8));
    all
}

fn other_port(path: Path) -> Vec<Case> {
    let both = path.both().into_iter();
    let long = Path::filled(path.tcp(PSH | ACK), 1_280);
    both.chain([("data", long, goes as fn(_) -> _)])
        .map(|(name, input, counted)| path.case(name, &DIRECT, &AWAY, input, counted))
        .collect()
}

/// Many flows of each path, half of them datagrams. What is outside must differ from flow to flow.
#[must_use]
pub fn flows() -> Vec<Case> {
    let mut all = Vec::new();
    for path in GUE {
        for flow in 0..FLOWS {
            let from = ip(path.client, path.listener);
            let (name, port) = (format!("flow/{flow}"), 40_000 + flow / 2);
            all.push(if flow % 2 == 0 {
                path.case(&name, &DIRECT, &AWAY, from.tcp(port, 80, SYN | ACK), goes)
            } else {
                path.case(&name, &DIRECT, &AWAY, from.udp(port, 80).payload(7), datagram)
            });
        }
    }
    all
}
