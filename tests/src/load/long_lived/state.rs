//! What long-lived connections have met.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use anyhow::{Result, bail};

use crate::identity::{Identity, Version};
use crate::load::Fault;

/// One connection, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The client's address and port; `None` while it opens.
    pub client: Option<SocketAddr>,
    /// Who answered first; `None` while it opens.
    pub identity: Option<Identity>,
    /// Lines that came back as they were sent.
    pub exchanges: u64,
    /// Datagrams sent again because no answer came (UDP).
    pub resent: u64,
    /// Why it is broken, if it is.
    pub fault: Option<Fault>,
    /// The last round of verification it took part in.
    pub(super) verified: u64,
}

/// The state of all connections at one moment.
#[derive(Clone, Debug)]
pub struct LongLivedState {
    /// Every connection, in the order of the plan: the talking ones first.
    pub connections: Vec<Connection>,
}

impl LongLivedState {
    /// Connections that are open and unbroken.
    #[must_use]
    pub fn healthy(&self) -> usize {
        self.connections
            .iter()
            .filter(|connection| connection.identity.is_some() && connection.fault.is_none())
            .count()
    }

    /// Unbroken connections by version, in the order of [`Version::ALL`].
    #[must_use]
    pub fn by_version(&self) -> [usize; 3] {
        Version::ALL.map(|version| {
            let on = |connection: &&Connection| {
                connection.fault.is_none()
                    && connection.identity.is_some_and(|identity| identity.version == version)
            };
            self.connections.iter().filter(on).count()
        })
    }

    /// The broken connections by what broke them.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Fault, usize> {
        let mut faults = BTreeMap::new();
        for fault in self.connections.iter().filter_map(|connection| connection.fault) {
            *faults.entry(fault).or_default() += 1;
        }
        faults
    }

    /// Lines that came back, over all connections.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.connections.iter().map(|connection| connection.exchanges).sum()
    }

    /// An error that names what is broken, if anything is.
    pub fn check(&self) -> Result<()> {
        if self.healthy() != self.connections.len() {
            bail!("{self}");
        }
        Ok(())
    }
}

/// `198 of 200 healthy; reset: 2 (10.50.1.7:40312 on blue 10.61.0.2, …)`
impl fmt::Display for LongLivedState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXAMPLES: usize = 3;
        write!(out, "{} of {} healthy", self.healthy(), self.connections.len())?;
        for (fault, count) in self.faults() {
            write!(out, "; {fault}: {count}")?;
            let broken =
                self.connections.iter().filter(|connection| connection.fault == Some(fault));
            for connection in broken.take(EXAMPLES) {
                if let (Some(client), Some(identity)) = (connection.client, connection.identity) {
                    write!(out, " [{client} on {identity}]")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_names_what_broke() {
        let broken = Connection { fault: Some(Fault::Reset), ..Connection::default() };
        let state = LongLivedState { connections: vec![broken; 2] };
        assert_eq!(state.to_string(), "0 of 2 healthy; reset: 2");
        assert!(state.check().is_err());
    }
}
