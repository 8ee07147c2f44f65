//! The invariants, in random histories: agents that are late, refuse, go and return; verdicts,
//! commands and hooks at random; clocks that jump; leaders that die at every point of a tick.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::super::super::time::Timestamp;
use super::super::*;
use super::world::*;
use crate::model::{BackendState, PerVersion, Version, Weight, Weights};
use crate::node::messages::InFlight;
use crate::rollout::judge::Role;
use crate::rollout::name::AgentName;
use crate::rollout::schedule::Step;
use crate::rollout::spec::OnFailure;

const TIMES: &str = "
bake: 20s
drain: { idle: 5s, timeout: 40s }
progressDeadline: 1m
paused: { timeout: 2m }
";

/// Documents of every strategy, with short times.
fn documents() -> Vec<String> {
    let canary = "
strategy:
  canary:
    steps:
      - setMatchRoute: { sources: [10.9.0.0/16] }
      - setWeight: 1%
      - analysis: { minDuration: 5s, maxDuration: 20s, advanceEarly: true }
      - setWave: { agents: 50% }
      - setWeight: 25%
      - pause: { duration: 10s }
      - gate: { type: webhook, url: \"http://127.0.0.1:9/\", timeout: 30s, onTimeout: abort }
      - setWave: { agents: 100% }
      - analysis: { minDuration: 5s, maxDuration: 10s }
guard: { connectSuccess: \">= 50%\" }
agents: { unreachable: { maxPercent: 40, action: pause }, lease: { ttl: 10s } }
hooks: [{ stage: preWeight, url: \"http://127.0.0.1:9/\", timeout: 20s }]
";
    let freezing = "
strategy: { preset: Linear40PercentEvery1Minute }
onFailure: freeze
verify: { quorum: 60%, onFail: abort }
onNewRevision: supersede
rollback: { inFlight: reset }
";
    let blue_green = "
strategy:
  blueGreen: { preview: listener, prePromotionAnalysis: { maxDuration: 10s, minDuration: 5s }, autoPromotion: { after: 10s }, scaleDownDelay: 15s }
onFailure: notify
guard: { connectSuccess: \">= 50%\" }
hooks: [{ stage: prePromotion, command: [ask] }, { stage: postRollback, command: [tell], timeout: 20s }]
";
    let rolling = "
strategy: { rolling: { maxUnavailable: 1, minReadySeconds: 3s } }
agents: { unreachable: { maxPercent: 100, action: proceed } }
hooks: [{ stage: replace, command: [replace], timeout: 30s }]
";
    [canary, freezing, blue_green, rolling].map(|lines| format!("{lines}{TIMES}")).to_vec()
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Judge(u8),
    Ask(u8),
    Behave {
        agent: usize,
        late: u32,
        refuses: bool,
        gone: bool,
    },
    Health {
        agent: usize,
        version: usize,
        healthy: bool,
    },
    Trip(usize),
    Share(usize, u8),
    Hook(u8),
    /// By so many seconds, forth or back.
    Jump(i64),
    Lead(bool, bool),
    Busy(bool),
    Join,
    /// The leader dies before it has persisted, or between that and the effects.
    Die {
        persisted: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (1..15_u64).prop_map(Act::Pass),
        3 => (0..8_u8).prop_map(Act::Judge),
        3 => (0..9_u8).prop_map(Act::Ask),
        2 => (0..4_usize, 0..4_u32, prop::bool::weighted(0.2), prop::bool::weighted(0.3)).prop_map(
            |(agent, late, refuses, gone)| Act::Behave { agent, late, refuses, gone }
        ),
        2 => (0..4_usize, 0..3_usize, prop::bool::weighted(0.6))
            .prop_map(|(agent, version, healthy)| Act::Health { agent, version, healthy }),
        1 => (0..4_usize).prop_map(Act::Trip),
        1 => (0..4_usize, 0..3_u8).prop_map(|(agent, kind)| Act::Share(agent, kind)),
        1 => (0..3_u8).prop_map(Act::Hook),
        1 => (-7_200..7_200_i64).prop_map(Act::Jump),
        1 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(leading, store)| Act::Lead(leading, store)),
        1 => any::<bool>().prop_map(Act::Busy),
        1 => Just(Act::Join),
        2 => any::<bool>().prop_map(|persisted| Act::Die { persisted }),
    ]
}

/// A world that checks every tick.
struct Checked {
    world: World,
    /// What was asked of whom at which transition.
    asked: BTreeMap<(u64, AgentName), Weights>,
}

impl Checked {
    fn new(lines: &str) -> Self {
        Self { world: World::with(lines, 4, PerVersion::new(4, 2, 2)), asked: BTreeMap::new() }
    }

    /// One tick, with all that must hold of it.
    fn tick(&mut self, persisted: bool, carried_out: bool) {
        self.tick_after(1_000, persisted, carried_out);
    }

    fn tick_after(&mut self, millis: u64, persisted: bool, carried_out: bool) {
        self.world.now = Timestamp(self.world.now.0 + millis);
        let observed = self.world.observe();
        let before = self.world.state.clone();
        let (state, effects) = tick(&before, &observed, self.world.now);

        let again = tick(&state, &observed, self.world.now);
        if self.world.leading && self.world.store_ok || state.is_going_back() {
            let same = again == (state.clone(), effects.clone());
            assert!(same, "who looks twice does nothing twice: {:?} {}", state.phase, state.reason);
        } else {
            assert!(again.0 == state, "who does not lead stands still");
        }
        // A takeover is a tick of somebody who has read the state.
        if before.transition != state.transition {
            let text = serde_json::to_string(&before).unwrap();
            let taken: State = serde_json::from_str(&text).unwrap();
            assert!(taken == before, "nothing is lost in the ledger");
            assert!(tick(&taken, &observed, self.world.now) == (state.clone(), effects.clone()));
        }

        self.check_state(&before, &state, &observed);
        for effect in &effects {
            self.check_effect(persisted, &state, &observed, effect);
        }
        if !persisted && !state.is_going_back() {
            return;
        }
        self.world.state = state;
        if carried_out {
            self.world.carry_out(effects);
        }
    }

    fn check_state(&self, before: &State, state: &State, observed: &Observed) {
        let place = |state: &State| serde_json::to_string(&state.phase).unwrap();
        if place(before) != place(state) {
            assert!(state.transition > before.transition, "a change is a transition");
        }
        assert!(state.transition >= before.transition);
        if observed.leading && observed.store_ok {
            assert!(
                !state.is_late(),
                "every wait ends by its deadline: {:?} {:?}",
                state.phase,
                state.deadline()
            );
        } else if !state.is_going_back() && !before.is_going_back() {
            let ends = observed.commands.iter().any(|one| one.verb == Verb::Abort);
            assert!(ends || state == before, "without a store nothing moves");
        }
        if state.phase == Phase::Healthy && state.status() != before.status() {
            Self::check_end(before, state, observed);
        }
        self.check_passes(before, state, observed);
    }

    /// The old version was kept until it was drained.
    fn check_end(before: &State, state: &State, observed: &Observed) {
        let Some(roles) = before.roles.filter(|roles| roles.stable != roles.candidate) else {
            return;
        };
        // A revision that was returned to is another matter.
        if state.goal.is_some() {
            return;
        }
        let Phase::Progressing(at) = &before.phase else {
            panic!("healthy after {:?}: {}", before.phase, state.reason)
        };
        assert!(matches!(before.steps[at.step], Step::Drain(_)), "{:?}", before.steps[at.step]);
        let agents = observed.agents.values().filter(|view| view.reachable);
        let empty = agents.into_iter().all(|view| view.may_stop[roles.stable]);
        let over = state.news.iter().any(|event| event.reason.contains("time is over"));
        assert!(empty || over || at.stage == Stage::After, "{:?}", state.news);
    }

    /// An analysis is left forward only by a pass, or because a person or the document says so.
    fn check_passes(&self, before: &State, state: &State, observed: &Observed) {
        let (Phase::Progressing(from), Phase::Progressing(to)) = (&before.phase, &state.phase)
        else {
            return;
        };
        let promoted = state.heard > before.heard;
        if matches!(from.stage, Stage::Analyzing { .. })
            && to.step > from.step
            && !promoted
            && state.rollout.on_failure != OnFailure::Notify
        {
            let judged = observed.verdict.as_ref().map(|judged| &judged.verdict);
            assert!(
                matches!(judged, Some(crate::rollout::judge::Verdict::Pass { .. })),
                "{judged:?} is no pass"
            );
        }
    }

    fn check_effect(&mut self, persisted: bool, state: &State, seen: &Observed, effect: &Effect) {
        match effect {
            Effect::SetWeights { agent, weights, in_flight, .. } => {
                let view = &seen.agents[agent];
                for (version, weight) in weights.iter() {
                    let rises = weight.bp() > view.weights[version].bp() + 1;
                    assert!(
                        !rises || view.ready[version] > 0,
                        "{version} is not ready: {effect:?}"
                    );
                }
                if let (true, Some(roles)) = (state.is_going_back(), state.roles)
                    && state.goal == Some(Goal::Stable)
                {
                    assert_eq!(
                        *weights,
                        Weights::all_to(roles.stable),
                        "no weight rises on the way back"
                    );
                }
                if state.rollout.rollback_in_flight
                    != super::super::super::spec::InFlightKind::Reset
                {
                    assert_ne!(*in_flight, InFlight::Reset, "no connection is given up unasked");
                }
                if persisted {
                    let key = (state.transition, agent.clone());
                    let first = *self.asked.entry(key).or_insert(*weights);
                    assert_eq!(first, *weights, "a weight changes by a transition alone");
                }
            }
            Effect::SetBackend { agent, backend, state: BackendState::Draining } => {
                let view = &seen.agents[agent];
                let version =
                    view.backends.iter().find(|one| one.address == *backend).unwrap().version;
                assert!(
                    view.ready[version] > 1
                        || state.is_going_back()
                        || !state.ejected.is_empty()
                        || !view.backends.iter().any(|one| one.address == *backend && one.healthy),
                    "the last ready backend of {version} is taken out"
                );
            }
            _ => {}
        }
    }

    fn act(&mut self, act: Act) {
        let world = &mut self.world;
        match act {
            Act::Pass(seconds) => (0..seconds).for_each(|_| self.tick(true, true)),
            Act::Judge(kind) => {
                world.verdict = match kind {
                    0 | 1 => pass(kind == 1),
                    2 => fail(),
                    3 => insufficient(),
                    4 => incident(),
                    5 => mismatch(),
                    6 => bad(address(Version::Canary, 0), Role::Candidate),
                    _ => undecided(),
                }
            }
            Act::Ask(kind) => {
                let undo = |to: &str| Verb::Undo { to_revision: Some(to.to_owned()) };
                let mut next = world.state.rollout.clone();
                next.revision = format!("v{}", world.commands.len() + 3);
                world.command(match kind {
                    0 => Verb::Promote { full: false },
                    1 => Verb::Promote { full: true },
                    2 => Verb::Pause,
                    3 => Verb::Resume,
                    4 => Verb::Abort,
                    5 => Verb::Retry,
                    6 => Verb::Undo { to_revision: None },
                    7 => undo("before"),
                    _ => Verb::Run(Box::new(next)),
                });
            }
            Act::Behave { agent, late, refuses, gone } => {
                world.agent(agent).manner = Manner { late, refuses, gone };
            }
            Act::Health { agent, version, healthy } => {
                world.agent(agent).health(Version::ALL[version], healthy);
            }
            Act::Trip(agent) => {
                let (at, state) = (world.now, world.state.clone());
                let view = &mut world.agent(agent).view;
                if let (Some(roles), Some(_)) = (state.roles, view.guard) {
                    set_weights(view, Weights::all_to(roles.stable));
                    let (version, reason) = (roles.candidate, "too few".to_owned());
                    view.tripped = Some(Tripped { at, version, reason });
                }
            }
            Act::Share(agent, kind) => {
                let (version, observed, expected, p) = (Version::Canary, 0.5, 0.1, 0.0);
                world.agent(agent).view.share = match kind {
                    0 => ShareView::Agrees,
                    1 => ShareView::TooLittle,
                    _ => ShareView::Differs { version, observed, expected, p },
                };
            }
            Act::Hook(kind) => world.answers.push(match kind {
                0 => HookAnswer::Succeeded,
                1 => HookAnswer::InProgress,
                _ => HookAnswer::Failed("no".to_owned()),
            }),
            Act::Jump(seconds) => {
                world.now = Timestamp(world.now.0.saturating_add_signed(seconds * 1_000));
            }
            Act::Lead(leading, store_ok) => (world.leading, world.store_ok) = (leading, store_ok),
            Act::Busy(busy) => world.busy = busy,
            Act::Join => {
                let count = world.agents.len();
                if count < 8 {
                    world.agents.insert(name(count), Agent::joining(world.now));
                }
            }
            Act::Die { persisted } => self.tick(persisted, false),
        }
    }

    /// Abort, whatever is so now: it ends in time, at zero or with the names of those that are not.
    fn abort(&mut self) {
        let healthy = self.world.state.phase == Phase::Healthy;
        (self.world.leading, self.world.store_ok) = (true, true);
        self.world.command(Verb::Abort);
        self.tick(true, true);
        if healthy || self.world.state.phase == Phase::Healthy {
            return;
        }
        for _ in 0..400 {
            if self.world.state.is_at_rest() {
                break;
            }
            self.tick_after(Clock::MOST_MS, true, true);
        }
        let state = &self.world.state;
        if state.queued.is_some() || state.status() == Status::Healthy {
            return;
        }
        assert_eq!(state.phase, Phase::Degraded, "{}", state.reason);
        let Some(roles) = state.roles.filter(|roles| roles.stable != roles.candidate) else {
            return;
        };
        if state.back.is_empty() {
            return;
        }
        for (name, agent) in &self.world.agents {
            let zero = agent.view.weights[roles.candidate] == Weight::ZERO;
            assert!(zero || state.unanswered.contains(name), "{name}: {}", state.reason);
        }
    }
}

fn history(document: usize, acts: Vec<Act>) {
    let mut checked = Checked::new(&documents()[document]);
    for act in acts {
        checked.act(act);
    }
    checked.abort();
}

/// Few enough for every day; `PROPTEST_CASES` asks for more.
fn config() -> Config {
    let default = Config { failure_persistence: None, ..Config::default() };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 40 };
    Config { cases, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn canaries_keep_every_invariant(acts in prop::collection::vec(act(), 1..50)) {
        history(0, acts);
    }

    #[test]
    fn presets_keep_every_invariant(acts in prop::collection::vec(act(), 1..50)) {
        history(1, acts);
    }

    #[test]
    fn blue_green_keeps_every_invariant(acts in prop::collection::vec(act(), 1..50)) {
        history(2, acts);
    }

    #[test]
    fn rolling_keeps_every_invariant(acts in prop::collection::vec(act(), 1..50)) {
        history(3, acts);
    }
}
