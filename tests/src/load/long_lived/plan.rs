//! Which long-lived connections to open.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::lab::spec::Protocol;
use crate::load::SourcePorts;
use crate::pace;

/// What to open.
#[derive(Clone, Debug)]
pub struct LongLivedPlan {
    /// TCP connections or UDP flows.
    pub protocol: Protocol,
    /// Where to: the echo service.
    pub target: SocketAddr,
    /// Source addresses, taken in turn.
    pub clients: Vec<IpAddr>,
    /// How many connections.
    pub connections: u32,
    /// The source ports.
    pub ports: SourcePorts,
    /// How many of them talk; the rest is silent until verified.
    pub talking: u32,
    /// The pause between two lines of a talking connection.
    pub pace: Duration,
    /// Without an echo for this long, a connection counts as stalled.
    pub stall_after: Duration,
}

impl LongLivedPlan {
    /// TCP, the kernel's ports, half of the connections talking about once a second, stalled
    /// after 5 s.
    #[must_use]
    pub fn new(target: SocketAddr, clients: Vec<IpAddr>, connections: u32) -> Self {
        Self {
            protocol: Protocol::Tcp,
            target,
            clients,
            connections,
            ports: SourcePorts::Kernel,
            talking: connections / 2,
            pace: pace::wait(Duration::from_secs(1)),
            stall_after: pace::wait(Duration::from_secs(5)),
        }
    }

    /// Sets the protocol.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets how the source ports are chosen.
    #[must_use]
    pub fn ports(mut self, ports: SourcePorts) -> Self {
        self.ports = ports;
        self
    }

    /// Sets how many connections talk, and the pause between two lines of each,
    /// which is longer on a slow machine.
    #[must_use]
    pub fn talking(mut self, talking: u32, pace: Duration) -> Self {
        self.talking = talking;
        self.pace = pace::wait(pace);
        self
    }

    /// Sets after what time without an echo a connection counts as stalled;
    /// longer on a slow machine.
    #[must_use]
    pub fn stall_after(mut self, stall_after: Duration) -> Self {
        self.stall_after = pace::wait(stall_after);
        self
    }
}
