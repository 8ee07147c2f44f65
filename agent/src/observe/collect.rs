//! One look at the node, shared by all who ask at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::model::ServiceName;
use crate::node::events::{EventQuery, Kind, Recorded};
use crate::node::messages::{DrainStatus, NodeStatus, ServiceCounters, ServiceStatus, Verdict};
use crate::node::{Error, Handle};

/// A look that is younger is as good as a new one.
const FRESH: Duration = Duration::from_millis(400);
/// The longest time for a look.
const LIMIT: Duration = Duration::from_secs(20);
/// The newest events that a look holds, at least, as far as there are so many.
const EVENTS: u64 = 50;

/// A service: what it is and what it has counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Asked, table, observed.
    pub status: ServiceStatus,
    /// The counters, a moment later.
    pub counters: ServiceCounters,
}

/// What a look has found.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the look ended.
    pub at: Instant,
    /// The same by the host's clock.
    pub time: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// When the agent began to serve.
    pub started: SystemTime,
    /// Name of the host.
    pub host: Arc<str>,
    /// The agent itself.
    pub status: NodeStatus,
    /// The services, ordered by name.
    pub services: Vec<Seen>,
    /// Packets that no service counts.
    pub verdicts: Vec<Verdict>,
    /// What drains.
    pub drains: Vec<DrainStatus>,
    /// The newest events, oldest first.
    pub events: Vec<Recorded>,
    /// The id of the newest event, and the epoch of ids.
    pub last_event: (u64, u64),
    /// Events of each kind since the agent started.
    pub event_totals: BTreeMap<Kind, u64>,
    /// It as text for Prometheus, by [`super::exposition::Format`], once somebody has asked.
    pub(super) texts: [OnceLock<Bytes>; 2],
}

/// Why there is no look.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The owner task says why.
    #[error("the node does not answer: {0}")]
    Node(#[from] Error),
    /// It took too long.
    #[error("the node has not answered within {LIMIT:?}")]
    Slow,
}

/// Looks at the node. One look at a time; who asks meanwhile gets the same.
#[derive(Debug)]
pub struct Collector {
    node: Handle,
    started: SystemTime,
    host: Arc<str>,
    last: Mutex<Option<Arc<Snapshot>>>,
}

impl Collector {
    /// Of this node.
    #[must_use]
    pub fn new(node: Handle) -> Self {
        let host = nix::sys::utsname::uname();
        let host = host.map(|name| name.nodename().to_string_lossy().into()).unwrap_or_default();
        Self { node, started: SystemTime::now(), host, last: Mutex::new(None) }
    }

    /// The node, to ask for other things.
    pub(super) const fn node(&self) -> &Handle {
        &self.node
    }

    /// A look that is fresh: another's, or a new one.
    ///
    /// # Errors
    ///
    /// The node does not answer.
    pub async fn look(&self) -> Result<Arc<Snapshot>, CollectError> {
        let last = timeout(LIMIT, self.last.lock()).await;
        let mut last = last.map_err(|_| CollectError::Slow)?;
        if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < FRESH) {
            return Ok(Arc::clone(last));
        }
        let known = last.as_ref().map_or((0, 0), |last| last.last_event);
        let look = timeout(LIMIT, self.collect(known)).await;
        let look = Arc::new(look.map_err(|_| CollectError::Slow)??);
        *last = Some(Arc::clone(&look));
        Ok(look)
    }

    /// Asks for one thing after the other, and for each service by itself, so that what others ask of
    /// the owner waits for a service's tables at most, not for those of all.
    async fn collect(&self, known: (u64, u64)) -> Result<Snapshot, Error> {
        let node = &self.node;
        let start = Instant::now();
        let status = node.status().await?;
        let mut services = Vec::new();
        let (mut drains, mut verdicts) = (Vec::new(), Vec::new());
        for name in node.services().await? {
            match self.service(name).await {
                Ok((seen, of_service, packets)) => {
                    services.extend(seen);
                    drains.extend(of_service);
                    verdicts = packets;
                }
                // It was deleted since the names were given.
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if services.is_empty() {
            verdicts = node.counters(Vec::new()).await?.verdicts;
        }
        let (epoch, last) = known;
        let query =
            EventQuery { since: last.saturating_sub(EVENTS), epoch: Some(epoch), service: None };
        let look = node.events(query).await?;
        Ok(Snapshot {
            at: Instant::now(),
            time: SystemTime::now(),
            took: start.elapsed(),
            started: self.started,
            host: Arc::clone(&self.host),
            status,
            services,
            verdicts,
            drains,
            last_event: (look.events.epoch, look.events.last_id),
            events: look.events.events,
            event_totals: look.totals,
            texts: Default::default(),
        })
    }

    /// One service: what it is, what drains of it; and packets that none counts.
    async fn service(
        &self,
        name: ServiceName,
    ) -> Result<(Option<Seen>, Vec<DrainStatus>, Vec<Verdict>), Error> {
        let status = self.node.get(name.clone()).await?;
        let drains = self.node.drains(vec![name.clone()]).await?;
        let mut counters = self.node.counters(vec![name]).await?;
        let own = counters.services.pop();
        Ok((own.map(|counters| Seen { status, counters }), drains, counters.verdicts))
    }
}
