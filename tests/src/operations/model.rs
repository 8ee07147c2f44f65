//! Where each flow belongs: a flow stays where it began, and a new one goes to a version by its
//! slot, to a backend of it that takes new flows. Written without the plan's code.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weir_ebpf::abi::{AFFINITY_CONNECTION, FlowKey, Service, VERSION_SLOTS};
use weir_ebpf::decide::slots;

/// A backend, as its spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) at: SocketAddr,
    pub(super) weight: u16,
}

/// What has been asked of the node.
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub(super) weights: [u16; 3],
    pub(super) backends: [Vec<Backend>; 3],
    /// Versions by the number of a client network.
    pub(super) rules: BTreeMap<u8, u8>,
}

impl Spec {
    /// The version that a new flow of a client network goes to.
    pub(super) fn version(&self, seed: [u8; 16], key: &FlowKey, network: u8) -> u8 {
        if let Some(version) = self.rules.get(&network) {
            return *version;
        }
        let (low, high) = seed.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
        let service = Service {
            seed: [word(low), word(high)],
            affinity: AFFINITY_CONNECTION,
            ..Service::default()
        };
        let slot = slots(&service, key).version;
        let edge = |points: u32| (points * VERSION_SLOTS + 5_000) / 10_000;
        let [_, green, canary] = self.weights.map(u32::from);
        match slot {
            _ if slot < edge(green) => 1,
            _ if slot >= edge(10_000 - canary) => 2,
            _ => 0,
        }
    }

    /// Where new flows of a version may go.
    pub(super) fn ready(&self, version: u8) -> BTreeSet<SocketAddr> {
        let backends = self.backends[usize::from(version)].iter();
        backends.filter(|backend| backend.weight > 0).map(|backend| backend.at).collect()
    }
}

/// A flow that lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) number: u32,
    /// Where it began, and so where it belongs.
    pub(super) home: SocketAddr,
    /// When it spoke last, in seconds since boot.
    pub(super) spoke: u32,
}
