//! The modes in which answers do not come back through the node: `dsr-l2`, `dsr-ipip`, `dsr-gue`.
//! The packet itself stays as it is, but for a hop in a tunnel; what is around it is checked byte
//! for byte, against a hash that is reckoned here.

use weir_ebpf::abi::{Address, FlowKey};
use weir_ebpf::hash;

use crate::frames::address;
use crate::packet::{Body, Packet, ip};

/// The seed of all services of `DIRECT`, as the words that hashes begin with.
const SEED: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
/// Where packets in tunnels come from.
const OUTER: [&str; 2] = ["203.0.113.9", "2001:db8:113::9"];
/// The port of the tunnels of services that say nothing of it, and of those that do.
const GUE_PORTS: [u16; 2] = [6_080, 7_070];

/// From a client to a listener, and how a packet gets to its backend.
#[derive(Clone, Copy)]
pub(super) struct Way {
    name: &'static str,
    pub(super) listener: &'static str,
    pub(super) backend: &'static str,
    pub(super) tunnel: Tunnel,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    None,
    Ip,
    /// To this port.
    Gue(u16),
}

const fn way(name: &'static str, ends: [&'static str; 2], tunnel: Tunnel) -> Way {
    Way { name, listener: ends[0], backend: ends[1], tunnel }
}

/// As the services of `DIRECT` say.
pub(super) const WAYS: [Way; 9] = [
    way("l2/4", ["198.51.100.1", "10.0.0.1"], Tunnel::None),
    way("l2/6", ["2001:db8::1", "fd00::1"], Tunnel::None),
    way("ipip/4-in-4", ["198.51.100.2", "10.0.0.2"], Tunnel::Ip),
    way("ipip/4-in-6", ["198.51.100.3", "fd00::3"], Tunnel::Ip),
    way("ipip/6-in-6", ["2001:db8::2", "fd00::2"], Tunnel::Ip),
    way("gue/4-in-4", ["198.51.100.4", "10.0.0.4"], Tunnel::Gue(GUE_PORTS[0])),
    way("gue/4-in-6", ["198.51.100.5", "fd00::5"], Tunnel::Gue(GUE_PORTS[1])),
    way("gue/6-in-4", ["2001:db8::4", "10.0.0.6"], Tunnel::Gue(GUE_PORTS[0])),
    way("gue/6-in-6", ["2001:db8::5", "fd00::6"], Tunnel::Gue(GUE_PORTS[1])),
];

impl Way {
    pub(super) fn client(&self) -> &'static str {
        if self.listener.contains(':') { "2001:db8:7::7" } else { "192.0.2.7" }
    }

    pub(super) fn tcp(&self, flags: u8) -> Packet {
        ip(self.client(), self.listener).tcp(40_000, 80, flags)
    }

    pub(super) fn udp(&self) -> Packet {
        ip(self.client(), self.listener).udp(40_000, 80).data(b"hello")
    }

    /// The same for what belongs to the flow of another packet.
    pub(super) fn carried(&self, input: &Packet, flow: &Packet) -> Packet {
        if self.tunnel == Tunnel::None {
            return input.clone();
        }
        let inner = input.inner();
        let hash = flow_hash(flow);
        let source = OUTER[usize::from(self.backend.contains(':'))];
        let outer = ip(source, self.backend).ttl(64).tos(inner.tos);
        let outer = if self.backend.contains(':') {
            outer.flow_label(hash >> 12)
        } else {
            outer.id(0).df()
        };
        let outer = match self.tunnel {
            Tunnel::Gue(port) => {
                let from = 49_152 + u16::try_from(hash >> 18).unwrap();
                outer.udp(from, port).no_checksum()
            }
            _ => outer,
        };
        input.clone().ttl(inner.ttl - 1).within(outer)
    }

    pub(super) fn named(&self, name: &str) -> String {
        format!("direct/{}/{name}", self.name)
    }
}

/// The half of a flow's hash that picks the backend, with the seed of `DIRECT`.
pub(super) fn flow_hash(packet: &Packet) -> u32 {
    let ip = packet.inner();
    let (ports, protocol) = match &ip.body {
        Body::Tcp(tcp) => (tcp.ports, 6),
        Body::Udp(udp) => (udp.ports, 17),
        body => panic!("no flow: {body:?}"),
    };
    let ends: [Address; 2] = [ip.source, ip.destination].map(address);
    let key = FlowKey {
        source: ends[0],
        destination: ends[1],
        source_port: ports[0].to_be(),
        destination_port: ports[1].to_be(),
        protocol,
        pad: [0; 3],
    };
    u32::try_from(hash::flow(SEED, &key) & 0xffff_ffff).unwrap()
}
