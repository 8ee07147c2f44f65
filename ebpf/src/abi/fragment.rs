//! Fragments of packets: how the later ones find the way of the first.

use super::Address;

/// Packets whose fragments are followed at once.
pub const MAX_FRAGMENTED: u32 = 65_536;
/// How long the first fragment is remembered, in seconds: as long as receivers wait for the rest.
pub const FRAGMENT_SECONDS: u32 = 30;

/// What the fragments of one packet have in common: key of `FRAGMENTS`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct FragmentKey {
    /// Who sent it.
    pub source: Address,
    /// Whom it is for.
    pub destination: Address,
    /// The packet's identification, as it lies in the header.
    pub id: u32,
    /// What the fragments carry, [`TCP`](super::TCP) or [`UDP`](super::UDP).
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// What only the first fragment says: value of `FRAGMENTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FragmentPorts {
    /// Sender's port, network byte order.
    pub source: u16,
    /// Receiver's port, network byte order.
    pub destination: u16,
    /// When the first fragment was seen, in seconds since boot (`CLOCK_MONOTONIC`).
    pub seen: u32,
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentPorts>() == 8);
};
