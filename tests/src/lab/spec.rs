//! Spec files for the services of a lab.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::identity::Version;

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One service with one listener, whose backends listen on the listener's port.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// The service's name.
    pub name: String,
    /// Where clients connect to.
    pub listener: SocketAddr,
    /// The listener's protocol.
    pub protocol: Protocol,
    /// How packets reach the backends: `nat`, `dsr-l2` …
    pub forwarding: &'static str,
    /// The weights of blue, green and canary, in basis points.
    pub weights: [u16; 3],
    /// The backends of blue, green and canary.
    pub backends: [Vec<IpAddr>; 3],
    /// Further keys of the service, as lines of YAML (`affinity: client`).
    pub more: Vec<String>,
}

impl ServiceSpec {
    /// Sets the weights of blue, green and canary, in basis points.
    #[must_use]
    pub fn weights(mut self, weights: [u16; 3]) -> Self {
        self.weights = weights;
        self
    }

    /// Sets how packets reach the backends.
    #[must_use]
    pub fn forwarding(mut self, forwarding: &'static str) -> Self {
        self.forwarding = forwarding;
        self
    }

    /// Adds a key to the service, as a line of YAML: `affinity: client`.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.more.push(line.to_owned());
        self
    }
}

/// The spec file with these services.
#[must_use]
pub fn yaml(services: &[ServiceSpec]) -> String {
    let mut text = "services:\n".to_owned();
    for service in services {
        service.write(&mut text);
    }
    text
}

impl ServiceSpec {
    fn write(&self, text: &mut String) {
        let Self { name, listener, protocol, .. } = self;
        let (address, port, protocol) = (listener.ip(), listener.port(), protocol.name());
        let mut line = |line: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        };
        line(format!("  - name: {name}"));
        line(format!(
            r#"    listeners: [{{ address: "{address}", port: {port}, protocol: {protocol} }}]"#
        ));
        line(format!("    forwarding: {}", self.forwarding));
        for more in &self.more {
            line(format!("    {more}"));
        }
        line("    versions:".to_owned());
        for (index, version) in Version::ALL.into_iter().enumerate() {
            let weight = self.weights[index];
            line(format!("      {version}:"));
            line(format!("        weight: {}.{:02}%", weight / 100, weight % 100));
            line("        backends:".to_owned());
            for backend in &self.backends[index] {
                line(format!(r#"          - {{ address: "{backend}", port: {port} }}"#));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn a_service_reads_as_in_the_documentation() {
        let service = ServiceSpec {
            name: "web6".to_owned(),
            listener: "[fd40::100]:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            forwarding: "nat",
            weights: [0; 3],
            backends: ["fd61::2", "fd62::2", "fd63::2"]
                .map(|address| vec![address.parse().unwrap()]),
            more: Vec::new(),
        };
        let text = yaml(&[service.weights([6666, 0, 3334]).with("affinity: client")]);
        assert_eq!(
            text,
            r#"services:
  - name: web6
    listeners: [{ address: "fd40::100", port: 80, protocol: tcp }]
    forwarding: nat
    affinity: client
    versions:
      blue:
        weight: 66.66%
        backends:
          - { address: "fd61::2", port: 80 }
      green:
        weight: 0.00%
        backends:
          - { address: "fd62::2", port: 80 }
      canary:
        weight: 33.34%
        backends:
          - { address: "fd63::2", port: 80 }
"#
        );
    }
}
