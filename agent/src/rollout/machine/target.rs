//! What each agent should have: pure arithmetic over the steps.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::super::schedule::Step;
use super::{AgentView, Phase, Position, Roles, Stage, State};
use crate::model::{BackendState, PerVersion, Version, Weight, Weights};

/// Two weights that differ by no more are the same to tables of 16 384 slots, in basis points.
const SLOT: u32 = 1;

/// What an agent should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub weights: Weights,
    /// Prefixes that are led to the candidate.
    pub routes: Vec<IpNet>,
    /// The weights hold only while renewed.
    pub leased: bool,
}

impl Target {
    /// Whether the kernel's table says it. What it said before something that is under way is no
    /// answer: an abort that comes while weights rise must wait until they can be read back.
    pub(super) fn is_met(&self, view: &AgentView) -> bool {
        !view.pending
            && Version::ALL.into_iter().all(|version| {
                self.weights.get(version).bp().abs_diff(view.weights[version].bp()) <= SLOT
            })
    }

    /// The first version whose weight would rise though nothing there is ready to serve it.
    pub(super) fn unserved(&self, view: &AgentView) -> Option<Version> {
        Version::ALL.into_iter().find(|version| {
            let rises = self.weights.get(*version).bp() > view.weights[*version].bp() + SLOT
                || (self.weights.get(*version) > Weight::ZERO
                    && view.weights[*version] == Weight::ZERO);
            rises && view.ready[*version] == 0
        })
    }
}

/// So much for the candidate, the rest for the stable version.
pub(super) fn split(roles: Roles, share: Weight) -> Weights {
    let rest = Weight::from_bp(Weight::FULL.bp() - share.bp()).unwrap_or(Weight::ZERO);
    let weights = PerVersion::from_fn(|version| {
        if version == roles.candidate {
            share
        } else if version == roles.stable {
            rest
        } else {
            Weight::ZERO
        }
    });
    // With `rolling` both are one version, and the sum would be off.
    Weights::new(weights).unwrap_or_else(|_| Weights::all_to(roles.stable))
}

impl State {
    /// What the agent at a place in the order of waves should have; nothing: whatever it has.
    pub(super) fn target(&self, index: usize) -> Option<Target> {
        let roles = self.roles?;
        match &self.phase {
            Phase::Pending | Phase::Preflight => None,
            Phase::Progressing(at) | Phase::Aborting(at) => Some(self.forward(roles, *at, index)),
            Phase::Paused(paused) => Some(self.forward(roles, paused.at?, index)),
            Phase::RollingBack(_) => self.backward(),
            Phase::Healthy | Phase::Degraded => {
                let name = self.agents.get(index)?;
                self.unanswered.contains(name).then(|| self.at_rest()).flatten()
            }
        }
    }

    /// What everybody should have when nothing is under way.
    fn at_rest(&self) -> Option<Target> {
        if self.back.is_empty() {
            let roles = self.roles?;
            let weights = Weights::all_to(roles.candidate);
            return Some(Target { weights, routes: Vec::new(), leased: false });
        }
        self.backward()
    }

    /// What the way back leads to: the weights come first, whatever else is brought back.
    fn backward(&self) -> Option<Target> {
        let weights = self.back.iter().rev().find_map(|step| match step {
            Step::Restore(weights) => Some(*weights),
            _ => None,
        })?;
        Some(Target { weights, routes: Vec::new(), leased: false })
    }

    /// What the steps up to a place have made of one agent. Those that were outside a wave keep what
    /// they had.
    fn forward(&self, roles: Roles, at: Position, index: usize) -> Target {
        let fleet = self.agents.len();
        let (mut wave, mut weight, mut own) = (fleet, Weight::ZERO, Weight::ZERO);
        let (mut routes, mut led) = (Vec::new(), Vec::new());
        let mut leased = self.rollout.agents.lease.is_some();
        for (number, step) in self.steps.iter().enumerate().take(at.step + 1) {
            if number == at.step && at.stage == Stage::Before {
                break;
            }
            match step {
                Step::Wave(share) => wave = share.of(fleet),
                Step::Weight(share) => weight = *share,
                Step::Route(route) => routes.extend(route.sources.iter().copied()),
                Step::Promote => {
                    (wave, weight) = (fleet, Weight::FULL);
                    routes.clear();
                    led.clear();
                }
                Step::Drain(_) => leased = false,
                _ => continue,
            }
            if index < wave {
                own = weight;
                led.clone_from(&routes);
            }
        }
        let leased = leased && own > Weight::ZERO;
        Target { weights: split(roles, own), routes: led, leased }
    }

    /// On how many agents, the first in the order of waves, the step at a place applies.
    pub(super) fn wave(&self, at: Position) -> usize {
        let fleet = self.agents.len();
        self.steps.iter().take(at.step + 1).fold(fleet, |wave, step| match step {
            Step::Wave(share) => share.of(fleet),
            Step::Promote => fleet,
            _ => wave,
        })
    }

    /// Prefixes that the rollout leads anywhere at all.
    pub(super) fn own_routes(&self) -> impl Iterator<Item = IpNet> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Route(route) => Some(route.sources.iter().copied()),
                _ => None,
            })
            .flatten()
    }

    /// What a backend should be; nothing: whatever it is. `out`: whether those that are to be replaced
    /// may be taken out now.
    pub(super) fn backend_target(&self, backend: SocketAddr, out: bool) -> Option<BackendState> {
        if matches!(self.phase, Phase::Pending | Phase::Preflight) {
            return None;
        }
        if self.ejected.contains(&backend) {
            return (!self.is_at_rest()).then_some(BackendState::Draining);
        }
        if let Some((backends, stage)) = self.replacing()
            && backends.contains(&backend)
        {
            return match stage {
                Stage::Emptying if !out => Some(BackendState::Active),
                Stage::Emptying | Stage::Replacing | Stage::Readying => {
                    Some(BackendState::Draining)
                }
                _ => Some(BackendState::Active),
            };
        }
        self.replaceable().contains(&backend).then_some(BackendState::Active)
    }

    /// The backends that are being replaced, and how far that is.
    #[must_use]
    pub fn replacing(&self) -> Option<(&[SocketAddr], Stage)> {
        let (steps, at) = match &self.phase {
            Phase::Progressing(at) | Phase::Aborting(at) => (&self.steps, *at),
            Phase::Paused(paused) => (&self.steps, paused.at?),
            Phase::RollingBack(at) => (&self.back, *at),
            _ => return None,
        };
        match steps.get(at.step)? {
            Step::Replace { backends, .. } => Some((backends, at.stage)),
            _ => None,
        }
    }

    /// Every backend that any step replaces.
    fn replaceable(&self) -> BTreeSet<SocketAddr> {
        let all = self.steps.iter().chain(&self.back).filter_map(|step| match step {
            Step::Replace { backends, .. } => Some(backends.iter().copied()),
            _ => None,
        });
        all.flatten().collect()
    }
}
