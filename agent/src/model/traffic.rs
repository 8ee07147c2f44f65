//! What was counted.

use serde::{Deserialize, Serialize};

/// What was counted in the kernel; `weir.proto` says when each grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names say it; weir.proto says it exactly")]
pub struct Traffic {
    pub connections: u64,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub tracked: u64,
    pub fallback_full: u64,
    pub fallback_flood: u64,
}

impl Traffic {
    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
        self.tracked += other.tracked;
        self.fallback_full += other.fallback_full;
        self.fallback_flood += other.fallback_flood;
    }
}
