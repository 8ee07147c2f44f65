//! What was seen of an agent last. Plain data.

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;

use crate::node::messages::{Counters, DrainStatus, Sample, ServiceStatus};

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
        /// The same by a clock that does not jump.
        at: Instant,
        /// Why, as far as is known.
        error: String,
    },
}

/// A sample of an agent's counters.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// What was counted.
    pub counters: Counters,
    /// The tables that decided when it was taken; nothing: they changed about then.
    pub tables: Option<Arc<ServiceStatus>>,
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
    pub sample: Option<Arc<Sampled>>,
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
            reach: Reach::Lost {
                since: now,
                at: Instant::now(),
                error: "not connected yet".to_owned(),
            },
            status: None,
            drains: Arc::default(),
            sample: None,
            rate: 0.0,
            pending: false,
            done: 0,
            failed: None,
        }
    }

    /// Takes a sample, unless a newer one was taken. `tables`: those that decided when it was taken.
    pub(super) fn take(&mut self, sample: Sample, tables: Option<Arc<ServiceStatus>>) {
        let Sample { counters, interval } = sample;
        let newest = self.sample.as_ref().map(|known| &known.counters);
        if newest.is_some_and(|known| known.epoch == counters.epoch && counters.time <= known.time)
        {
            return;
        }
        let only = interval.as_ref().and_then(|interval| interval.services.first());
        if let Some(service) = only {
            self.rate = service.versions.iter().map(|(_, one)| one.delta.connections_per_s).sum();
        }
        self.sample = Some(Arc::new(Sampled { counters, tables }));
    }

    /// Since when it answers, or does not.
    #[must_use]
    pub const fn since(&self) -> SystemTime {
        let (Reach::Reached { since } | Reach::Lost { since, .. }) = self.reach;
        since
    }

    /// Whether it answers.
    #[must_use]
    pub const fn is_reached(&self) -> bool {
        matches!(self.reach, Reach::Reached { .. })
    }
}
