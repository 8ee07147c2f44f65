//! Which source address and port a connection has.

use std::net::{IpAddr, SocketAddr};

use crate::random::Random;

/// Explicit source ports are taken from this one up to 65535.
const FIRST_PORT: u16 = 1024;

/// How the source ports are chosen. All but the kernel's choice give the same flows in every run,
/// and so the same hashes and the same shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePorts {
    /// By the kernel.
    Kernel,
    /// One after the other for each client address: the hardest case for a weak hash.
    Sequential,
    /// As `Sequential`, from this port on. Loads that must not meet begin at different ports.
    From(u16),
    /// At random, the same for the same seed.
    Random(u64),
}

impl SourcePorts {
    /// Where the connection number `number` comes from: `clients`, not empty, take turns. Port 0:
    /// the kernel's choice.
    pub(super) fn source(self, clients: &[IpAddr], number: u64) -> SocketAddr {
        let count = clients.len() as u64;
        let (first, step) = match self {
            Self::Kernel => (0, None),
            Self::Sequential => (FIRST_PORT, Some(number / count)),
            Self::From(first) => (first, Some(number / count)),
            Self::Random(seed) => (FIRST_PORT, Some(Random(seed.wrapping_add(number)).word())),
        };
        let ports = u64::from(u16::MAX - first) + 1;
        // Both remainders are in range; the fallbacks are never taken.
        let client = usize::try_from(number % count).unwrap_or(0);
        let port = step.map_or(0, |step| first + u16::try_from(step % ports).unwrap_or(0));
        SocketAddr::new(clients[client], port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn sources_take_turns() {
        let clients: Vec<IpAddr> =
            ["10.50.1.1", "10.50.1.2"].map(|client| client.parse().unwrap()).to_vec();
        let sources = |ports: SourcePorts| {
            [0, 1, 2, 129_023, 129_024].map(|number| ports.source(&clients, number).to_string())
        };
        assert_eq!(
            sources(SourcePorts::Sequential),
            [
                "10.50.1.1:1024",
                "10.50.1.2:1024",
                "10.50.1.1:1025",
                "10.50.1.2:65535",
                "10.50.1.1:1024"
            ]
        );
        assert_eq!(sources(SourcePorts::Kernel)[1], "10.50.1.2:0");
        assert_eq!(sources(SourcePorts::From(65_535))[2], "10.50.1.1:65535");
        let random = SourcePorts::Random(7);
        assert_eq!(sources(random), sources(random));
        assert_ne!(sources(random)[0], sources(random)[2]);
    }
}
