//! The judge of a service's rollout, fed by the counters of all agents.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    model::ServiceName,
    rollout::{
        external::{Http, Series},
        fleet::{
            sample::{self, Compare},
            seen::{Sampled, Seen},
        },
        judge::{Config, Judge, Tick},
        machine::{JudgeStart, Judged, Phase, Stage, State},
        name::AgentName,
        schedule::Step,
        time::Timestamp,
    },
};

/// The longest wait for the samples of all agents.
const LATE: Duration = Duration::from_millis(1_500);

/// What is known since a start. It is saved with the state, so that a leader that takes over goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// Names it.
    start: JudgeStart,
    /// When that was.
    pub(super) since: Timestamp,
    /// What it says.
    pub(super) judge: Judge,
}

/// The judge at work.
#[derive(Debug, Default)]
pub(super) struct Court {
    pub(super) evidence: Option<Evidence>,
    /// What other systems measure, while there is something to judge.
    series: Option<Series>,
    /// The samples up to which all is judged.
    last: BTreeMap<AgentName, Arc<Sampled>>,
    /// When that was done.
    judged: Option<Instant>,
}

impl Court {
    /// Goes on with what another leader knew.
    pub(super) fn resume(&mut self, evidence: Option<Evidence>) {
        self.evidence = evidence;
        self.series = None;
        self.last.clear();
    }

    /// Judges from here on, unless it is judged from this start already.
    pub(super) fn begin(
        &mut self,
        start: JudgeStart,
        config: &Config,
        seen: &BTreeMap<AgentName, Seen>,
        now: Timestamp,
    ) {
        if self.evidence.as_ref().is_some_and(|evidence| evidence.start == start) {
            return;
        }
        let judge = Judge::new(config.clone());
        self.evidence = Some(Evidence { start, since: now, judge });
        self.series = None;
        let newest = |(name, seen): (&AgentName, &Seen)| {
            Some((name.clone(), Arc::clone(seen.sample.as_ref()?)))
        };
        self.last = seen.iter().filter_map(newest).collect();
    }

    /// There is nothing to judge.
    pub(super) fn stop(&mut self) {
        self.evidence = None;
        self.series = None;
        self.last.clear();
    }

    /// Judges what has come since the last time.
    pub(super) fn observe(
        &mut self,
        http: &Http,
        service: &ServiceName,
        state: &State,
        seen: &BTreeMap<AgentName, Seen>,
    ) -> Vec<Tick> {
        let Some(evidence) = &mut self.evidence else { return Vec::new() };
        let series =
            self.series.get_or_insert_with(|| Series::start(http, &state.rollout.external));
        while let Some(measured) = series.ready() {
            evidence.judge.external(&measured.name, measured.outcome);
        }
        let Some(compare) = compare(state) else { return Vec::new() };
        // The samples of all agents are judged together; one that is late is not waited for for long.
        let reached = || seen.iter().filter(|(_, seen)| seen.is_reached());
        let late = |(name, seen): (&AgentName, &Seen)| match (&seen.sample, self.last.get(name)) {
            (Some(now), Some(last)) => Arc::ptr_eq(now, last),
            (None, _) => true,
            (Some(_), None) => false,
        };
        let waited = self.judged.is_none_or(|judged| judged.elapsed() >= LATE);
        if reached().any(late) && !waited {
            return Vec::new();
        }
        let mut ticks = Vec::new();
        for (name, seen) in reached() {
            let Some(now) = &seen.sample else { continue };
            match self.last.get(name) {
                Some(last) if Arc::ptr_eq(last, now) => continue,
                Some(last) => {
                    ticks.extend(sample::tick(name, service, &compare, (last, now)));
                }
                None => {}
            }
            self.last.insert(name.clone(), Arc::clone(now));
        }
        if !ticks.is_empty() {
            evidence.judge.observe(&ticks);
            self.judged = Some(Instant::now());
        }
        ticks
    }

    /// What the evidence says.
    pub(super) fn verdict(&self) -> Option<Judged> {
        let evidence = self.evidence.as_ref()?;
        Some(Judged { start: evidence.start, verdict: evidence.judge.verdict() })
    }
}

/// What is compared with what; nothing before it is known who is who.
fn compare(state: &State) -> Option<Compare> {
    let roles = state.roles?;
    if roles.candidate != roles.stable {
        return Some(Compare::Versions {
            candidate: roles.candidate,
            stable: roles.stable,
            ejected: state.ejected.clone(),
        });
    }
    let batches = batches(state);
    let last = batches.last().into_iter().flatten().copied().collect();
    let fresh = batches.into_iter().flatten().collect();
    Some(Compare::Backends { version: roles.stable, fresh, last })
}

/// With `rolling`: the backends that were replaced, those of the step that runs last.
fn batches(state: &State) -> Vec<Vec<SocketAddr>> {
    let reached = match &state.phase {
        Phase::Progressing(position) => {
            position.step + usize::from(position.stage >= Stage::Readying)
        }
        Phase::Paused(paused) => paused.at.map_or(0, |at| at.step + 1),
        Phase::Healthy => state.steps.len(),
        _ => 0,
    };
    let replaced = |step: &Step| match step {
        Step::Replace { backends, revert: false } => Some(backends.clone()),
        _ => None,
    };
    state.steps.iter().take(reached).filter_map(replaced).collect()
}
