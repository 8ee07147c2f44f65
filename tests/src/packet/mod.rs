//! Packets as layers: short to write, and rendered to the bytes that stand on the wire.
//!
//! ```text
//! let input = ipv4("192.0.2.7", "198.51.100.1").tcp(40_000, 80, SYN).payload(10);
//! let output = input.clone().to("10.0.0.1:8080").ttl(63);
//! let tunnelled = input.within(ipv4("10.0.0.9", "10.0.0.1"));
//! ```
//!
//! - this file: the layers
//! - `build`: how they are put together, and changed
//! - [`bytes`]: the bytes, with right lengths and checksums unless a packet is broken on purpose
//! - [`eyes`]: a frame read back by `etherparse`, every checksum verified
//! - [`diff`]: where two frames differ, in words
//!
//! A method that does not fit the layers that are there (a TCP option in a datagram) panics: these
//! are the tools of tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

mod build;
pub mod bytes;
pub mod diff;
pub mod eyes;

use std::net::IpAddr;

pub use build::{ip, other, pattern};

pub use crate::frames::{ACK, FIN, PSH, RST, SYN};

/// TCP: urgent.
pub const URG: u8 = 0x20;
/// TCP: congestion was met.
pub const ECE: u8 = 0x40;
/// TCP: the congestion window is reduced.
pub const CWR: u8 = 0x80;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// IPv6 extension headers.
pub const HOP_BY_HOP: u8 = 0;
/// Routing.
pub const ROUTING: u8 = 43;
/// Fragment.
pub const FRAGMENT: u8 = 44;
/// Destination options.
pub const DESTINATION: u8 = 60;

/// A frame.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Destination and source.
    pub macs: [Mac; 2],
    /// VLAN tags, outermost first: tag protocol, and the tag (priority and id).
    pub tags: Vec<(u16, u16)>,
    /// What the frame carries.
    pub net: Net,
    /// Bytes behind the packet, as short frames have them.
    pub padding: Vec<u8>,
    /// The frame ends after so many bytes.
    pub cut: Option<usize>,
    /// Wrong on purpose: no reader is asked to like it.
    pub broken: bool,
}

/// What a frame carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Net {
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Something else: its ether type and bytes.
    Other(u16, Vec<u8>),
}

/// An IPv4 or IPv6 packet, by the family of its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ip {
    /// The sender.
    pub source: IpAddr,
    /// The receiver, of the same family.
    pub destination: IpAddr,
    /// Type of service, traffic class: DSCP and ECN.
    pub tos: u8,
    /// Hop limit.
    pub ttl: u8,
    /// IPv4: identification.
    pub id: u16,
    /// IPv4: flags and offset, as in the header (0x4000: do not fragment).
    pub fragment: u16,
    /// IPv4: a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6: 20 bits.
    pub flow_label: u32,
    /// IPv6: numbers of the headers, and the bytes after their first two (6, 14, 22 …).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What it carries.
    pub body: Body,
    /// What is wrong with it on purpose.
    pub wrong: Wrong,
}

/// Fields that are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wrong {
    /// IP version.
    pub version: Option<u8>,
    /// IPv4: header length, in words of four bytes. TCP's data offset likewise.
    pub words: Option<u8>,
    /// Length in the header of IP or UDP.
    pub length: Option<u16>,
    /// This is added to the right checksum, in one's complement.
    pub checksum: u16,
}

/// What an IP packet carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP of the packet's family.
    Icmp(Icmp),
    /// Another packet.
    Ip(Box<Ip>),
    /// Anything: its protocol number and bytes.
    Raw(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// Ports: source, destination.
    pub ports: [u16; 2],
    /// [`SYN`] and the like.
    pub flags: u8,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Vec<u8>,
    /// What is wrong with it on purpose.
    pub wrong: Wrong,
}

/// A UDP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Udp {
    /// Ports: source, destination.
    pub ports: [u16; 2],
    /// Whether there is a checksum; else it is zero.
    pub checksum: bool,
    /// What it carries.
    pub payload: Payload,
    /// What is wrong with it on purpose.
    pub wrong: Wrong,
}

/// An ICMP message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The second word of the header.
    pub rest: [u8; 4],
    /// What follows it.
    pub payload: Payload,
    /// What is wrong with it on purpose.
    pub wrong: Wrong,
}

/// What a datagram or an ICMP message carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A packet, up to so many of its bytes: a tunnel's, or the quote in an error.
    Ip(Box<Ip>, usize),
}

/// The MAC addresses of frames that come in: destination and source.
pub const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
