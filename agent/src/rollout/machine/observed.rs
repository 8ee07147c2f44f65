//! All that is known at a tick.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::super::judge::Verdict;
use super::super::name::AgentName;
use super::super::spec::Guard;
use super::super::time::Timestamp;
use super::{Command, HookKey, JudgeStart};
use crate::model::{BackendState, PerVersion, Rule, Version, Weight};

/// All that is known at a tick.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Whether this process leads, as far as it knows.
    pub leading: bool,
    /// Whether the store answers.
    pub store_ok: bool,
    /// Every agent of the fleet that has or should have the service, also those that are away.
    pub agents: BTreeMap<AgentName, AgentView>,
    /// What the evidence says.
    pub verdict: Option<Judged>,
    /// The answers of hooks: [`HookAnswer::InProgress`] from the moment a hook is called, none before.
    pub hooks: BTreeMap<HookKey, HookAnswer>,
    /// What people asked for, oldest first. May hold those that were heard already.
    pub commands: Vec<Command>,
}

/// What the evidence since `start` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// As in [`super::Effect::JudgeFrom`]. A verdict of other evidence than is asked for counts for
    /// nothing.
    pub start: JudgeStart,
    /// The verdict.
    pub verdict: Verdict,
}

/// What is known of one agent and its part in the service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentView {
    /// Whether it answers. If not, the rest is what it said last.
    pub reachable: bool,
    /// For how long it has not answered, in milliseconds; 0: it answers. By a clock that does not jump.
    pub silent_ms: u64,
    /// Something that it was asked for is under way, or was done and not looked at since: the rest is
    /// how it was before.
    pub pending: bool,
    /// The weights by the kernel's table, read back: each within one slot.
    pub weights: PerVersion<Weight>,
    /// Counts the changes of the service there.
    pub generation: u64,
    /// New connections since the last change, against the table.
    pub share: ShareView,
    /// Whether a listener leads all of its connections to a version.
    pub previews: PerVersion<bool>,
    /// Backends that take new connections.
    pub ready: PerVersion<usize>,
    /// Flows that are remembered.
    pub in_flight: PerVersion<u64>,
    /// Nothing names the version any more: it can be stopped without breaking a connection.
    pub may_stop: PerVersion<bool>,
    /// Every backend.
    pub backends: Vec<BackendView>,
    /// The steering rules of the service.
    pub steering: Vec<Rule>,
    /// The guard that is set there.
    pub guard: Option<Guard>,
    /// That guard has tripped.
    pub tripped: Option<Tripped>,
    /// The lease on the weights.
    pub lease: Option<LeaseView>,
}

/// New connections since the last change, against the table.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ShareView {
    /// They are shared as the table says.
    Agrees,
    /// They are not.
    Differs {
        /// The version whose share is furthest off.
        version: Version,
        /// Its share, 0 to 1.
        observed: f64,
        /// By the table.
        expected: f64,
        /// The chance of a share so far off by accident.
        p: f64,
    },
    /// There are too few to tell, or their number says nothing.
    #[default]
    TooLittle,
}

/// One backend as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendView {
    /// Address and port.
    pub address: SocketAddr,
    /// The version it serves.
    pub version: Version,
    /// What it was set to by hand or by a rollout; [`BackendState::Active`] if it was not.
    pub state: BackendState,
    /// Whether its checks succeed; true without any.
    pub healthy: bool,
    /// Flows that are remembered on it.
    pub flows: u64,
    /// Nothing names it any more: it can be stopped without breaking a connection.
    pub may_stop: bool,
}

/// A guard that has tripped: the agent has led the weights back already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tripped {
    /// When.
    pub at: Timestamp,
    /// The version it was for.
    pub version: Version,
    /// What it saw, in words.
    pub reason: String,
}

/// A lease on the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// What is left of it, in milliseconds.
    pub left_ms: u64,
}

/// What a hook answered last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAnswer {
    /// It is done.
    Succeeded,
    /// It cannot be done.
    Failed(String),
    /// It is being done; ask again.
    InProgress,
}
