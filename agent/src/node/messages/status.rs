//! How a service is: asked, table, observed; its lease, its guard and its backends.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::times::{milliseconds, rfc3339};
use crate::model::{
    BackendState, Fence, Guard, LeaseLength, Observed, OnExpiry, PerVersion, SampleRatio,
    ServiceSpec, TableShare, Weight, Weights,
};

/// A service: asked, table, observed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// What was asked for.
    pub spec: ServiceSpec,
    /// Counts the service's changes, from 1.
    pub generation: u64,
    /// Digest of the tables, hexadecimal.
    pub digest: String,
    /// By version.
    pub versions: PerVersion<VersionStatus>,
    /// Whether the new connections since the shares last changed are shared as the table says.
    pub sample_ratio: SampleRatio,
    /// The weights it had when its tables last settled: what a rollback restores.
    #[serde(rename = "settled_bp")]
    pub settled: Weights,
    /// The lease on the weights.
    pub lease: Option<LeaseStatus>,
    /// The highest fence that its changes came with.
    pub fence: Option<Fence>,
    /// The limit that the agent enforces on its own.
    pub guard: Option<GuardStatus>,
}

/// A lease that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// Until it runs out.
    #[serde(rename = "left_ms", serialize_with = "milliseconds")]
    pub left: Duration,
    /// When it runs out; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub deadline: SystemTime,
    /// How long it lasts from when it is renewed.
    #[serde(rename = "length_s")]
    pub length: LeaseLength,
    /// What happens when it runs out.
    pub on_expiry: OnExpiry,
    /// The weights it would go back to.
    #[serde(rename = "revert_to_bp")]
    pub revert_to: Weights,
}

impl fmt::Display for LeaseStatus {
    /// `42s left of 1m, then back to blue 100%`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: a lease that is just begun has all of its time left.
        let seconds = self.left.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX);
        let left = humantime::format_duration(Duration::from_secs(seconds));
        write!(f, "{left} left of {}, then ", self.length)?;
        match self.on_expiry {
            OnExpiry::Hold => f.write_str("the weights stay"),
            OnExpiry::Revert => write!(f, "back to {}", self.revert_to),
        }
    }
}

/// A guard that is set, and what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GuardStatus {
    /// The limit.
    #[serde(flatten)]
    pub guard: Guard,
    /// Connections that count within its window,
    pub connections: u64,
    /// and those of them that failed.
    pub failures: u64,
    /// What tripped it; nothing: it has not tripped.
    pub tripped: Option<TrippedStatus>,
}

/// What tripped a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrippedStatus {
    /// When; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// Connections that counted within its window,
    pub connections: u64,
    /// and those of them that failed.
    pub failures: u64,
    /// The weights before,
    #[serde(rename = "before_bp")]
    pub before: Weights,
    /// and those that it has set.
    #[serde(rename = "after_bp")]
    pub after: Weights,
}

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStatus {
    /// Label of what runs here.
    pub release: String,
    /// Weight asked for.
    #[serde(rename = "asked_bp")]
    pub asked: Weight,
    /// Share of the version table, read back.
    pub table: TableShare,
    /// New connections since the last change of shares.
    pub observed: Observed,
    /// The backends, those that drain included.
    pub backends: Vec<BackendStatus>,
}

/// How packets leave towards a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum NextHop {
    /// Neighbour and interface are known.
    Resolved {
        /// Name of the interface.
        interface: String,
    },
    /// The kernel looks the way up for each packet.
    Unresolved,
}

/// One backend of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Weight among the backends of its version.
    pub weight: u16,
    /// Whether it takes new connections.
    pub state: BackendState,
    /// Slots of the version's backend table that send new connections to it.
    pub slots: u32,
    /// Connections it was given since the counters' epoch.
    pub connections: u64,
    /// How packets leave towards it.
    pub next_hop: NextHop,
    /// What its health check says; nothing if there is none.
    pub health: Option<BackendHealth>,
}

/// What the health check of a backend says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendHealth {
    /// It is down.
    pub failing: bool,
    /// Since when it is what it is, as far as this agent has seen; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// What the last check found wrong.
    pub error: Option<String>,
    /// Results in a row that speak against what it is.
    pub against: u32,
    /// How many of these it takes now.
    pub needed: u32,
    /// Milliseconds until the next check; nothing while there is one.
    pub next_check_ms: Option<u64>,
}
