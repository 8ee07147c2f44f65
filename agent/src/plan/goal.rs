//! What a service's spec asks for: a pure function of the spec and its seed, in terms that hold on
//! every node.

use std::sync::{Arc, OnceLock};

use weir_ebpf::abi::{NO_BACKEND, VERSIONS};

use super::backend_table::{self, Candidate, Layout};
use super::digest;
use super::identity::Identity;
use super::steering::Rules;
use super::version_table;

/// The layouts of a service's tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Goal {
    pub(super) versions: Arc<[u8]>,
    pub(super) backends: Arc<Backends>,
    pub(super) rules: Rules,
}

/// The layouts of the backend tables of all versions.
#[derive(Clone, Debug)]
pub(super) struct Backends {
    layouts: [Layout; VERSIONS],
    /// Reckoned when it is first asked for.
    digest: OnceLock<[u8; 32]>,
}

impl Backends {
    fn new(layouts: [Layout; VERSIONS]) -> Self {
        Self { layouts, digest: OnceLock::new() }
    }

    /// Their part of a [`Digest`](super::digest::Digest).
    pub(super) fn digest(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| digest::of_backends(&self.layouts))
    }
}

impl PartialEq for Backends {
    fn eq(&self, other: &Self) -> bool {
        self.layouts == other.layouts
    }
}

impl Eq for Backends {}

impl Goal {
    /// Lays out the tables, without steering. `weights` are basis points by version and add up to 10 000;
    /// `candidates` are each version's backends in any order.
    #[must_use]
    pub fn new(
        seed: [u8; 16],
        weights: [u16; VERSIONS],
        candidates: [&[Candidate]; VERSIONS],
    ) -> Self {
        Self {
            versions: version_table::lay_out(weights),
            backends: Arc::new(Backends::new(candidates.map(|c| backend_table::lay_out(seed, c)))),
            rules: Rules::default(),
        }
    }

    /// The same backends under other weights, without laying out their tables again.
    #[must_use]
    pub fn with_weights(self, weights: [u16; VERSIONS]) -> Self {
        Self { versions: version_table::lay_out(weights), ..self }
    }

    /// The same with these steering rules.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The steering rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// For each version slot its version.
    #[must_use]
    pub fn versions(&self) -> &[u8] {
        &self.versions
    }

    /// The layouts of the backend tables, to change them.
    pub(super) fn layouts_mut(&mut self) -> &mut [Layout; VERSIONS] {
        let backends = Arc::make_mut(&mut self.backends);
        backends.digest = OnceLock::new();
        &mut backends.layouts
    }

    /// The layout of each version's backend table.
    #[must_use]
    pub fn backends(&self) -> &[Layout; VERSIONS] {
        &self.backends.layouts
    }

    /// The same in terms of this node. `index` gives each backend (its version, its identity) the
    /// index it has here, below [`NO_BACKEND`]; it is asked once for each backend.
    ///
    /// An index belongs to one version of one service: `decide` leaves out of memory what `cur`
    /// and `base` agree on, and two versions that agree by chance may part again.
    #[must_use]
    pub fn on_this_node(&self, index: &mut dyn FnMut(usize, Identity) -> u16) -> Target {
        let mut version = 0..;
        let backends = self.backends.layouts.each_ref().map(|layout| {
            let version = version.next().unwrap_or_default();
            let indices: Vec<u16> = layout.backends.iter().map(|&i| index(version, i)).collect();
            let at = |&o: &u16| indices.get(usize::from(o)).copied().unwrap_or(NO_BACKEND);
            layout.slots.iter().map(at).collect()
        });
        Target {
            versions: Arc::clone(&self.versions),
            backends,
            rules: self.rules.clone(),
            of: Arc::clone(&self.backends),
        }
    }
}

/// A [`Goal`] in terms of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// For each version slot its version.
    pub(super) versions: Arc<[u8]>,
    /// For each slot of each version's backend table an index of `BACKENDS`, or [`NO_BACKEND`].
    pub(super) backends: [Arc<[u16]>; VERSIONS],
    pub(super) rules: Rules,
    /// The layouts that `backends` are of.
    of: Arc<Backends>,
}

impl Target {
    /// The target of a goal that differs from this one's in its weights and rules alone, with
    /// backends that have the same indices. Nothing, if its backends are laid out otherwise.
    #[must_use]
    pub fn reweighed(&self, goal: &Goal) -> Option<Self> {
        Arc::ptr_eq(&self.of, &goal.backends).then(|| Self {
            versions: Arc::clone(&goal.versions),
            rules: goal.rules.clone(),
            ..self.clone()
        })
    }

    /// The steering rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::Ipv4Addr;

    use weir_ebpf::abi::Address;

    use super::*;
    use crate::plan::transition::transition;

    fn goal(weights: [u16; VERSIONS], backends: u8) -> Goal {
        let candidates = [61, 62, 63].map(|network| -> Vec<Candidate> {
            let at = |last| Ipv4Addr::new(10, network, 0, last).octets();
            let identity = |last| Identity { address: Address::from_v4(at(last)), port: 80 };
            (1..=backends).map(|last| Candidate { identity: identity(last), weight: 1 }).collect()
        });
        Goal::new([7; 16], weights, candidates.each_ref().map(Vec::as_slice))
    }

    fn on_this_node(goal: &Goal) -> Target {
        let mut next = 0;
        goal.on_this_node(&mut |_, _| {
            next += 1;
            next - 1
        })
    }

    #[test]
    fn other_weights_make_the_same_target_as_from_nothing() {
        let before = goal([10_000, 0, 0], 5);
        let after = before.clone().with_weights([2_000, 3_000, 5_000]);
        let target = on_this_node(&before).reweighed(&after).unwrap();
        assert_eq!(target, on_this_node(&after));
        assert!(on_this_node(&before).reweighed(&goal([2_000, 3_000, 5_000], 6)).is_none());
    }

    #[test]
    fn other_weights_leave_backend_tables_shared() {
        let before = goal([10_000, 0, 0], 5);
        let old = transition(None, &on_this_node(&before), &|_| false).tables;
        let after = on_this_node(&before.with_weights([0, 0, 10_000]));
        let new = transition(Some(&old), &after, &|_| false).tables;
        assert!(!Arc::ptr_eq(&old.versions, &new.versions));
        for (old, new) in old.backends.iter().zip(&new.backends) {
            assert!(Arc::ptr_eq(&old.0, &new.0));
        }
    }
}
