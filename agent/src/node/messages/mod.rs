//! What can be asked of the node, and what it answers. Plain data; `api::convert` maps it to `weir.v1`.
//!
//! - `requests`: what changes something, and `changed`: what came of it
//! - `status`: services; `drains`: what drains; `counters`: what was counted; `node`: the rest
//!
//! The serialized form of the answers is what `weir -o json` prints: names and units are stable.

mod changed;
mod counters;
mod drains;
mod node;
mod requests;
mod status;
mod times;

use serde::Serialize;

pub use self::changed::{Change, Changed, Commit, Move, Settled, Steered, VersionChange};
pub use self::counters::{
    BackendCounters, Counters, Sample, ServiceCounters, Verdict, VersionCounters,
};
pub use self::drains::{DrainStatus, MayStop};
pub use self::node::{Capacity, InterfaceStatus, NodeStatus};
pub use self::requests::{
    Apply, ClearGuard, Delete, InFlight, RenewLease, RollBack, ServiceShift, SetBackend, SetGuard,
    Settle, Shift, Steer,
};
pub use self::status::{
    BackendHealth, BackendStatus, GuardStatus, LeaseStatus, NextHop, ServiceStatus, TrippedStatus,
    VersionStatus,
};
pub(super) use self::times::rfc3339;
use crate::model::Fence;
pub use crate::model::{Handshakes, Traffic};

/// The most characters of a request id.
pub const MAX_REQUEST_ID: usize = 64;

/// Names a request, so that repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// The id, if it is 1 to 64 printable ASCII characters.
    pub fn new(id: &str) -> Result<Self, String> {
        if id.is_empty()
            || id.len() > MAX_REQUEST_ID
            || !id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!(
                "is not 1 to {MAX_REQUEST_ID} printable ASCII characters without spaces"
            ));
        }
        Ok(Self(id.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How to make a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct ChangeOptions {
    /// The answer to an id that was carried out before is given again, and nothing changed.
    pub request_id: Option<RequestId>,
    /// Say what would change, and change nothing.
    pub dry_run: bool,
    /// Allow weight for a version that nothing serves.
    pub force: bool,
    /// Whose change it is, where there is a rollout.
    pub fence: Option<Fence>,
}
