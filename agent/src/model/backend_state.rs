//! What a backend is, beside its weight.

use serde::{Deserialize, Serialize};

/// Whether a backend takes new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// Yes, by its weight.
    #[default]
    Active,
    /// Removed, quiesced or drained by hand: it keeps the connections it has.
    Draining,
    /// It does not answer, or was taken down by hand: datagrams leave it too, and what becomes of
    /// its connections the service says.
    Down,
}
