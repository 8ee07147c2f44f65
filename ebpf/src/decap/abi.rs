//! What lies in the decapsulator's maps, byte for byte. The rules are those of [`crate::abi`].

/// Addresses of the host that packets are taken for, at most.
pub const MAX_LOCALS: u32 = 4_096;

/// What is set before the program is loaded, for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Config {
    /// UDP port of GUE, network byte order.
    pub gue_port: u16,
    /// Zero.
    pub pad: u16,
}

impl Config {
    /// What holds when nothing is set: the port that IANA has assigned to GUE.
    pub const DEFAULT: Self = Self::new(6080);

    /// By the port in the processor's byte order.
    #[must_use]
    pub const fn new(gue_port: u16) -> Self {
        Self { gue_port: gue_port.to_be(), pad: 0 }
    }
}

/// An IP family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an `EtherType` in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn of_ethertype(kind: u16) -> Option<Self> {
        match u16::from_be(kind) {
            0x0800 => Some(Self::V4),
            0x86dd => Some(Self::V6),
            _ => None,
        }
    }

    /// Its `EtherType`, network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => 0x0800_u16.to_be(),
            Self::V6 => 0x86dd_u16.to_be(),
        }
    }

    /// The family of the first four bits of a header.
    #[inline(always)]
    #[must_use]
    pub const fn of_version(version: u8) -> Option<Self> {
        match version {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// How a stripped packet was wrapped: index of [`Counters::kinds`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    /// IPv4 in IPv4.
    Ipip = 0,
    /// IPv6 in IPv6.
    Ip6Ip6 = 1,
    /// IPv4 in IPv6.
    Ip4Ip6 = 2,
    /// IPv6 in IPv4.
    Ip6Ip4 = 3,
    /// IPv4 in GUE, in either family.
    Gue4 = 4,
    /// IPv6 in GUE, in either family.
    Gue6 = 5,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Ipip, Self::Ip6Ip6, Self::Ip4Ip6, Self::Ip6Ip4, Self::Gue4, Self::Gue6];

    /// By what it is made of.
    #[inline(always)]
    #[must_use]
    pub const fn of(gue: bool, outer: Family, inner: Family) -> Self {
        match (gue, outer, inner) {
            (true, _, Family::V4) => Self::Gue4,
            (true, _, Family::V6) => Self::Gue6,
            (false, Family::V4, Family::V4) => Self::Ipip,
            (false, Family::V6, Family::V6) => Self::Ip6Ip6,
            (false, Family::V6, Family::V4) => Self::Ip4Ip6,
            (false, Family::V4, Family::V6) => Self::Ip6Ip4,
        }
    }

    /// The name as shown, inner family first.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Ip6Ip6 => "ip6ip6",
            Self::Ip4Ip6 => "ip4ip6",
            Self::Ip6Ip4 => "ip6ip4",
            Self::Gue4 => "gue4",
            Self::Gue6 => "gue6",
        }
    }
}

/// Why a tunnel's packet was not stripped: index of [`Counters::reasons`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u32)]
pub enum Reason {
    /// Passed: to an address that is not the host's.
    Elsewhere = 0,
    /// Passed: the outer packet is a fragment.
    Fragment = 1,
    /// Passed: the outer packet is cut short, or a length of it is impossible.
    Outer = 2,
    /// Passed: a GUE header of a variant, or with content, that is not understood.
    Gue = 3,
    /// Passed, by TC: more VLAN tags than the kernel's helper can strip below, or several datagrams
    /// that the kernel has joined into one.
    Unable = 4,
    /// Dropped: there is no sound packet inside.
    Inner = 5,
    /// Dropped: it met congestion, and its sender does not know ECN (RFC 6040).
    Ecn = 6,
    /// Dropped: the kernel failed half-way.
    Rewrite = 7,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Elsewhere,
        Self::Fragment,
        Self::Outer,
        Self::Gue,
        Self::Unable,
        Self::Inner,
        Self::Ecn,
        Self::Rewrite,
    ];

    /// The name as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Elsewhere => "elsewhere",
            Self::Fragment => "fragment",
            Self::Outer => "outer_malformed",
            Self::Gue => "gue_unknown",
            Self::Unable => "unable",
            Self::Inner => "inner_malformed",
            Self::Ecn => "ecn",
            Self::Rewrite => "rewrite",
        }
    }

    /// Whether such a packet is dropped; else it is left to the stack.
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(self, Self::Inner | Self::Ecn | Self::Rewrite)
    }
}

/// What was stripped of one [`Kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Stripped {
    /// Packets.
    pub packets: u64,
    /// Bytes: whole frames, as they came in.
    pub bytes: u64,
}

/// The one element of `COUNTERS` on one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// By [`Kind`]; the last two are not used.
    pub kinds: [Stripped; 8],
    /// Packets by [`Reason`].
    pub reasons: [u64; 8],
}

/// No padding, and room for every index.
const _: () = {
    use core::mem::size_of;
    assert!(size_of::<Config>() == 4);
    assert!(size_of::<Stripped>() == 16);
    assert!(size_of::<Counters>() == 192);
    assert!(Kind::ALL.len() <= 8 && Reason::ALL.len() <= 8);
};

/// Lets the agent write and read these types through `aya`.
#[cfg(feature = "user")]
mod user {
    use super::{Config, Counters};

    // SAFETY: `repr(C)`, integers only, and no padding (the assertions above).
    unsafe impl aya::Pod for Config {}
    // SAFETY: the same.
    unsafe impl aya::Pod for Counters {}
}
