//! What should be asked for.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::judge::Config;
use super::super::name::AgentName;
use super::super::spec::{Guard, Stage as HookStage, Target};
use super::super::time::{Seconds, Timestamp};
use super::{JudgeStart, Status};
use crate::model::{BackendState, LeaseTerms, Rule, Version, Weights};
use crate::node::messages::InFlight;

/// Something that should be so and is not yet. To ask for it twice is harmless: requests to agents
/// carry the id `SERVICE/TRANSITION/AGENT`, hooks their [`HookKey`], events their number.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The weights of the service, in one commit.
    SetWeights {
        /// Where.
        agent: AgentName,
        /// All of them.
        weights: Weights,
        /// What becomes of the connections of versions that lose all.
        in_flight: InFlight,
        /// They hold only while renewed.
        lease: Option<LeaseTerms>,
    },
    /// The lease on the weights, for as long again.
    RenewLease {
        /// Where.
        agent: AgentName,
        /// For how long.
        lease: LeaseTerms,
    },
    /// Steering rules.
    SetSteering {
        /// Where.
        agent: AgentName,
        /// To add, or to lead elsewhere.
        add: Vec<Rule>,
        /// Prefixes whose rules go.
        remove: Vec<IpNet>,
    },
    /// Whether a backend takes new connections.
    SetBackend {
        /// Where.
        agent: AgentName,
        /// Which.
        backend: SocketAddr,
        /// What it shall be.
        state: BackendState,
    },
    /// What the agent enforces on its own. Setting a guard clears one that has tripped.
    SetGuard {
        /// Where.
        agent: AgentName,
        /// Nothing: none. With the version it is for, and the weights it falls back to.
        guard: Option<(Guard, Version, Weights)>,
    },
    /// A hook: to be called, or asked again how it goes.
    CallHook {
        /// Names the call.
        key: HookKey,
        /// What to call and what to tell it.
        call: HookCall,
    },
    /// People and programs should hear of it, once.
    Notify(Event),
    /// Judge from here on with fresh evidence; go on if it is judged from this start already.
    JudgeFrom {
        /// Names the evidence.
        start: JudgeStart,
        /// How strictly: the rollout's, with the times of the analysis that it is for.
        config: Box<Config>,
    },
    /// There is nothing to judge.
    JudgeStop,
}

/// Names one call of a hook: the same key is the same call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HookKey {
    /// The transition that led to the call.
    pub transition: u64,
    /// The stage; nothing: a gate.
    pub stage: Option<HookStage>,
    /// Its place among the hooks of its stage, or among the backends of a replacement.
    pub index: u32,
}

/// What a hook is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HookCall {
    /// What to call.
    pub target: Target,
    /// It has failed if it takes longer.
    pub timeout: Seconds,
    /// The backend to replace.
    pub backend: Option<SocketAddr>,
    /// With `backend`: bring back what was there.
    pub revert: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Event {
    /// Counts the events of a service's state, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Whose doing it was; nothing: the machine's own.
    pub by: Option<String>,
    /// The status before.
    pub before: Status,
    /// The status after.
    pub after: Status,
    /// Why, in words.
    pub reason: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// The phase or the step changed.
    Transition,
    /// A command was carried out.
    Command,
    /// A command was refused.
    Refused,
    /// Something failed, and it goes on (`onFailure: notify`), or it was frozen.
    Failure,
    /// A backend was taken out because it alone fails.
    Ejected,
    /// An agent that had not answered was led to what it should have.
    Returned,
}
