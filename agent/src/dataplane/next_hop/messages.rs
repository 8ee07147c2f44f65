//! Reads the kernel's rtnetlink messages. Pure, and the only place that knows their shape.

use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};

use super::link::{Link, Vlan};
use super::table::{Hints, Neighbour, Route, Target};
use super::{Device, DeviceKind, Mac, OwnAddress};

/// The interface's index, and what it is. It carries Ethernet frames to neighbours if it is
/// Ethernet, no loopback, up, with a carrier. Whether it takes redirected frames is not said here.
pub(super) fn link(message: &LinkMessage) -> (u32, Link) {
    let header = &message.header;
    let usable = header.link_layer_type == LinkLayerType::Ether
        && header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
        && !header.flags.contains(LinkFlags::Loopback);
    // The kernel names a kind for devices of its own making only.
    let (name, kind) = (String::new(), DeviceKind::Hardware);
    let mut device = Device { name, kind, redirect: None, in_buffers: false };
    let (mut address, mut mtu, mut lower, mut tag, mut elsewhere) = (None, 0, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Address(bytes) => address = mac(bytes),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(parts) => {
                for part in parts {
                    match part {
                        LinkInfo::Kind(InfoKind::Veth) => device.kind = DeviceKind::Veth,
                        LinkInfo::Kind(_) => device.kind = DeviceKind::Other,
                        LinkInfo::Data(InfoData::Vlan(parts)) => tag = vlan_tag(parts),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let lower = lower.filter(|_| !elsewhere);
    let vlan = lower.zip(tag).map(|(lower, tag)| Vlan { lower, tag });
    (header.index, Link { device, mac: address.filter(|_| usable), mtu, vlan })
}

/// The tag of a VLAN, as on the wire.
fn vlan_tag(parts: &[InfoVlan]) -> Option<u32> {
    let id = parts.iter().find_map(|part| match part {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })?;
    let protocol = parts.iter().find_map(|part| match part {
        InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
        _ => None,
    })?;
    let ([a, b], [c, d]) = (protocol.to_be_bytes(), id.to_be_bytes());
    Some(u32::from_ne_bytes([a, b, c, d]))
}

/// An address of the node in this message that other hosts can send to, with its prefix: of global
/// scope, and neither deprecated nor still or ever in doubt.
pub(super) fn own(message: &AddressMessage) -> Option<OwnAddress> {
    let header = &message.header;
    let doubtful = AddressHeaderFlags::Deprecated
        | AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Dadfailed;
    let usable = header.scope == AddressScope::Universe && !header.flags.intersects(doubtful);
    let address = local(message).filter(|_| usable)?;
    Some(OwnAddress { interface: header.index, address, prefix: header.prefix_len })
}

/// The node's own address in this message.
pub(super) fn local(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    // On a point-to-point interface `Address` is the peer's; where there is a `Local`, it is ours.
    find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// The way to `destination` that this route says. None for what does not leave through a
/// neighbour (the node's own addresses, unreachable ones) and for what must be encapsulated.
pub(super) fn route(destination: IpAddr, message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut interface = None;
    let mut address = destination;
    let mut mtu = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway))
            | RouteAttribute::Via(RouteVia::Inet(gateway)) => address = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
            | RouteAttribute::Via(RouteVia::Inet6(gateway)) => address = (*gateway).into(),
            RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::EncapType(_)
            | RouteAttribute::Encap(_) => return None,
            RouteAttribute::Metrics(metrics) => mtu = route_mtu(metrics),
            _ => {}
        }
    }
    interface.map(|interface| Route { via: Target { interface, address }, mtu })
}

/// The MTU that a route sets, or that the kernel has learned of the path; else zero.
fn route_mtu(metrics: &[RouteMetric]) -> u32 {
    let mtu = |metric: &RouteMetric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    };
    metrics.iter().find_map(mtu).unwrap_or(0)
}

/// What this entry of the neighbour table says.
pub(super) fn neighbour(message: &NeighbourMessage) -> Neighbour {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    });
    match (message.header.state, address) {
        (NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => Neighbour::Fixed(mac),
        (NeighbourState::Stale, Some(mac)) => Neighbour::Stale(mac),
        (NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe, Some(mac)) => {
            Neighbour::Fresh(mac)
        }
        (NeighbourState::Incomplete, _) => Neighbour::Asked,
        _ => Neighbour::Missing,
    }
}

/// Adds to `hints` what this event may have changed.
pub(super) fn hint(message: &RouteNetlinkMessage, hints: &mut Hints) {
    match message {
        RouteNetlinkMessage::NewNeighbour(event) | RouteNetlinkMessage::DelNeighbour(event) => {
            if let Some(target) = target(event) {
                hints.add(target);
            }
        }
        _ => hints.everything = true,
    }
}

/// Which neighbour this message is about; None for a bridge's forwarding entries.
fn target(message: &NeighbourMessage) -> Option<Target> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })?;
    Some(Target { interface: message.header.ifindex, address })
}

/// An Ethernet address: six bytes, not all zero.
fn mac(bytes: &[u8]) -> Option<Mac> {
    Mac::try_from(bytes).ok().filter(|mac| mac != &[0; 6])
}

#[cfg(test)]
mod tests;
