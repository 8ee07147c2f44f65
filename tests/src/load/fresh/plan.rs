//! Which fresh connections to open.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Explicit source ports are taken from this one up to 65535.
const FIRST_PORT: u16 = 1024;

/// How the source ports are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePorts {
    /// By the kernel.
    Kernel,
    /// One after the other for each client address: the hardest case for a weak hash.
    Sequential,
    /// At random, the same for the same seed.
    Random(u64),
}

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
            limit: Duration::from_secs(5),
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

    /// Sets how many connections to open a second.
    #[must_use]
    pub fn rate(mut self, rate: u32) -> Self {
        self.rate = Some(rate);
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

    /// Sets the most time for one connection.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Where the connection number `number` comes from. Port 0: the kernel's choice.
    pub(super) fn source(&self, number: u64) -> SocketAddr {
        let clients = self.clients.len() as u64;
        let ports = u64::from(u16::MAX - FIRST_PORT) + 1;
        let step = match self.ports {
            SourcePorts::Kernel => None,
            SourcePorts::Sequential => Some(number / clients),
            SourcePorts::Random(seed) => Some(scramble(seed.wrapping_add(number))),
        };
        // Both remainders are in range; the fallbacks are never taken.
        let client = usize::try_from(number % clients).unwrap_or(0);
        let port = step.map_or(0, |step| FIRST_PORT + u16::try_from(step % ports).unwrap_or(0));
        SocketAddr::new(self.clients[client], port)
    }
}

/// Spreads numbers evenly over 64 bits: `SplitMix64`'s mixing (Steele, Lea and Flood, 2014).
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn sources_take_turns() {
        let clients: Vec<IpAddr> =
            ["10.50.1.1", "10.50.1.2"].map(|client| client.parse().unwrap()).to_vec();
        let plan = FreshPlan::new("10.40.0.100:80".parse().unwrap(), clients);
        let sources = |plan: &FreshPlan| {
            [0, 1, 2, 129_023, 129_024].map(|number| plan.source(number).to_string())
        };
        let sequential = plan.clone().ports(SourcePorts::Sequential);
        assert_eq!(
            sources(&sequential),
            [
                "10.50.1.1:1024",
                "10.50.1.2:1024",
                "10.50.1.1:1025",
                "10.50.1.2:65535",
                "10.50.1.1:1024"
            ]
        );
        assert_eq!(sources(&plan)[1], "10.50.1.2:0");
        let random = plan.ports(SourcePorts::Random(7));
        assert_eq!(sources(&random), sources(&random));
        assert_ne!(random.source(0).port(), random.source(2).port());
    }
}
