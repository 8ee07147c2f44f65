//! Whether it can begin, and who is who. Nothing is changed before all of it is as it must be, but
//! the guards, which protect from then on.

use std::net::SocketAddr;

use super::super::name::AgentName;
use super::super::schedule;
use super::super::spec::{
    BlueGreen, Stage as HookStage, Strategy, UnreachableAction, lint::default_candidate,
};
use super::calls::Answer;
use super::turn::Turn;
use super::{AgentView, Kept, Roles};
use crate::model::{Version, Weight, Weights};

/// What was there before the first rollout.
const BEFORE: &str = "before";

impl Turn<'_> {
    pub(super) fn preflight(&mut self) -> bool {
        let looked = self.look();
        let missing = match looked {
            Ok(()) => match self.answer(HookStage::PreRollout) {
                Answer::Done => return self.take_off(),
                Answer::Waiting => "the hook preRollout has not answered".to_owned(),
                Answer::Failed(reason) => return self.end_unbegun(&reason, None),
            },
            Err(missing) => missing,
        };
        if self.state.is_late() {
            return self.end_unbegun(&missing, None);
        }
        // Shown while it waits; a state that only says so is no transition.
        self.state.reason = missing;
        false
    }

    /// What is missing, in words, if anything is.
    fn look(&mut self) -> Result<(), String> {
        self.state.agents = self.seen.agents.keys().cloned().collect();
        if self.reachable().next().is_none() {
            return Err("no agent answers".to_owned());
        }
        if let Some(reason) = self.too_many_silent()
            && self.state.rollout.agents.unreachable.action != UnreachableAction::Proceed
        {
            return Err(reason);
        }
        let roles = self.find_roles()?;
        self.state.roles = Some(roles);
        for (_, name, view) in self.reachable() {
            self.look_at(roles, name, view)?;
        }
        let backends = self.backends(roles.stable);
        self.state.steps = schedule::steps(&self.state.rollout, &backends)?;
        Ok(())
    }

    /// Before it begins, whoever does not answer is away.
    fn too_many_silent(&self) -> Option<String> {
        let fleet = self.state.agents.len();
        let silent = self.fleet().filter(|(.., view)| !view.reachable).count();
        let limit = self.state.rollout.agents.unreachable.max_percent.bp() as usize * fleet;
        (silent * 10_000 > limit).then(|| format!("{silent} of {fleet} agents do not answer"))
    }

    /// The stable version has everything on every agent, and the candidate nothing.
    fn find_roles(&self) -> Result<Roles, String> {
        let rollout = &self.state.rollout;
        let mut found: Option<(Version, &AgentName)> = None;
        for (_, name, view) in self.reachable() {
            let most = Version::ALL.into_iter().max_by_key(|version| view.weights[*version]);
            let stable = rollout.stable.or(most).unwrap_or(Version::Blue);
            if view.weights[stable].bp() + 1 < Weight::FULL.bp() {
                return Err(format!(
                    "{stable} has {} on {name}; a rollout begins where one version has everything",
                    view.weights[stable]
                ));
            }
            if let Some((other, first)) = found.filter(|(other, _)| *other != stable) {
                return Err(format!("{other} has the weight on {first}, but {stable} on {name}"));
            }
            found = Some((stable, name));
        }
        let (stable, _) = found.ok_or("no agent answers")?;
        let rolling = matches!(rollout.strategy, Strategy::Rolling(_));
        let candidate =
            rollout.candidate.unwrap_or_else(|| default_candidate(&rollout.strategy, stable));
        if candidate == stable && !rolling {
            return Err(format!("{stable} has the weight already; name another candidate"));
        }
        Ok(Roles { stable, candidate })
    }

    fn look_at(&self, roles: Roles, name: &AgentName, view: &AgentView) -> Result<(), String> {
        for version in [roles.candidate, roles.stable] {
            if view.ready[version] == 0 {
                return Err(format!("{version} has no ready backend on {name}"));
            }
        }
        if let Strategy::BlueGreen(BlueGreen { preview: true, .. }) = self.state.rollout.strategy
            && !view.previews[roles.candidate]
        {
            let version = roles.candidate;
            return Err(format!(
                "no listener previews {version} on {name}: give the service one with `version: {version}`"
            ));
        }
        let ours: Vec<_> = self.routes();
        let foreign = view
            .steering
            .iter()
            .find(|rule| ours.contains(&rule.source) && rule.version != roles.candidate);
        if let Some(rule) = foreign {
            return Err(format!("{name} leads {} to {} already", rule.source, rule.version));
        }
        if let Some(guard) = self.state.rollout.guard
            && (view.guard != Some(guard) || view.tripped.is_some())
        {
            return Err(format!("the guard is not set on {name} yet"));
        }
        Ok(())
    }

    /// The prefixes that the document leads anywhere.
    fn routes(&self) -> Vec<ipnet::IpNet> {
        match &self.state.rollout.strategy {
            Strategy::Canary(canary) => canary
                .steps
                .iter()
                .filter_map(|step| match step {
                    super::super::spec::CanaryStep::SetMatchRoute(route) => Some(&route.sources),
                    _ => None,
                })
                .flatten()
                .copied()
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The backends of a version, as all agents together know them.
    fn backends(&self, version: Version) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self
            .reachable()
            .flat_map(|(.., view)| &view.backends)
            .filter(|backend| backend.version == version)
            .map(|backend| backend.address)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// It begins. Revisions whose backends the candidate takes over cannot be returned to any more.
    fn take_off(&mut self) -> bool {
        let Some(roles) = self.roles() else { return false };
        let stable = Weights::all_to(roles.stable);
        let rolling = roles.candidate == roles.stable;
        if rolling {
            // One replacement of its backends can be undone, not two.
            let last = self.state.kept.iter().rposition(|kept| kept.weights == stable);
            let mut index = 0;
            self.state.kept.retain(|kept| {
                let keep = kept.weights != stable || Some(index) == last;
                index += 1;
                keep
            });
        } else {
            self.state.kept.retain(|kept| kept.weights.get(roles.candidate) == Weight::ZERO);
        }
        if self.state.kept.last().is_none_or(|kept| kept.weights != stable) {
            let revision = BEFORE.to_owned();
            self.state.kept.retain(|kept| kept.revision != revision);
            self.state.kept.push(Kept { revision, weights: stable, replaced: Vec::new() });
        }
        self.begin_step(0, "all is as it must be")
    }
}
