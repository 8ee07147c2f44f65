//! What the node has counted.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::times::rfc3339;
use super::{Handshakes, Traffic};
use crate::model::{PerVersion, ServiceName};
use crate::node::interval::Interval;

/// All counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Changes when the counters start anew from 0.
    pub epoch: u64,
    /// When they were read; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// By service, ordered by name.
    pub services: Vec<ServiceCounters>,
    /// Packets that no service counts.
    pub verdicts: Vec<Verdict>,
}

/// A look at the counters, and what was counted since an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// All of them.
    #[serde(flatten)]
    pub counters: Counters,
    /// Since the earlier one; nothing if there was none.
    pub interval: Option<Interval>,
}

/// The counters of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceCounters {
    /// The service.
    pub service: ServiceName,
    /// By version.
    pub versions: PerVersion<VersionCounters>,
}

/// The counters of a version: its own, with what backends that are gone have served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VersionCounters {
    /// What was counted.
    pub traffic: Traffic,
    /// How long handshakes took.
    pub handshakes: Handshakes,
    /// By backend, those that drain included.
    pub backends: Vec<BackendCounters>,
}

/// The counters of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendCounters {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What was counted.
    pub traffic: Traffic,
    /// How long handshakes took.
    pub handshakes: Handshakes,
}

/// Packets dropped or passed to the host's stack for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where: `xdp` or `tc`.
    pub hook: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub packets: u64,
}
