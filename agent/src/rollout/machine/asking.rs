//! What should be asked for, so that everything gets to where it should be.

use ipnet::IpNet;

use super::super::judge::Config;
use super::super::schedule::Step;
use super::super::spec::InFlightKind;
use super::target::Target;
use super::turn::Turn;
use super::{AgentView, Effect, Phase, Stage};
use crate::model::{LeaseTerms, Rule, Weight, Weights};
use crate::node::messages::InFlight;
use crate::rollout::name::AgentName;

impl Turn<'_> {
    /// Everything that should be so and is not yet.
    pub(super) fn asking(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (index, name, view) in self.reachable() {
            let target = self.state.target(index);
            if let Some(target) = &target {
                self.ask_weights(target, name, view, &mut effects);
                self.ask_steering(&target.routes, name, view, &mut effects);
            }
            self.ask_guard(name, view, &mut effects);
            if !self.state.is_at_rest() || target.is_some() {
                self.ask_backends(name, view, &mut effects);
            }
        }
        self.call_hooks(&mut effects);
        effects.push(match self.state.evidence {
            Some(start) => Effect::JudgeFrom { start, config: Box::new(self.judged_by()) },
            None => Effect::JudgeStop,
        });
        effects.extend(self.state.news.iter().cloned().map(Effect::Notify));
        effects
    }

    /// What is asked for while nothing may change: the weights are held.
    pub(super) fn held(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.seen.leading && !self.state.is_at_rest() {
            for (_, name, view) in self.reachable() {
                self.renew(name, view, &mut effects);
            }
        }
        effects
    }

    fn ask_weights(
        &self,
        target: &Target,
        name: &AgentName,
        view: &AgentView,
        effects: &mut Vec<Effect>,
    ) {
        let lease = if target.leased { self.lease() } else { None };
        let met = target.is_met(view) && lease.is_some() == view.lease.is_some();
        if met {
            self.renew(name, view, effects);
        } else if target.unserved(view).is_none() {
            effects.push(Effect::SetWeights {
                agent: name.clone(),
                weights: target.weights,
                in_flight: self.in_flight(target.weights),
                lease,
            });
        }
    }

    fn lease(&self) -> Option<LeaseTerms> {
        let lease = self.state.rollout.agents.lease?;
        Some(LeaseTerms { length: lease.ttl, on_expiry: lease.on_expiry })
    }

    /// A lease of which a third is gone is renewed.
    fn renew(&self, name: &AgentName, view: &AgentView, effects: &mut Vec<Effect>) {
        if let (Some(lease), Some(left)) = (self.lease(), view.lease)
            && left.left_ms <= u64::from(lease.length.seconds()) * 1_000 * 2 / 3
        {
            effects.push(Effect::RenewLease { agent: name.clone(), lease });
        }
    }

    /// What becomes of the connections of versions that lose all their weight.
    fn in_flight(&self, weights: Weights) -> InFlight {
        let drain = self.state.rollout.drain;
        let drained = InFlight::Drain {
            timeout: Some(drain.timeout.get().max(1)),
            on_timeout: Some(drain.on_timeout),
        };
        let promoted =
            self.roles().is_some_and(|roles| weights.get(roles.candidate) == Weight::FULL);
        match self.state.rollout.rollback_in_flight {
            _ if !self.state.is_going_back() && promoted => drained,
            _ if !self.state.is_going_back() && !self.state.is_at_rest() => InFlight::BySpec,
            InFlightKind::Keep => InFlight::Keep,
            InFlightKind::Drain => drained,
            InFlightKind::Reset => InFlight::Reset,
        }
    }

    /// Whether an agent has all that it should.
    pub(super) fn is_led(&self, index: usize, view: &AgentView) -> bool {
        let Some(target) = self.state.target(index) else { return true };
        let waits = self.state.replacing().is_some();
        let backends = || {
            view.backends.iter().all(|one| {
                self.state.backend_target(one.address, false).is_none_or(|it| it == one.state)
            })
        };
        target.is_met(view) && self.is_steered(&target.routes, view) && (waits || backends())
    }

    /// Whether exactly those of our prefixes are led to the candidate that should be.
    pub(super) fn is_steered(&self, wanted: &[IpNet], view: &AgentView) -> bool {
        let (add, remove) = self.steering(wanted, view);
        add.is_empty() && remove.is_empty()
    }

    /// The rules to add and to remove. Rules that are not ours stay.
    fn steering(&self, wanted: &[IpNet], view: &AgentView) -> (Vec<Rule>, Vec<IpNet>) {
        let Some(roles) = self.roles() else { return (Vec::new(), Vec::new()) };
        let version = roles.candidate;
        let has = |source: &IpNet| {
            view.steering.iter().any(|rule| rule.source == *source && rule.version == version)
        };
        let missing = wanted.iter().copied().filter(|source| !has(source));
        let add = missing.map(|source| Rule { source, version }).collect();
        let surplus = self.state.own_routes().filter(|own| !wanted.contains(own) && has(own));
        (add, surplus.collect())
    }

    fn ask_steering(
        &self,
        wanted: &[IpNet],
        name: &AgentName,
        view: &AgentView,
        effects: &mut Vec<Effect>,
    ) {
        let (add, remove) = self.steering(wanted, view);
        let served = self.roles().is_some_and(|roles| view.ready[roles.candidate] > 0);
        let add = if served { add } else { Vec::new() };
        if !add.is_empty() || !remove.is_empty() {
            effects.push(Effect::SetSteering { agent: name.clone(), add, remove });
        }
    }

    /// The guard protects from the preflight until the rollout is over; one that somebody else has set
    /// stays.
    fn ask_guard(&self, name: &AgentName, view: &AgentView, effects: &mut Vec<Effect>) {
        let (Some(guard), Some(roles)) = (self.state.rollout.guard, self.roles()) else { return };
        let agent = name.clone();
        let armed = view.guard == Some(guard);
        match self.state.phase {
            Phase::Preflight if armed && view.tripped.is_none() => {}
            Phase::Progressing(_) | Phase::Paused(_) if armed => {}
            Phase::Preflight | Phase::Progressing(_) | Phase::Paused(_) => {
                let fallback = Weights::all_to(roles.stable);
                let guard = Some((guard, roles.candidate, fallback));
                effects.push(Effect::SetGuard { agent, guard });
            }
            Phase::Healthy | Phase::Degraded if armed => {
                effects.push(Effect::SetGuard { agent, guard: None });
            }
            _ => {}
        }
    }

    fn ask_backends(&self, name: &AgentName, view: &AgentView, effects: &mut Vec<Effect>) {
        let out = self.state.replacing().is_some_and(|(backends, stage)| {
            let back = matches!(self.state.phase, Phase::RollingBack(_));
            stage == Stage::Emptying && self.may_take_out(backends, back)
        });
        for backend in &view.backends {
            let wanted = self.state.backend_target(backend.address, out);
            if let Some(state) = wanted.filter(|wanted| *wanted != backend.state) {
                let (agent, backend) = (name.clone(), backend.address);
                effects.push(Effect::SetBackend { agent, backend, state });
            }
        }
    }

    /// How strictly it is judged now: an analysis has its own times.
    fn judged_by(&self) -> Config {
        let config = self.state.rollout.analysis.clone();
        let at = match &self.state.phase {
            Phase::Progressing(at) => Some(*at),
            Phase::Paused(paused) => paused.at,
            _ => None,
        };
        match at.and_then(|at| self.step(at)) {
            Some(Step::Analysis(analysis)) => Config {
                min_duration: analysis.min_duration.duration(),
                advance_early: analysis.advance_early,
                ..config
            },
            _ => config,
        }
    }
}
