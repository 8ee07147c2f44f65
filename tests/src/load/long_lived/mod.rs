//! Connections that stay open and must stay where they began. Some talk all the time, the others
//! are silent until [`LongLived::verify`]: a silent flow is the one that a load balancer forgets.

mod plan;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Fault;
use super::tcp::TcpLink;
use super::udp::UdpLink;
use crate::identity::Identity;
use crate::lab::spec::Protocol;
use crate::lab::{Namespace, Task};
pub use plan::LongLivedPlan;
pub use state::{Connection, LongLivedState};

/// Connections that are being opened at a time.
const OPENING_AT_A_TIME: u32 = 256;

/// Open connections, kept by a thread in the clients' namespace. Dropping it closes them.
#[derive(Debug)]
pub struct LongLived {
    ledger: Arc<Ledger>,
    rounds: watch::Sender<u64>,
    stall_after: Duration,
    _task: Task<()>,
}

impl LongLived {
    /// Opens all connections and returns once each is open or broken; see [`LongLivedState::check`].
    pub fn open(namespace: &Namespace, plan: LongLivedPlan) -> Result<Self> {
        if plan.clients.is_empty() {
            bail!("long-lived connections need at least one client address");
        }
        let ledger = Arc::new(Ledger::new(plan.connections));
        let (rounds, _) = watch::channel(0);
        let stall_after = plan.stall_after;
        let limit = stall_after * 2 * plan.connections.div_ceil(OPENING_AT_A_TIME);
        let task = namespace.spawn({
            let (ledger, rounds) = (Arc::clone(&ledger), rounds.clone());
            move || run_all(plan, ledger, rounds)
        })?;
        let long_lived = Self { ledger, rounds, stall_after, _task: task };
        long_lived.ledger.settle(limit, |connection| connection.identity.is_some());
        Ok(long_lived)
    }

    /// The state now, without sending anything.
    #[must_use]
    pub fn state(&self) -> LongLivedState {
        LongLivedState { connections: self.ledger.lock().clone() }
    }

    /// Sends a line on every connection, the silent ones too, waits for all echoes and gives the
    /// state then. A connection without an echo within the plan's limit has stalled.
    #[must_use]
    pub fn verify(&self) -> LongLivedState {
        let mut round = 0;
        self.rounds.send_modify(|current| {
            *current += 1;
            round = *current;
        });
        // An exchange may be under way, then comes the one asked for.
        self.ledger.settle(self.stall_after * 2 + Duration::from_secs(5), |connection| {
            connection.verified >= round
        });
        self.state()
    }
}

/// What is known of each connection.
#[derive(Debug)]
struct Ledger {
    connections: Mutex<Vec<Connection>>,
    changed: Condvar,
}

impl Ledger {
    fn new(connections: u32) -> Self {
        Self {
            connections: Mutex::new(vec![Connection::default(); connections as usize]),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, index: u32, change: impl FnOnce(&mut Connection)) {
        change(&mut self.lock()[index as usize]);
        self.changed.notify_all();
    }

    /// Waits until every connection is `done` or broken. What is neither after `limit` has stalled.
    fn settle(&self, limit: Duration, done: impl Fn(&Connection) -> bool) {
        let waits = |connection: &Connection| connection.fault.is_none() && !done(connection);
        let (mut connections, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |connections| connections.iter().any(waits))
            .unwrap_or_else(PoisonError::into_inner);
        for connection in connections.iter_mut().filter(|connection| waits(connection)) {
            connection.fault = Some(Fault::Stalled);
        }
    }
}

async fn run_all(plan: LongLivedPlan, ledger: Arc<Ledger>, rounds: watch::Sender<u64>) {
    let plan = Arc::new(plan);
    let opening = Arc::new(Semaphore::new(OPENING_AT_A_TIME as usize));
    let mut running = JoinSet::new();
    for index in 0..plan.connections {
        let (plan, ledger, opening, rounds) =
            (Arc::clone(&plan), Arc::clone(&ledger), Arc::clone(&opening), rounds.subscribe());
        running.spawn(async move {
            let Err(fault) = run_one(&plan, index, &ledger, &opening, rounds).await;
            ledger.update(index, |connection| {
                connection.fault.get_or_insert(fault);
            });
        });
    }
    running.join_all().await;
    // Kept until dropped: the broken connections stay known.
    std::future::pending::<()>().await;
}

/// Opens one connection and keeps it until it breaks.
async fn run_one(
    plan: &LongLivedPlan,
    index: u32,
    ledger: &Ledger,
    opening: &Semaphore,
    mut rounds: watch::Receiver<u64>,
) -> Result<std::convert::Infallible, Fault> {
    let mut sequence = 0;
    let mut link = {
        let _permit = opening.acquire().await.map_err(|_| Fault::Closed)?;
        let (link, client, identity) = Link::open(plan, index).await?;
        ledger.update(index, |connection| {
            connection.client = Some(client);
            connection.identity = Some(identity);
        });
        link
    };
    let talks = index < plan.talking;
    // Spread evenly, so that the load is steady.
    let phase = plan.pace * index / plan.connections;
    let mut next_line = Instant::now() + phase;
    let mut round = 0;
    loop {
        tokio::select! {
            changed = rounds.changed() => match changed {
                Ok(()) => round = *rounds.borrow_and_update(),
                Err(_) => return Err(Fault::Closed),
            },
            () = sleep_until(next_line), if talks => {}
            fault = link.broken() => return Err(fault),
        }
        sequence += 1;
        let resent = link.exchange(&line(index, sequence), plan.stall_after).await?;
        ledger.update(index, |connection| {
            connection.exchanges += 1;
            connection.resent += resent;
            connection.verified = round;
        });
        next_line = Instant::now() + plan.pace;
    }
}

/// The line number `sequence` of a connection. Of one length, and later lines compare greater.
fn line(index: u32, sequence: u64) -> Vec<u8> {
    format!("{index:08} {sequence:010}\n").into_bytes()
}

enum Link {
    Tcp(TcpLink),
    Udp(UdpLink),
}

impl Link {
    async fn open(plan: &LongLivedPlan, index: u32) -> Result<(Self, SocketAddr, Identity), Fault> {
        let client = plan.ports.source(&plan.clients, u64::from(index));
        match plan.protocol {
            Protocol::Tcp => {
                let (link, local, identity) =
                    TcpLink::open(client, plan.target, plan.stall_after).await?;
                Ok((Self::Tcp(link), local, identity))
            }
            Protocol::Udp => {
                let (link, local, identity) =
                    UdpLink::open(client, plan.target, &line(index, 0), plan.stall_after).await?;
                Ok((Self::Udp(link), local, identity))
            }
        }
    }

    async fn exchange(&mut self, line: &[u8], limit: Duration) -> Result<u64, Fault> {
        match self {
            Self::Tcp(tcp) => tcp.exchange(line, limit).await.map(|()| 0),
            Self::Udp(udp) => udp.exchange(line, limit).await,
        }
    }

    /// Ends when the connection breaks while nothing is expected on it. A UDP flow has no such end.
    async fn broken(&mut self) -> Fault {
        match self {
            Self::Tcp(tcp) => tcp.broken().await,
            Self::Udp(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_compare_greater() {
        assert!(line(3, 9) < line(3, 10));
        assert_eq!(line(0, 1).len(), line(99_999, 1_000_000).len());
    }
}
