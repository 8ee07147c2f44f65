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
    /// Backends that take no new flows, by hand.
    pub(super) out: BTreeSet<SocketAddr>,
    /// Backends that have died.
    pub(super) dead: BTreeSet<SocketAddr>,
}

impl Spec {
    /// The version that a new flow of a client network goes to.
    pub(super) fn version(&self, seed: [u8; 16], key: &FlowKey, network: u8) -> u8 {
        let rule = self.rules.get(&network).copied();
        if let Some(version) = rule.filter(|version| self.takes(*version) || self.holds()) {
            return version;
        }
        by_weights(seed, key, self.effective())
    }

    /// The version that it goes to by the weights alone, whoever takes new flows.
    pub(super) fn asked(&self, seed: [u8; 16], key: &FlowKey) -> u8 {
        by_weights(seed, key, self.weights.map(u32::from))
    }

    /// Where new flows of a version may go: if nothing takes any, wherever they would.
    pub(super) fn ready(&self, version: u8) -> BTreeSet<SocketAddr> {
        let weighs = |backend: &&Backend| backend.weight > 0;
        let backends = self.backends[usize::from(version)].iter().filter(weighs);
        let all: BTreeSet<SocketAddr> = backends.map(|backend| backend.at).collect();
        if self.takes(version) { &(&all - &self.out) - &self.dead } else { all }
    }

    /// Whether a backend of a version takes new flows.
    fn takes(&self, version: u8) -> bool {
        let mut backends = self.backends[usize::from(version)].iter();
        let is_out = |at| self.out.contains(at) || self.dead.contains(at);
        backends.any(|backend| backend.weight > 0 && !is_out(&backend.at))
    }

    /// Whether no version that has weight takes new flows: then nothing moves.
    fn holds(&self) -> bool {
        (0..3).all(|version| self.weights[usize::from(version)] == 0 || !self.takes(version))
    }

    /// The weights, where versions that take nothing give theirs to those that do.
    fn effective(&self) -> [u32; 3] {
        let weights = self.weights.map(u32::from);
        if self.holds() {
            return weights;
        }
        let kept = [0, 1, 2].map(|v| if self.takes(v) { weights[usize::from(v)] } else { 0 });
        let sum: u32 = kept.iter().sum();
        let mut given = kept.map(|kept| kept * 10_000 / sum);
        let rest = 10_000 - given.iter().sum::<u32>();
        *given.iter_mut().find(|given| **given > 0).unwrap() += rest;
        given
    }
}

/// Where weights put a new flow.
fn by_weights(seed: [u8; 16], key: &FlowKey, [_, green, canary]: [u32; 3]) -> u8 {
    let (low, high) = seed.split_at(8);
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
    let service = Service {
        seed: [word(low), word(high)],
        affinity: AFFINITY_CONNECTION,
        ..Service::default()
    };
    let slot = slots(&service, key).version;
    let edge = |points: u32| (points * VERSION_SLOTS + 5_000) / 10_000;
    match slot {
        _ if slot < edge(green) => 1,
        _ if slot >= edge(10_000 - canary) => 2,
        _ => 0,
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
