//! Mode `dsr-l2`: the same packet with other MAC addresses. Not even the hop limit changes.

use super::direct::{self, BY_KERNEL, DIRECT};
use super::modes::{L2, Path};
use super::nodes::{AWAY, ROUTED};
use super::{Case, goes};
use crate::packet::{ACK, FIN};

pub(super) fn cases() -> Vec<Case> {
    L2.into_iter().flat_map(|path| [direct::cases(path), hops(path)].concat()).collect()
}

/// A packet on its last hop has arrived: the backend is the listener's host.
fn hops(path: Path) -> Vec<Case> {
    let mut all = Vec::new();
    for ttl in [0, 1] {
        for (what, input, counted) in path.both() {
            let name = format!("ttl-{ttl}/{what}");
            all.push(path.case(&name, &DIRECT, &AWAY, input.ttl(ttl), counted));
        }
        let input = path.tcp(FIN | ACK).ttl(ttl);
        let output = input.clone().macs(ROUTED.mac, ROUTED.interface_mac);
        let draft = path.draft(&format!("by-kernel/ttl-{ttl}"), &BY_KERNEL, input);
        all.push(draft.to_backend_by_kernel(output, goes(path.backend)));
    }
    all
}
