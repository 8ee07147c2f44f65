//! The outer header that a packet gets on its way to a backend.

use weir_ebpf::abi::{Address, Reason, Service};
use weir_ebpf::outer::{self, Outer};
use weir_ebpf::packet::Packet;

use crate::count::config;
use crate::route::Chosen;

/// The node's own address that packets to this backend come from.
#[inline(always)]
fn source(backend: &Address) -> Address {
    if backend.is_v4() { Address::v4(config!(outer_v4)) } else { Address(config!(outer_v6)) }
}

/// Bytes that are put around a packet to this backend: zero, unless its service's backends are behind tunnels.
///
/// # Errors
///
/// [`Reason::NoSource`], when the node has no address of the backend's family to send from.
#[inline(always)]
pub(crate) fn room(service: &Service, backend: &Address) -> Result<u32, Reason> {
    let room = outer::length(service.forwarding, *backend);
    if room == 0 {
        return Ok(0);
    }
    let is_known =
        if backend.is_v4() { config!(outer_v4) != 0 } else { config!(outer_v6) != [0; 4] };
    if is_known { Ok(room) } else { Err(Reason::NoSource) }
}

/// What is put around a packet in a tunnel, if there is room for it.
#[inline(always)]
pub(crate) fn outer(packet: &Packet, chosen: &Chosen, backend: &Address, room: u32) -> Outer {
    Outer {
        source: source(backend),
        destination: *backend,
        protocol: outer::protocol(chosen.service.forwarding, packet.is_v4()),
        traffic_class: packet.traffic_class,
        length: packet.length + room,
        hash: chosen.hash,
    }
}
