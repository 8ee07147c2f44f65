//! Reads the kernel's rtnetlink messages. Pure, and the only place that knows their shape.

use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};

use super::Mac;
use super::table::{Hints, Neighbour, Target};

/// The interface's index and MAC, if it can carry Ethernet frames to a neighbour: Ethernet, no
/// loopback, up, with a carrier.
pub(super) fn link(message: &LinkMessage) -> Option<(u32, Mac)> {
    let header = &message.header;
    let usable = header.link_layer_type == LinkLayerType::Ether
        && header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
        && !header.flags.contains(LinkFlags::Loopback);
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => mac(bytes),
        _ => None,
    })?;
    usable.then_some((header.index, address))
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
pub(super) fn route(destination: IpAddr, message: &RouteMessage) -> Option<Target> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut interface = None;
    let mut address = destination;
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
            _ => {}
        }
    }
    interface.map(|interface| Target { interface, address })
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
