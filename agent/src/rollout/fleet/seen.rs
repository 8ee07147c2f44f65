//! What was seen of an agent last. Plain data.

use std::{sync::Arc, time::SystemTime};

use crate::node::messages::{Counters, DrainStatus, ServiceStatus};

/// Whether an agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It does.
    Reached {
        /// Since then.
        since: SystemTime,
    },
    /// It does not.
    Lost {
        /// Since then.
        since: SystemTime,
        /// Why, as far as is known.
        error: String,
    },
}

/// What was seen of an agent last. What stands here of an agent that is lost is what it did then.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Whether it answers.
    pub reach: Reach,
    /// The service; nothing: not seen yet.
    pub status: Option<Arc<ServiceStatus>>,
    /// What drains of it.
    pub drains: Arc<[DrainStatus]>,
    /// The newest sample of its counters.
    pub counters: Option<Arc<Counters>>,
    /// New connections of the service a second, within the last sample.
    pub rate: f64,
    /// Something was asked for, and the agent was not looked at since it was done.
    pub pending: bool,
    /// The number of the last orders that were seen to.
    pub done: u64,
    /// Why the last order was not carried out; nothing: it was.
    pub failed: Option<String>,
}

impl Seen {
    /// Of an agent that was not heard of yet.
    #[must_use]
    pub fn nothing(now: SystemTime) -> Self {
        Self {
            reach: Reach::Lost { since: now, error: "not connected yet".to_owned() },
            status: None,
            drains: Arc::default(),
            counters: None,
            rate: 0.0,
            pending: false,
            done: 0,
            failed: None,
        }
    }

    /// Whether it answers.
    #[must_use]
    pub const fn is_reached(&self) -> bool {
        matches!(self.reach, Reach::Reached { .. })
    }
}
