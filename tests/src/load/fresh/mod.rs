//! New connections, one HTTP request each, and which version answered.

mod counts;
mod plan;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Fault;
use super::socket::connect_tcp;
use crate::identity::Identity;
use crate::lab::{Namespace, Task};
pub use counts::FreshCounts;
pub use plan::{Close, FreshPlan};

/// Load in progress, on a thread in the clients' namespace. Dropping it aborts what is under way.
#[derive(Debug)]
pub struct Fresh {
    shared: Arc<Shared>,
    task: Task<()>,
}

#[derive(Debug)]
struct Shared {
    plan: FreshPlan,
    next: AtomicU64,
    stopping: watch::Sender<bool>,
    /// Odd within a period, even between two; it only grows.
    period: AtomicU64,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    all: FreshCounts,
    /// By the period's number.
    periods: BTreeMap<u64, FreshCounts>,
}

/// A time whose connections are counted apart: those that begin and are accepted within it, so
/// that each packet that opened one was sent within it too. It outlives the load.
#[derive(Debug)]
pub struct Period {
    number: u64,
    shared: Arc<Shared>,
}

impl Period {
    /// Ends the period: what is not accepted yet does not belong to it.
    pub fn end(&self) {
        // Fails if it has ended already.
        let _ = self.shared.period.compare_exchange(
            self.number,
            self.number + 1,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }

    /// The counts so far. After the end, the last connections may still wait for their answers.
    #[must_use]
    pub fn counts(&self) -> FreshCounts {
        self.shared.ledger().periods.get(&self.number).cloned().unwrap_or_default()
    }
}

impl Fresh {
    /// Starts opening connections.
    pub fn start(namespace: &Namespace, plan: FreshPlan) -> Result<Self> {
        if plan.clients.is_empty() || plan.concurrency == 0 || plan.rate == Some(0) {
            bail!("fresh connections need a client address, a concurrency and a rate above 0");
        }
        let shared = Arc::new(Shared {
            plan,
            next: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
            period: AtomicU64::new(0),
            ledger: Mutex::default(),
        });
        let task = namespace.spawn({
            let shared = Arc::clone(&shared);
            move || async move {
                let started = Instant::now();
                let mut workers = JoinSet::new();
                for _ in 0..shared.plan.concurrency {
                    let shared = Arc::clone(&shared);
                    workers.spawn(async move { shared.work(started).await });
                }
                workers.join_all().await;
            }
        })?;
        Ok(Self { shared, task })
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> FreshCounts {
        self.shared.ledger().all.clone()
    }

    /// Begins a period; the one before, if there is one, ends.
    #[must_use]
    pub fn begin_period(&self) -> Period {
        let next_odd = |number: u64| (number + 1) | 1;
        let (Ok(before) | Err(before)) =
            self.shared
                .period
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |number| Some(next_odd(number)));
        Period { number: next_odd(before), shared: Arc::clone(&self.shared) }
    }

    /// Starts no more connections, waits for those under way, and gives the counts.
    pub fn stop(self) -> Result<FreshCounts> {
        self.shared.stopping.send_replace(true);
        self.finish()
    }

    /// Waits until the plan's count is reached, and gives the counts.
    pub fn finish(self) -> Result<FreshCounts> {
        if self.shared.plan.count.is_none() && !*self.shared.stopping.borrow() {
            bail!("fresh connections without a count never finish: stop them");
        }
        self.task.join()?;
        let counts = self.shared.ledger().all.clone();
        Ok(counts)
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn period(&self) -> Option<u64> {
        let number = self.period.load(Ordering::SeqCst);
        (number % 2 == 1).then_some(number)
    }

    /// Takes numbers and opens their connections, until there are none left.
    async fn work(&self, started: Instant) {
        let plan = &self.plan;
        let mut stopping = self.stopping.subscribe();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if plan.count.is_some_and(|count| number >= count) {
                return;
            }
            if let Some(rate) = plan.rate {
                let due = number.saturating_mul(1_000_000_000) / u64::from(rate);
                // Far off at a low rate: many workers wait for their turns.
                tokio::select! {
                    () = sleep_until(started + Duration::from_nanos(due)) => {}
                    // The sender is ours, so this ends only with a stop.
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
            if *stopping.borrow() {
                return;
            }
            let source = plan.source(number);
            let mut period = self.period();
            let connection = async {
                let stream = connect_tcp(source, plan.target, plan.limit).await?;
                period = period.filter(|_| self.period() == period);
                fetch(plan, stream).await
            };
            let outcome = timeout(plan.limit, connection).await.unwrap_or(Err(Fault::Stalled));
            let mut ledger = self.ledger();
            ledger.all.add(source.ip(), outcome);
            if let Some(period) = period {
                ledger.periods.entry(period).or_default().add(source.ip(), outcome);
            }
        }
    }
}

/// The rest of one connection: request, answer, end.
async fn fetch(plan: &FreshPlan, mut stream: TcpStream) -> Result<Identity, Fault> {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    stream.write_all(REQUEST).await?;
    let mut answer = [0; 512];
    let mut length = 0;
    let outcome = loop {
        if let Some(outcome) = parse_answer(&answer[..length]) {
            break outcome;
        }
        length += read(&mut stream, &mut answer[length..]).await?;
    };
    match plan.close {
        // The server's end comes first.
        Close::Normal => {
            if stream.read(&mut [0]).await? != 0 {
                return Err(Fault::WrongBytes);
            }
        }
        Close::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
    }
    outcome
}

/// Reads some bytes; without room or at the connection's end that is a fault.
async fn read(stream: &mut TcpStream, room: &mut [u8]) -> Result<usize, Fault> {
    if room.is_empty() {
        return Err(Fault::WrongBytes);
    }
    match stream.read(room).await? {
        0 => Err(Fault::Closed),
        length => Ok(length),
    }
}

/// `None` while the answer is incomplete; then who answered, or that it makes no sense.
fn parse_answer(answer: &[u8]) -> Option<Result<Identity, Fault>> {
    let text = str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let identity = body.strip_suffix('\n')?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Some(Err(Fault::WrongBytes));
    }
    Some(identity.parse().map_err(|_| Fault::WrongBytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn an_answer_is_judged_when_complete() {
        assert_eq!(parse_answer(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nblue 10.61.0"), None);
        let whole = parse_answer(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nblue 10.61.0.2\n");
        assert_eq!(whole, Some(Ok("blue 10.61.0.2".parse().unwrap())));
        assert_eq!(
            parse_answer(b"HTTP/1.1 503 No\r\n\r\nblue 10.61.0.2\n"),
            Some(Err(Fault::WrongBytes))
        );
        assert_eq!(parse_answer(b"HTTP/1.1 200 OK\r\n\r\nhello\n"), Some(Err(Fault::WrongBytes)));
    }
}
