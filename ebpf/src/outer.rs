//! What is put around a packet for a backend behind a tunnel: an IP header of the backend's
//! family (RFC 2003, RFC 2473, RFC 4213), and with GUE a UDP header behind it, which the inner IP
//! header follows at once (draft-ietf-intarea-gue, variant 1).
//!
//! Headers are arrays of words as they lie in memory, to be written one by one.

use crate::abi::{Address, FORWARD_DSR_L2, FORWARD_GUE, FORWARD_NAT, UDP};
use crate::checksum::fold;

/// IP protocol number of IPv4 in IP.
pub const IPIP: u8 = 4;
/// IP protocol number of IPv6 in IP.
pub const IPV6: u8 = 41;
/// Bytes of the outer IPv4 header.
pub const IPV4_LEN: u32 = 20;
/// Bytes of the outer IPv6 header.
pub const IPV6_LEN: u32 = 40;
/// Bytes of the UDP header.
pub const UDP_LEN: u32 = 8;

/// Hops that an outer header has left.
const HOP_LIMIT: u8 = 64;
/// IPv4's flag "don't fragment", with an offset of zero.
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
/// First source port: the lowest of the dynamic ones, of which there are 2^14 (RFC 6335).
const FIRST_PORT: u16 = 49_152;

/// Whether packets of a service with this mode are put into a tunnel.
#[inline(always)]
#[must_use]
pub const fn is_tunnel(forwarding: u8) -> bool {
    forwarding != FORWARD_NAT && forwarding != FORWARD_DSR_L2
}

/// Bytes that this mode puts around a packet to this backend.
#[inline(always)]
#[must_use]
pub const fn length(forwarding: u8, backend: Address) -> u32 {
    if !is_tunnel(forwarding) {
        return 0;
    }
    let ip = if backend.is_v4() { IPV4_LEN } else { IPV6_LEN };
    if forwarding == FORWARD_GUE { ip + UDP_LEN } else { ip }
}

/// The protocol number in the outer IP header.
#[inline(always)]
#[must_use]
pub const fn protocol(forwarding: u8, inner_is_v4: bool) -> u8 {
    match (forwarding, inner_is_v4) {
        (FORWARD_GUE, _) => UDP,
        (_, true) => IPIP,
        (_, false) => IPV6,
    }
}

/// What an outer header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer {
    /// The node.
    pub source: Address,
    /// The backend, of the same family.
    pub destination: Address,
    /// See [`protocol`].
    pub protocol: u8,
    /// DSCP and ECN of the inner header, which the outer one takes over (RFC 6040, normal mode).
    pub traffic_class: u8,
    /// Bytes of the outer packet, with its own headers. Of a packet that is still to be cut into
    /// segments it may be more than fits into a header; then the header says zero, as the kernel's
    /// tunnels do, and each segment gets its own.
    pub length: u32,
    /// Hash of the flow.
    pub hash: u32,
}

impl Outer {
    /// The IPv4 header: no fragmentation, hence no identification (RFC 6864).
    #[inline(always)]
    #[must_use]
    pub fn ipv4(&self) -> [u32; 5] {
        let [high, low] = length_field(self.length);
        let [flags, offset] = DONT_FRAGMENT;
        let mut words = [
            u32::from_ne_bytes([0x45, self.traffic_class, high, low]),
            u32::from_ne_bytes([0, 0, flags, offset]),
            u32::from_ne_bytes([HOP_LIMIT, self.protocol, 0, 0]),
            self.source.0[3],
            self.destination.0[3],
        ];
        let sum = words.iter().map(|word| u64::from(*word)).sum();
        let [high, low] = (!fold(sum)).to_ne_bytes();
        words[2] = u32::from_ne_bytes([HOP_LIMIT, self.protocol, high, low]);
        words
    }

    /// The IPv6 header. Its flow label is of the flow's hash, for the fabric's ECMP (RFC 6438).
    #[inline(always)]
    #[must_use]
    pub const fn ipv6(&self) -> [u32; 10] {
        let first = 6 << 28 | (self.traffic_class as u32) << 20 | self.hash >> 12;
        let [high, low] = length_field(self.length - IPV6_LEN);
        let (s, d) = (self.source.0, self.destination.0);
        let second = u32::from_ne_bytes([high, low, self.protocol, HOP_LIMIT]);
        [first.to_be(), second, s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3]]
    }

    /// The UDP header to `port` (network byte order). Its source port is of the flow's hash, and it
    /// has no checksum: the inner packet has its own (RFC 6935 and 6936 for IPv6).
    #[inline(always)]
    #[must_use]
    pub const fn udp(&self, port: u16) -> [u32; 2] {
        let [s0, s1] = source_port(self.hash).to_be_bytes();
        let [d0, d1] = port.to_ne_bytes();
        let ip = if self.destination.is_v4() { IPV4_LEN } else { IPV6_LEN };
        let [high, low] = length_field(self.length - ip);
        [u32::from_ne_bytes([s0, s1, d0, d1]), u32::from_ne_bytes([high, low, 0, 0])]
    }
}

/// The UDP source port of a flow, 49152 to 65535. The hash's upper bits: the lower ones have
/// picked the backend, and are alike for all that goes there.
#[inline(always)]
#[must_use]
pub const fn source_port(hash: u32) -> u16 {
    FIRST_PORT + (hash >> 18) as u16
}

#[inline(always)]
const fn length_field(bytes: u32) -> [u8; 2] {
    (if bytes > 0xffff { 0 } else { bytes as u16 }).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::FORWARD_IPIP;

    const V4: [Address; 2] = [Address::from_v4([10, 1, 2, 3]), Address::from_v4([10, 9, 8, 7])];
    const V6: [Address; 2] = [Address([0x20fd, 1, 2, 3]), Address([0x20fd, 4, 5, 6])];

    fn bytes<const N: usize>(words: [u32; N]) -> Vec<u8> {
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    fn outer([source, destination]: [Address; 2], protocol: u8) -> Outer {
        let (traffic_class, length, hash) = (0xb9, 1_028, 0xffff_f000);
        Outer { source, destination, protocol, traffic_class, length, hash }
    }

    #[test]
    fn ipv4_byte_for_byte() {
        let expected =
            [0x45, 0xb9, 0x04, 0x04, 0, 0, 0x40, 0, 64, 4, 0x18, 0x2a, 10, 1, 2, 3, 10, 9, 8, 7];
        assert_eq!(bytes(outer(V4, IPIP).ipv4()), expected);
    }

    #[test]
    fn ipv6_byte_for_byte() {
        let bytes = bytes(outer(V6, UDP).ipv6());
        assert_eq!(bytes[..8], [0x6b, 0x9f, 0xff, 0xff, 0x03, 0xdc, 17, 64]);
        assert_eq!(bytes[8..12], [0xfd, 0x20, 0, 0]);
        assert_eq!(bytes[24..32], [0xfd, 0x20, 0, 0, 4, 0, 0, 0]);
    }

    #[test]
    fn udp_byte_for_byte() {
        let port = 6_080_u16.to_be();
        let v4 = bytes(outer(V4, UDP).udp(port));
        assert_eq!(v4, [0xff, 0xff, 0x17, 0xc0, 0x03, 0xf0, 0, 0]);
        let v6 = bytes(outer(V6, UDP).udp(port));
        assert_eq!(v6, [0xff, 0xff, 0x17, 0xc0, 0x03, 0xdc, 0, 0]);
        assert_eq!((source_port(0), source_port(u32::MAX)), (49_152, 65_535));
    }

    #[test]
    fn a_length_that_does_not_fit_is_zero() {
        let long = Outer { length: 65_536, ..outer(V4, UDP) };
        assert_eq!(bytes(long.ipv4())[2..4], [0, 0]);
        assert_eq!(bytes(long.udp(1))[4..6], [0xff, 0xec]);
        let long = Outer { length: 65_535 + 40, ..outer(V6, IPV6) };
        assert_eq!(bytes(long.ipv6())[4..6], [0xff, 0xff]);
    }

    #[test]
    fn room_by_mode_and_family() {
        let room = |mode| [length(mode, V4[0]), length(mode, V6[0])];
        assert_eq!([FORWARD_NAT, FORWARD_DSR_L2].map(room), [[0, 0]; 2]);
        assert_eq!([FORWARD_IPIP, FORWARD_GUE].map(room), [[20, 40], [28, 48]]);
    }
}
