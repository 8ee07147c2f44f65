//! What outer headers show of the flow's hash: IPv6's flow label, and GUE's source port. The hash
//! depends on the service's secret seed, so no case can name it. The flow's first packet tells it,
//! and all others must show the same, at both hooks.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::packet::Packet;

/// The lowest source port: all from here on are "dynamic" (RFC 6335), weir takes no others.
const FIRST_PORT: u16 = 49_152;

/// What a flow shows.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Shown {
    port: Option<u16>,
    label: Option<u32>,
}

impl Shown {
    /// What a frame's outer headers show; nothing where there is no such field.
    #[must_use]
    pub(super) fn by(frame: &[u8]) -> Self {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Self::default() };
        let label = match packet.net {
            Some(NetSlice::Ipv6(ip)) => Some(ip.header().flow_label().value()),
            _ => None,
        };
        let port = match packet.transport {
            Some(TransportSlice::Udp(udp)) => Some(udp.source_port()),
            _ => None,
        };
        Self { port, label }
    }

    /// Takes from a frame what is not known yet.
    pub(super) fn learn(&mut self, frame: &[u8]) {
        let now = Self::by(frame);
        *self = Self { port: self.port.or(now.port), label: self.label.or(now.label) };
    }

    /// The expected frame, showing what is known of its flow. If nothing is known yet, `got` tells.
    ///
    /// # Errors
    ///
    /// What `got` tells is none that weir may take.
    pub(super) fn complete(&mut self, expected: &Packet, got: &[u8]) -> Result<Packet, String> {
        if !expected.is_tunnel() {
            return Ok(expected.clone());
        }
        self.learn(got);
        match self.port {
            Some(port) if port < FIRST_PORT => {
                Err(format!("the outer source port {port} is below {FIRST_PORT}"))
            }
            port => Ok(expected.clone().shows(port, self.label)),
        }
    }
}

/// Port and label that a frame shows, for comparing flows.
#[must_use]
pub fn shown(frame: &[u8]) -> (Option<u16>, Option<u32>) {
    let Shown { port, label } = Shown::by(frame);
    (port, label)
}
