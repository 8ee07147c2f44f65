//! Which fresh connections to open.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::load::SourcePorts;
use crate::pace;

/// Who remembers a connection after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// By FIN, the server first: it is the server's side that keeps it in `TIME_WAIT`.
    Normal,
    /// By RST from the client once the answer is complete: no side keeps it.
    Reset,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct FreshPlan {
    /// Where to: the HTTP service.
    pub target: SocketAddr,
    /// Source addresses, taken in turn.
    pub clients: Vec<IpAddr>,
    /// How many connections in all; `None`: until stopped.
    pub count: Option<u64>,
    /// How many connections a second; `None`: as fast as they go.
    pub rate: Option<u32>,
    /// How many connections at a time.
    pub concurrency: usize,
    /// The most time for one connection, from SYN to the end of the answer.
    pub limit: Duration,
    /// The source ports.
    pub ports: SourcePorts,
    /// The end of each connection.
    pub close: Close,
}

impl FreshPlan {
    /// Until stopped, as fast as they go, 64 at a time, 5 s each, the kernel's ports, closed by FIN.
    #[must_use]
    pub fn new(target: SocketAddr, clients: Vec<IpAddr>) -> Self {
        Self {
            target,
            clients,
            count: None,
            rate: None,
            concurrency: 64,
            limit: pace::wait(Duration::from_secs(5)),
            ports: SourcePorts::Kernel,
            close: Close::Normal,
        }
    }

    /// Sets how many connections to open in all.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Sets how many connections to open a second; fewer on a slow machine.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = Some(pace::rate(rate));
        self
    }

    /// Sets how the source ports are chosen.
    #[must_use]
    pub fn ports(mut self, ports: SourcePorts) -> Self {
        self.ports = ports;
        self
    }

    /// Sets how connections end.
    #[must_use]
    pub fn close(mut self, close: Close) -> Self {
        self.close = close;
        self
    }

    /// Sets the most time for one connection; more on a slow machine.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = pace::wait(limit);
        self
    }

    /// Where the connection number `number` comes from. Port 0: the kernel's choice.
    pub(super) fn source(&self, number: u64) -> SocketAddr {
        self.ports.source(&self.clients, number)
    }
}
