//! Flows: the headers of their packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_ebpf::bench::{FRAME_LEN, FRAME_SKIPS, FRAME_WORDS};

use crate::frames::{ACK, Frame, PSH, SYN};

/// Services that flows can be spread over.
pub const SERVICES: u32 = 512;
/// Their port.
pub const PORT: u16 = 80;
/// Where an IPv4 source address begins in a frame, an IPv6 one, and the source port behind each.
const SOURCE: [usize; 2] = [26, 22];
const SOURCE_PORT: [usize; 2] = [34, 54];
/// Clients are in 11.0.0.0/8, or `2001:db8:c::/48`.
const CLIENTS: u8 = 11;

/// The first bytes of a frame behind [`FRAME_SKIPS`] others, as they lie in memory.
pub type Headers = [u64; FRAME_WORDS];

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP within a connection.
    Established,
    /// TCP that opens one.
    Syn,
    /// UDP.
    Datagram,
}

/// The address of a service's listener.
#[must_use]
pub fn listener_v4(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be_bytes([198, 18, 0, 0]) + service)
}

/// The same of IPv6.
#[must_use]
pub fn listener_v6(service: u32) -> Ipv6Addr {
    Ipv6Addr::from(
        u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0x12, 0, 0, 0, 0, 0)) + u128::from(service),
    )
}

/// Flows over services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flows {
    /// IPv6, not IPv4.
    pub v6: bool,
    /// Their packets.
    pub kind: Kind,
    /// The first service.
    pub first: u32,
    /// How many take turns.
    pub services: u32,
}

impl Flows {
    /// The headers of the first so many. Addresses and ports of clients are by chance, the same each
    /// time; checksums are not theirs, for nobody looks at them.
    pub fn headers(self, count: usize) -> impl Iterator<Item = Headers> {
        let frames: Vec<Vec<u8>> =
            (self.first..self.first + self.services).map(|service| self.frame(service)).collect();
        let family = usize::from(self.v6);
        (0..count).map(move |flow| {
            let mut frame = frames[flow % frames.len()].clone();
            let chance = mixed(flow as u64).to_le_bytes();
            let place = SOURCE[family] + if self.v6 { 13 } else { 1 };
            frame[place..place + 3].copy_from_slice(&chance[..3]);
            frame[SOURCE_PORT[family]..][..2].copy_from_slice(&[chance[3] | 0x80, chance[4]]);
            let shifted = [&[0; FRAME_SKIPS][..], &frame].concat();
            let mut headers = [0; FRAME_WORDS];
            for (word, bytes) in headers.iter_mut().zip(shifted.as_chunks().0) {
                *word = u64::from_ne_bytes(*bytes);
            }
            headers
        })
    }

    /// A packet of a flow to this service.
    fn frame(self, service: u32) -> Vec<u8> {
        let (client, listener): (IpAddr, IpAddr) = if self.v6 {
            (Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1).into(), listener_v6(service).into())
        } else {
            (Ipv4Addr::new(CLIENTS, 0, 0, 1).into(), listener_v4(service).into())
        };
        let (from, to) = (SocketAddr::new(client, 40_000), SocketAddr::new(listener, PORT));
        let mut frame = match self.kind {
            Kind::Established => Frame::tcp(from, to, PSH | ACK),
            Kind::Syn => Frame::tcp(from, to, SYN),
            Kind::Datagram => Frame { payload: Vec::new(), ..Frame::udp(from, to) },
        };
        frame.payload = vec![0; FRAME_LEN - frame.bytes().len()];
        frame.bytes()
    }
}

/// A number with its bits mixed, each to another (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
