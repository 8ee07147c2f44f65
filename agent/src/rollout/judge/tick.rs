//! What one agent counted in one tick.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Handshakes, TableShare, Traffic};

/// What one agent counted in one tick, of both versions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Tick {
    /// The agent's name.
    pub agent: String,
    /// How long the tick was.
    pub length: Duration,
    /// What is judged.
    pub candidate: Arm,
    /// What it is compared with.
    pub baseline: Arm,
}

/// One version in one tick: differences, not totals.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Arm {
    /// What was counted of the version.
    pub traffic: Traffic,
    /// How long its handshakes took.
    pub handshakes: Handshakes,
    /// What was counted of its backends.
    pub backends: Vec<BackendArm>,
    /// Its share of the table by which new connections were shared out.
    pub asked: TableShare,
}

/// One backend in one tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendArm {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What was counted of it.
    pub traffic: Traffic,
}

impl BackendArm {
    /// Address and port.
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// A count as a number to reckon with. Above 2^53 it is rounded.
#[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
pub(super) const fn number(count: u64) -> f64 {
    count as f64
}
