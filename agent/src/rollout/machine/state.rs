//! What is so now.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::super::name::AgentName;
use super::super::schedule::Step;
use super::super::spec::Rollout;
use super::super::time::Timestamp;
use super::Event;
use crate::model::{Version, Weights};

/// The rollout of one service: plain data, JSON in the ledger.
///
/// There is one state for each service, so there is one active rollout at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct State {
    /// What is to be done.
    pub rollout: Rollout,
    /// Where it stands.
    pub phase: Phase,
    /// One more at each change of the phase, the step or the stage.
    pub transition: u64,
    /// When that was.
    pub since: Timestamp,
    /// How long it has been so.
    pub clock: Clock,
    /// Why, in words.
    pub reason: String,
    /// Names the hooks' calls of this stage: the transition that began it. A pause changes nothing
    /// about it, so that nobody is called twice.
    pub calls: u64,
    /// Who is who; known from the preflight on.
    pub roles: Option<Roles>,
    /// The fleet in the order of waves.
    pub agents: Vec<AgentName>,
    /// The way there.
    pub steps: Vec<Step>,
    /// The way back, once it was taken.
    pub back: Vec<Step>,
    /// What the way back leads to.
    pub goal: Option<Goal>,
    /// Why it was taken, in words.
    pub failure: Option<String>,
    /// The evidence that is judged.
    pub evidence: Option<JudgeStart>,
    /// Backends that were taken out because they alone failed.
    pub ejected: BTreeSet<SocketAddr>,
    /// Since when, by the clock's `spent_ms`, what the stage waits for has been so without a break:
    /// backends healthy, or the permission to take them out.
    pub well_ms: Option<u64>,
    /// What could not be brought back, in words.
    pub scars: Vec<String>,
    /// Agents that did not have what they should when the last rollout ended. They are led there
    /// when they can be.
    pub unanswered: BTreeSet<AgentName>,
    /// Revisions that can be returned to in one write, newest last; the last is in force when the
    /// rollout is healthy.
    pub kept: Vec<Kept>,
    /// What begins when this is over.
    pub queued: Option<Box<Rollout>>,
    /// The last command that was heard.
    pub heard: u64,
    /// Counts the events.
    pub events: u64,
    /// What the last change told. Told again at each tick until the next change.
    pub news: Vec<Event>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It has not begun.
    Pending,
    /// It is looked whether it can begin, and who is who.
    Preflight,
    /// It goes through [`State::steps`].
    Progressing(Position),
    /// It holds what it has.
    Paused(Paused),
    /// The new revision has everything, and the old version is drained.
    Healthy,
    /// What cannot be interrupted comes to its end; then it goes back.
    Aborting(Position),
    /// It goes through [`State::back`].
    RollingBack(Position),
    /// It has gone back. What is kept for `retry` and `undo` is kept.
    Degraded,
}

/// A place on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Position {
    /// Index of the step.
    pub step: usize,
    /// How far it is within the step.
    pub stage: Stage,
}

/// How far a step is. Which stages it goes through depends on its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Hooks are asked before weights rise.
    Before,
    /// Backends are drained before they are replaced.
    Emptying,
    /// A hook replaces them.
    Replacing,
    /// They become healthy, and stay so for `minReadySeconds`.
    Readying,
    /// Agents are asked for what the step wants, until their tables say it.
    Applying,
    /// Their new connections are to agree.
    Verifying,
    /// Hooks are told after weights rose.
    After,
    /// Evidence is waited for; so many times it was given as long again.
    Analyzing {
        /// How often.
        extended: u32,
    },
    /// Time passes: a pause, the bake, the drain.
    Waiting,
    /// An answer is waited for.
    Gate,
}

/// A rollout that holds what it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Paused {
    /// Where it goes on; nothing: at the preflight.
    pub at: Option<Position>,
    /// How long it had been there, in milliseconds.
    pub spent_ms: u64,
    /// What stopped it.
    pub cause: Cause,
}

/// What stopped a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A person. Verdicts are shown but not acted on, until resumed.
    User,
    /// Too many agents are away. It goes on by itself when they are back.
    Unreachable,
    /// A weight was not applied in time. It goes on by itself when it is.
    Unverified,
    /// Both versions got worse together. It goes on by itself when they are well again.
    Incident,
    /// Connections are not shared as the table says.
    Mismatch,
    /// There was too little to judge by.
    Insufficient,
    /// Something failed, and a person shall say what to do.
    Frozen,
}

/// Who is who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Roles {
    /// The version that has the weight at the start.
    pub stable: Version,
    /// The version that gets it; with `rolling` the same.
    pub candidate: Version,
}

/// What a way back leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// What was before, because it was aborted or has failed: it ends degraded.
    Stable,
    /// A revision that was asked for: it ends healthy.
    Revision(String),
}

/// A revision that can be returned to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Kept {
    /// Its name; `before` for what was there before the first rollout.
    pub revision: String,
    /// The weights that it has.
    pub weights: Weights,
    /// With `rolling`: the backends that were replaced to get there, in order.
    pub replaced: Vec<SocketAddr>,
}

/// Names evidence: the number of the transition from which on it is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JudgeStart(pub u64);

/// How long something has been so, as ticks have seen it. A clock that jumps, and time in which
/// nobody led, count for little: see [`Clock::see`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Clock {
    /// The last tick.
    pub last: Timestamp,
    /// In milliseconds.
    pub spent_ms: u64,
}

impl Clock {
    /// The most that one tick adds, in milliseconds.
    pub const MOST_MS: u64 = 10_000;

    /// One that starts now.
    #[must_use]
    pub const fn start(now: Timestamp) -> Self {
        Self { last: now, spent_ms: 0 }
    }

    /// The host's clock has jumped ahead by so much, or back: that is not time that has passed.
    pub fn jump(&mut self, ms: i64) {
        self.last = Timestamp(self.last.0.saturating_add_signed(ms));
    }

    /// Another tick: the time since the last, at most [`Clock::MOST_MS`], never less than nothing.
    pub fn see(&mut self, now: Timestamp) {
        let step = now.since(self.last).min(Self::MOST_MS);
        self.spent_ms = self.spent_ms.saturating_add(step);
        self.last = now;
    }
}

/// A phase in one word, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "`docs/rollout-spec.md` says what each is")]
pub enum Status {
    Pending,
    Preflight,
    Progressing,
    Paused,
    Promoting,
    Baking,
    Draining,
    Healthy,
    Aborting,
    RollingBack,
    Degraded,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "Pending",
            Self::Preflight => "Preflight",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::Promoting => "Promoting",
            Self::Baking => "Baking",
            Self::Draining => "Draining",
            Self::Healthy => "Healthy",
            Self::Aborting => "Aborting",
            Self::RollingBack => "RollingBack",
            Self::Degraded => "Degraded",
        })
    }
}

impl State {
    /// A service's first rollout.
    #[must_use]
    pub fn new(rollout: Rollout, now: Timestamp) -> Self {
        Self {
            rollout,
            phase: Phase::Pending,
            transition: 0,
            since: now,
            clock: Clock::start(now),
            reason: "it has not begun".to_owned(),
            calls: 0,
            roles: None,
            agents: Vec::new(),
            steps: Vec::new(),
            back: Vec::new(),
            goal: None,
            failure: None,
            evidence: None,
            ejected: BTreeSet::new(),
            well_ms: None,
            scars: Vec::new(),
            unanswered: BTreeSet::new(),
            kept: Vec::new(),
            queued: None,
            heard: 0,
            events: 0,
            news: Vec::new(),
        }
    }

    /// The phase in one word.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.phase {
            Phase::Pending => Status::Pending,
            Phase::Preflight => Status::Preflight,
            Phase::Progressing(position) => match self.steps.get(position.step) {
                Some(Step::Promote) => Status::Promoting,
                Some(Step::Bake(_)) => Status::Baking,
                Some(Step::Drain(_)) => Status::Draining,
                _ => Status::Progressing,
            },
            Phase::Paused(_) => Status::Paused,
            Phase::Healthy => Status::Healthy,
            Phase::Aborting(_) => Status::Aborting,
            Phase::RollingBack(_) => Status::RollingBack,
            Phase::Degraded => Status::Degraded,
        }
    }

    /// Whether traffic is returning: then effects are carried out even if the state could not be
    /// persisted.
    #[must_use]
    pub const fn is_going_back(&self) -> bool {
        matches!(self.phase, Phase::Aborting(_) | Phase::RollingBack(_))
    }

    /// Whether nothing is under way.
    #[must_use]
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Healthy | Phase::Degraded)
    }
}
