//! What holds on the whole way.

use serde::{Deserialize, Serialize};

use super::super::time::Seconds;
use super::{Count, Share};
use crate::model::{self, LeaseLength, OnExpiry, Weight};

/// What each agent enforces on its own: below this the candidate's weight returns, in one commit, with
/// nobody asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Guard {
    /// The least share of handshakes that must complete.
    pub connect_success: Weight,
    /// Fewer handshakes than this within the window say nothing.
    pub min_connections: u32,
    /// The time over which it is looked at.
    pub window: Seconds,
}

/// How the old version's connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Drain {
    /// At least so long passes: a connection that is silent for longer has ended.
    pub idle: Seconds,
    /// It is over after so long.
    pub timeout: Seconds,
    /// What becomes of the connections that are left then.
    pub on_timeout: model::OnTimeout,
}

/// When a weight counts as applied: an agent's kernel says it, and its new connections agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Verify {
    /// How long the agents have. Where there are too few connections to tell, the tables alone count
    /// from then on.
    pub timeout: Seconds,
    /// How many of the agents that can be reached must have it.
    pub quorum: Share,
    /// What happens if they do not.
    pub on_fail: VerifyAction,
}

/// What follows if a weight is not applied in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VerifyAction {
    /// It waits until it is, or for a person.
    Pause,
    /// It fails.
    Abort,
}

/// The fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Agents {
    /// Agents that do not answer.
    pub unreachable: Unreachable,
    /// Weights hold only while the coordinator renews them.
    pub lease: Option<Lease>,
}

/// Agents that do not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Unreachable {
    /// So large a part of the fleet may be away, 0 to 100 percent.
    pub max_percent: Weight,
    /// What happens if more are.
    pub action: UnreachableAction,
}

/// What follows if too many agents are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnreachableAction {
    /// It waits until they are back.
    Pause,
    /// It fails.
    Abort,
    /// It goes on with the others.
    Proceed,
}

/// Weights hold only while the coordinator renews them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lease {
    /// For how long. It is renewed when two thirds of it are left.
    pub ttl: LeaseLength,
    /// What an agent does when it runs out.
    pub on_expiry: OnExpiry,
}

/// How long something may wait for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Unattended {
    /// For so long.
    pub timeout: Seconds,
    /// What happens then.
    pub on_timeout: OnTimeout,
}

/// What happens when nobody answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnTimeout {
    /// It goes back.
    Abort,
    /// It goes on.
    Proceed,
}

/// What a failure leads to. A guard that trips always leads back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// Everything returns to the stable version.
    #[default]
    Rollback,
    /// The weights stay as they are, until a person says what to do.
    Freeze,
    /// It is told, and goes on.
    Notify,
}

/// What becomes of the connections of a version that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InFlightKind {
    /// They stay for as long as they last.
    #[default]
    Keep,
    /// They end as `drain` says.
    Drain,
    /// They are given up in the same commit.
    Reset,
}

/// What happens to a new revision that comes while another is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnNewRevision {
    /// It waits; of several the newest.
    #[default]
    Queue,
    /// The one under way goes back, and then the new one begins.
    Supersede,
    /// It is refused.
    Reject,
}

impl Default for Verify {
    fn default() -> Self {
        Self { timeout: Seconds::new(10), quorum: Share::ALL, on_fail: VerifyAction::Pause }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            idle: Seconds::minutes(15),
            timeout: Seconds::minutes(30),
            on_timeout: model::OnTimeout::Keep,
        }
    }
}

impl Default for Unreachable {
    fn default() -> Self {
        Self { max_percent: Weight::ZERO, action: UnreachableAction::Pause }
    }
}

impl Default for Unattended {
    fn default() -> Self {
        Self { timeout: Seconds::hours(7 * 24), on_timeout: OnTimeout::Abort }
    }
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(1)
    }
}
