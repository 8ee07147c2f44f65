//! The clients: so many at a time, each with its next request as soon as the last was answered, or at
//! a pace of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout_at};

use super::server::{ANSWER, LAST_REQUEST, REQUEST};
use crate::bench::figures::quantile;
use crate::lab::Namespace;
use crate::load::connect_tcp;

/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(3);
/// Not measured: connections are made, caches filled.
const WARM_UP: Duration = Duration::from_millis(300);

/// What each client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// Requests on one connection.
    KeepAlive,
    /// A connection for each request, which the server closes.
    New,
}

/// The load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) kind: Kind,
    /// Where to, in turn.
    pub(super) targets: Vec<SocketAddr>,
    /// From where, in turn.
    pub(super) clients: Vec<IpAddr>,
    /// Clients at a time.
    pub(super) at_a_time: u32,
    /// Requests a second of all of them; none: as fast as they go.
    pub(super) pace: Option<u32>,
    /// For how long, after the warm-up.
    pub(super) time: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Answers within the time that is measured, in a second.
    pub(super) rate: f64,
    /// Their times, in milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// All answers, with those of the warm-up.
    pub(super) answers: u64,
    /// Requests without the right answer.
    pub(super) failed: u64,
}

impl Load {
    /// Clients at a time.
    fn clients(&self) -> f64 {
        f64::from(self.at_a_time)
    }

    /// The time from one request of a client to its next.
    fn every(&self) -> Option<Duration> {
        self.pace.map(|pace| Duration::from_secs(1).mul_f64(self.clients() / f64::from(pace)))
    }

    /// Plays it in a namespace.
    pub(super) fn play(self, namespace: &Namespace) -> Result<Done> {
        namespace.run(move || async move {
            let (load, began) = (Arc::new(self), Instant::now());
            let mut clients = JoinSet::new();
            for number in 0..load.at_a_time {
                clients.spawn(Client::new(Arc::clone(&load), began, number).run());
            }
            let all = clients.join_all().await;
            let times: Vec<f64> = all.iter().flat_map(|client| &client.times).copied().collect();
            Done {
                rate: count(times.len()) / load.time.as_secs_f64(),
                p50: quantile(&times, 0.5).unwrap_or_default(),
                p99: quantile(&times, 0.99).unwrap_or_default(),
                answers: all.iter().map(|client| client.answers).sum(),
                failed: all.iter().map(|client| client.failed).sum(),
            }
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// One client.
struct Client {
    load: Arc<Load>,
    began: Instant,
    number: u32,
    turn: u32,
    /// Milliseconds of what is measured.
    times: Vec<f64>,
    answers: u64,
    failed: u64,
}

impl Client {
    fn new(load: Arc<Load>, began: Instant, number: u32) -> Self {
        Self { load, began, number, turn: 0, times: Vec::new(), answers: 0, failed: 0 }
    }

    async fn run(mut self) -> Self {
        let end = self.began + WARM_UP + self.load.time;
        let mut kept = None;
        // Clients do not all ask at once.
        let (number, every) = (f64::from(self.number), self.load.every());
        let mut due = self.began + every.unwrap_or_default().mul_f64(number / self.load.clients());
        while Instant::now() < end {
            if let Some(every) = every {
                sleep_until(due.min(end).into()).await;
                due += every;
            }
            let asked = Instant::now();
            let answer = timeout_at((asked + LIMIT).into(), self.ask(&mut kept)).await;
            if matches!(answer, Ok(Ok(()))) {
                self.note(asked, end);
            } else {
                (self.failed, kept) = (self.failed + 1, None);
                sleep(Duration::from_millis(10)).await;
            }
        }
        self
    }

    /// Counts an answer; its time counts if it lies within what is measured.
    fn note(&mut self, asked: Instant, end: Instant) {
        self.answers += 1;
        let now = Instant::now();
        if asked >= self.began + WARM_UP && now <= end {
            self.times.push((now - asked).as_secs_f64() * 1e3);
        }
    }

    /// One request and its answer.
    async fn ask(&mut self, kept: &mut Option<TcpStream>) -> io::Result<()> {
        match self.load.kind {
            Kind::KeepAlive => {
                if kept.is_none() {
                    *kept = Some(self.connect().await?);
                }
                let Some(stream) = kept else { return Ok(()) };
                exchange(stream, REQUEST).await
            }
            Kind::New => {
                let mut stream = self.connect().await?;
                exchange(&mut stream, LAST_REQUEST).await?;
                match stream.read(&mut [0]).await? {
                    0 => Ok(()),
                    _ => Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
    }

    async fn connect(&mut self) -> io::Result<TcpStream> {
        let turn = (self.number + self.turn * self.load.at_a_time) as usize;
        self.turn += 1;
        let target = self.load.targets[turn % self.load.targets.len()];
        let client = self.load.clients[turn % self.load.clients.len()];
        connect_tcp((client, 0).into(), target, LIMIT).await
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    stream.write_all(request).await?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).await?;
    if answer == ANSWER { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
