//! Where HTTP is served.

use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;

/// Where, unless the agent is told otherwise.
pub const DEFAULT: &str = "127.0.0.1:9180";

/// What `--http` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// Here; with port 0, at one that is free.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let wrong =
            |_| format!("is not `off`, nor an address and a port such as {DEFAULT} or [::1]:9180");
        text.parse().map(Self::At).map_err(wrong)
    }
}

impl Listen {
    /// The same, unless other hosts could reach it and they are not to.
    ///
    /// # Errors
    ///
    /// What to do instead.
    pub fn allowed(self, anywhere: bool) -> Result<Self, String> {
        match self {
            Self::At(address) if !anywhere && !address.ip().is_loopback() => Err(format!(
                "--http {address} can be reached from other hosts, and whoever reaches it can read \
                 names, addresses and counters: take a loopback address such as {DEFAULT}, or say \
                 --http-anywhere too if this is what you want"
            )),
            listen => Ok(listen),
        }
    }
}

/// A port that is had.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Bound {
    /// Its address, with the port that the kernel chose if it was to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Takes the port. Where it cannot be had, that is a warning and no more: forwarding does not hang
/// on it.
#[must_use]
pub fn bind(listen: Listen) -> (Option<Bound>, Option<String>) {
    let Listen::At(asked) = listen else { return (None, None) };
    let bound = || {
        let listener = TcpListener::bind(asked)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>(Bound { listener, address })
    };
    match bound() {
        Ok(bound) => (Some(bound), None),
        Err(error) => {
            let warning = format!(
                "no metrics and no page: --http {asked} cannot be had ({error}); free the port or \
                 choose another, and start the agent again"
            );
            (None, Some(warning))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn other_hosts_are_let_in_only_when_told() {
        let at = |text: &str| text.parse::<Listen>().unwrap();
        for near in [DEFAULT, "127.8.8.8:1", "[::1]:0", "off"] {
            assert_eq!(at(near).allowed(false), Ok(at(near)));
        }
        for far in ["0.0.0.0:9180", "[::]:9180", "10.0.0.1:80"] {
            assert!(at(far).allowed(false).unwrap_err().contains("--http-anywhere"), "{far}");
            assert_eq!(at(far).allowed(true), Ok(at(far)));
        }
        for wrong in ["", "9180", "localhost:9180", "on", "127.0.0.1"] {
            assert!(wrong.parse::<Listen>().unwrap_err().contains("[::1]:9180"), "{wrong}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_a_warning() {
        let (first, warning) = bind(Listen::At("127.0.0.1:0".parse().unwrap()));
        let first = first.unwrap();
        assert_eq!(warning, None);
        let (second, warning) = bind(Listen::At(first.address()));
        assert!(second.is_none());
        assert!(warning.unwrap().contains(&first.address().to_string()));
        assert!(matches!(bind(Listen::Off), (None, None)));
    }
}
