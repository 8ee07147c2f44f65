//! What drains, and whether it may be stopped.

use std::net::SocketAddr;

use serde::Serialize;

use crate::model::{OnTimeout, ServiceName, Version};

/// A version that has lost all its weight or whose slots have not settled, or a backend that drains
/// or is down. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainStatus {
    /// The service.
    pub service: ServiceName,
    /// The version.
    pub version: Version,
    /// Address and port of the backend; nothing: the whole version.
    pub backend: Option<SocketAddr>,
    /// Why it is listed.
    pub why: String,
    /// Since the drain began.
    pub age_s: Option<u64>,
    /// Remembered flows that name it.
    pub flows: u64,
    /// The longest silence among them.
    pub longest_silence_s: Option<u32>,
    /// Since the last packet of any of them.
    pub last_packet_s: Option<u32>,
    /// Packets from clients that reached it within the last `window_s`.
    pub packets: u64,
    /// See `packets`.
    pub window_s: u32,
    /// Until the slots settle that lead there.
    pub settles_in_s: Option<u32>,
    /// Until the drain is over; negative: since it was.
    pub deadline_in_s: Option<i64>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// May it be stopped?
    pub may_stop: MayStop,
    /// Why.
    pub reason: String,
}

/// Whether something can be stopped without breaking a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MayStop {
    /// Nothing names it any more.
    Yes,
    /// Connections are on it, or new ones go there.
    No,
    /// Connections may be on it that have been silent since the change.
    Unknown,
}
