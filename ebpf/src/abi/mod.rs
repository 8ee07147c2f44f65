//! What lies in the maps, byte for byte: the contract between the program and the agent.
//!
//! Rules for every type here: `repr(C)`, no hidden padding, no `bool`, enum or `usize`. Addresses
//! and ports are in network byte order, as they stand in the packet; all else is in the order of
//! the processor. A change that a running program would misread needs a new [`VERSION`].

mod counter;
mod edges;
mod fragment;
mod rare;
mod root;
mod signal;
mod slot;
mod steering;
mod trace;

pub use counter::*;
pub use edges::*;
pub use fragment::*;
pub use rare::*;
pub use root::*;
pub use signal::*;
pub use slot::*;
pub use steering::*;
pub use trace::*;

/// Number of this contract. Part of every pin's path, so that two contracts never share a map.
pub const VERSION: u32 = 6;

/// Slots of a service's version table. A weight of one basis point is 1.6 slots.
pub const VERSION_SLOTS: u32 = 16_384;
/// Fewest slots of a version's backend table.
pub const MIN_BACKEND_SLOTS: u32 = 1_024;
/// Most slots of a version's backend table.
pub const MAX_BACKEND_SLOTS: u32 = 65_536;
/// Services of a node.
pub const MAX_SERVICES: u32 = 512;
/// Listeners of a node, and their addresses.
pub const MAX_LISTENERS: u32 = 16_384;
/// Most buckets that listeners lie in: half of their places stay free at the least.
pub const LISTENER_BUCKETS: u32 = MAX_LISTENERS;
/// Backends of a node, in all services and versions together. An index has 15 bits in a slot.
pub const MAX_BACKENDS: u32 = 16_384;
/// Network interfaces through which backends are reached.
pub const MAX_LINKS: u32 = 256;
/// Entries of `DEVICES`, of which an interface that XDP sends frames out of has one to three.
pub const MAX_DEVICES: u32 = 768;
/// Bit of a key of `DEVICES`, whose others are an interface's index: a frame that came in by this
/// interface may go back as `XDP_TX`. Without this entry it is redirected like any other: on a veth
/// `XDP_TX` waits until the peer happens to look, unless the peer has an XDP program.
pub const GOES_BACK: u32 = 1 << 31;
/// The same for a frame in several buffers (jumbo), which not every driver takes that takes others:
/// what it does not take is lost.
pub const IN_BUFFERS: u32 = 1 << 30;
/// Cache lines in the pool of tables: room for 512 services with the smallest tables, twice.
pub const POOL_LINES: u32 = 524_288;
/// Entries of the flow table unless the agent is told otherwise.
pub const DEFAULT_FLOWS: u32 = 1_048_576;
/// Entries of the table of UDP flows unless the agent is told otherwise.
pub const DEFAULT_UDP_FLOWS: u32 = 262_144;
/// Direct connections from clients to backends that are remembered, so that they are left alone.
pub const MAX_DIRECT: u32 = 65_536;
/// A UDP flow that was silent for longer has ended unless its service says otherwise, in seconds.
pub const UDP_IDLE_SECONDS: u16 = 30;

/// Versions of a service: blue, green, canary.
pub const VERSIONS: usize = 3;
/// Index of blue in every per-version array.
pub const BLUE: u8 = 0;
/// Index of green in every per-version array.
pub const GREEN: u8 = 1;
/// Index of canary in every per-version array.
pub const CANARY: u8 = 2;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// An IPv6 address, or an IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2), as
/// four words with the bytes in the order of the packet. An IPv6 packet with a mapped address is
/// not taken by the program, so the two families can never be mixed up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// The third word of every mapped IPv4 address.
    pub const MAPPED: u32 = 0xffff_u32.to_be();

    /// An IPv4 address; `word` holds its four bytes in the order of the packet.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, Self::MAPPED, word])
    }

    /// An IPv4 address by its bytes.
    #[must_use]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self::v4(u32::from_ne_bytes(octets))
    }

    /// An IPv6 address by its bytes.
    #[must_use]
    pub const fn from_v6(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::MAPPED
    }
}

/// Key of a listener, of a return path: an address with port and protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Endpoint {
    /// Where.
    pub address: Address,
    /// Port, network byte order.
    pub port: u16,
    /// IP protocol number, [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

impl Endpoint {
    /// The same bytes, as words in memory. Who hashes a key reads it by words, and would have to wait for a
    /// word of which the parts have just been written one by one.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u32; 5] {
        let [a, b, c, d] = self.address.0;
        let [high, low] = self.port.to_ne_bytes();
        [a, b, c, d, u32::from_ne_bytes([high, low, self.protocol, self.pad])]
    }
}

/// Listeners in a [`ListenerBucket`].
pub const LISTENER_PLACES: usize = 2;

/// An element of `LISTENERS`, a cache line; [`crate::listener_table`] says what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(64))]
pub struct ListenerBucket {
    /// Its listeners: an endpoint and whose it is, or zero.
    pub places: [[u64; 3]; LISTENER_PLACES],
    /// Zero.
    pub pad: [u64; 2],
}

/// Part of an element of `LISTENERS`: whom packets to this endpoint belong to. A listener for any port has port
/// zero. Each address of a listener has one more entry, with port and protocol zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Listener {
    /// Index of the service, below [`MAX_SERVICES`], in bits 0–15. In the others, where the listener
    /// itself leads to a version whatever the weights, that version and one. Of an address,
    /// [`NO_SERVICE`].
    pub service: u32,
}

impl Listener {
    /// A listener of a service; all its flows go to `version`, if there is one.
    #[must_use]
    pub const fn of(service: u32, version: Option<u8>) -> Self {
        let version = match version {
            Some(version) => version as u32 + 1,
            None => 0,
        };
        Self { service: service & 0xffff | version << 16 }
    }

    /// Index of the service.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self.service & 0xffff
    }

    /// What stands in for the version slot, as a steering entry does; nothing, where the service's
    /// weights and rules count.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> Option<SteerSlot> {
        match self.service >> 16 {
            0 => None,
            version => Some(SteerSlot::new(version as u8 - 1, version as u8 - 1, false)),
        }
    }
}

/// What stands for the address of a listener.
pub const NO_SERVICE: u32 = u32::MAX;

/// Value of `RETURNS`: what a backend's answer is turned back into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Return {
    /// The listener's address: the client must see this one.
    pub address: Address,
    /// The listener's port, network byte order.
    pub port: u16,
    /// Index of the backend, for counting.
    pub backend: u16,
}

/// A flow as its client sees it: the key of the flow tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct FlowKey {
    /// The client.
    pub source: Address,
    /// The listener.
    pub destination: Address,
    /// Client's port, network byte order.
    pub source_port: u16,
    /// Listener's port, network byte order.
    pub destination_port: u16,
    /// IP protocol number, [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl FlowKey {
    /// The same bytes, as words in memory; see [`Endpoint::words`].
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u32; 10] {
        let (s, d, pad) = (self.source.0, self.destination.0, self.pad);
        let (from, to) = (self.source_port.to_ne_bytes(), self.destination_port.to_ne_bytes());
        let ports = u32::from_ne_bytes([from[0], from[1], to[0], to[1]]);
        let last = u32::from_ne_bytes([self.protocol, pad[0], pad[1], pad[2]]);
        [s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], ports, last]
    }

    /// The flow whose words these are.
    #[must_use]
    pub const fn from_words(words: [u32; 10]) -> Self {
        let [s0, s1, s2, s3, d0, d1, d2, d3, ports, last] = words;
        let (ports, last) = (ports.to_ne_bytes(), last.to_ne_bytes());
        Self {
            source: Address([s0, s1, s2, s3]),
            destination: Address([d0, d1, d2, d3]),
            source_port: u16::from_ne_bytes([ports[0], ports[1]]),
            destination_port: u16::from_ne_bytes([ports[2], ports[3]]),
            protocol: last[0],
            pad: [last[1], last[2], last[3]],
        }
    }
}

/// A flow that is remembered: value of the flow tables. Eight bytes, so that it is read whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowEntry {
    /// Index of the backend that the flow is pinned to.
    pub backend: u16,
    /// What the client's side has shown: [`SEEN_SYN`] and the like.
    pub client: u8,
    /// What the server's side has shown (only where answers pass through the node).
    pub server: u8,
    /// When a packet was seen last, in seconds since boot (`CLOCK_MONOTONIC`).
    pub seen: u32,
}

/// Flows in a [`FlowBucket`].
pub const FLOW_BUCKET: usize = 7;

/// An element of the table of TCP flows; [`crate::flow_table`] says what it means. The entries and the
/// marks are a cache line of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct FlowBucket {
    /// The words of its flows' entries. Of element 0, the first is the number of buckets.
    pub entries: [u64; FLOW_BUCKET],
    /// A byte of each flow's hash, from the lowest on.
    pub marks: u64,
    /// Their keys, as words. Of element 0, the first is the secret of the hash.
    pub keys: [[u32; 10]; FLOW_BUCKET],
    /// Zero.
    pub pad: [u32; 10],
}

/// Buckets of a table that is to have room for so many flows: twice the places. With so many in it, not
/// one in ten million finds its buckets full (simulated: 917 504 places, each taken and freed ten times).
#[must_use]
pub const fn flow_buckets(flows: u32) -> u32 {
    // Places are told by a number of 32 bits, eight to a bucket.
    const MOST: u64 = u32::MAX as u64 / 8 - 1;
    let buckets = (flows as u64 * 2).div_ceil(FLOW_BUCKET as u64);
    if buckets < MOST { buckets as u32 } else { MOST as u32 }
}

/// The client sent a SYN.
pub const SEEN_SYN: u8 = 1;
/// This side sent something after its SYN.
pub const SEEN_DATA: u8 = 2;
/// This side sent a FIN.
pub const SEEN_FIN: u8 = 4;
/// This side sent a RST.
pub const SEEN_RST: u8 = 8;

impl FlowEntry {
    /// The entry as one word, as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        let (b, s) = (self.backend.to_ne_bytes(), self.seen.to_ne_bytes());
        u64::from_ne_bytes([b[0], b[1], self.client, self.server, s[0], s[1], s[2], s[3]])
    }

    /// The entry that lies in memory as this word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let w = word.to_ne_bytes();
        Self {
            backend: u16::from_ne_bytes([w[0], w[1]]),
            client: w[2],
            server: w[3],
            seen: u32::from_ne_bytes([w[4], w[5], w[6], w[7]]),
        }
    }

    /// Whether both sides have closed, or one has reset: only late packets may still come.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(self) -> bool {
        (self.client | self.server) & SEEN_RST != 0 || self.client & self.server & SEEN_FIN != 0
    }

    /// Whether a SYN with this flow's key would begin another flow: the client has closed its
    /// side, or either side has reset.
    #[inline(always)]
    #[must_use]
    pub const fn closed(self) -> bool {
        self.client & (SEEN_FIN | SEEN_RST) != 0 || self.server & SEEN_RST != 0
    }
}

/// The record of one service, a cache line. All records are replaced together, in one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Service {
    /// Key of the service's hashes.
    pub seed: [u64; 2],
    /// First line of the version table in the pool.
    pub version_table: u32,
    /// First line of each version's backend table.
    pub backend_table: [u32; VERSIONS],
    /// Slots of each version's backend table less one. A power of two less one.
    pub backend_mask: [u16; VERSIONS],
    /// What the version table says, as long as nothing moves in it.
    pub edges: Edges,
    /// Commit that last changed this record. Zero: there is no such service.
    pub generation: u32,
    /// What a flow is hashed by: [`AFFINITY_CONNECTION`] and the like.
    pub affinity: u8,
    /// How packets reach a backend: [`FORWARD_NAT`] and the like.
    pub forwarding: u8,
    /// What is remembered of UDP flows: [`UDP_TRACKED`] and the like.
    pub udp: u8,
    /// Bytes of the server id in a QUIC connection id, at most 8. Zero: short headers are routed
    /// like any other datagram.
    pub quic_id_length: u8,
    /// Upper three bits of the first byte of a connection id that names a server, in their place.
    pub quic_config: u8,
    /// What is counted beside traffic: [`SIGNALS_OFF`] and the like.
    pub signals: u8,
    /// With [`FORWARD_GUE`], the UDP port of the outer header, network byte order.
    pub gue_port: u16,
    /// Set of steering rules in `STEERING`. Zero: none.
    pub steering: u32,
    /// A tracked UDP flow that was silent for longer has ended, in seconds.
    pub udp_idle: u16,
    /// TCP flags of which a client's packet must have one to tell a signal: by [`signals`](Self::signals)
    /// and [`forwarding`](Self::forwarding), so that a packet which tells none is known by one look.
    pub watch: u8,
    /// Zero.
    pub pad2: u8,
}

/// Both slots by the whole flow.
pub const AFFINITY_CONNECTION: u8 = 0;
/// The version slot by the client's address, the backend slot by the whole flow.
pub const AFFINITY_CLIENT: u8 = 1;
/// Both slots by the client's address.
pub const AFFINITY_CLIENT_BACKEND: u8 = 2;

/// Destination address and port are rewritten, and answers turned back.
pub const FORWARD_NAT: u8 = 0;
/// Only the destination MAC address is rewritten.
pub const FORWARD_DSR_L2: u8 = 1;
/// The packet is put into an IP packet to the backend: RFC 2003 (4 in 4), RFC 2473 (4 or 6 in 6).
pub const FORWARD_IPIP: u8 = 2;
/// The packet is put into a UDP datagram to the backend: GUE variant 1
/// (draft-ietf-intarea-gue), in which the inner IP header follows UDP at once.
pub const FORWARD_GUE: u8 = 3;

/// UDP flows are remembered from their first datagram.
pub const UDP_TRACKED: u8 = 0;
/// Nothing is remembered: the tables alone decide, and a shift moves the flows of its slots.
pub const UDP_STATELESS: u8 = 1;
/// A QUIC Initial opens a flow as a SYN does; flows are remembered where a shift has moved slots.
pub const UDP_QUIC: u8 = 2;

/// Key of `SERVER_IDS`: a server id in the connection ids of a QUIC service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(C)]
pub struct ServerKey {
    /// Index of the service.
    pub service: u32,
    /// Bytes of the id, 1 to 8.
    pub length: u32,
    /// The id as a big-endian number.
    pub id: u64,
}

/// The record of one backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Backend {
    /// Where it is.
    pub address: Address,
    /// [`GIVEN_UP`], [`DOWN`] and room for more.
    pub flags: u32,
    /// Port, network byte order. Zero: the packet's own is kept.
    pub port: u16,
    /// Whose it is, see [`Backend::owner`].
    pub of: u16,
    /// The way there, see [`NextHop`]. One word, so that the agent can change it under traffic.
    pub next_hop: u64,
}

impl Backend {
    /// What says that a backend belongs to a version of a service: its index times four, and the
    /// version's.
    #[inline(always)]
    #[must_use]
    pub const fn owner(service: u32, version: u8) -> u16 {
        (service << 2) as u16 | version as u16 & 3
    }

    /// Index of the service that it belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn service(&self) -> u32 {
        (self.of >> 2) as u32
    }
}

/// Flag of a backend whose flows are void: they are decided anew.
pub const GIVEN_UP: u32 = 1;
/// Flag of a backend that does not answer. Tracked UDP flows leave it; those of TCP and QUIC do not,
/// for a check that fails is no proof of death.
pub const DOWN: u32 = 2;

/// A next hop in one word: the MAC address in bits 0–47 (first byte lowest), the index of the
/// [`Link`] in bits 48–63. Zero: not known, ask the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NextHop(pub u64);

impl NextHop {
    /// The way to `mac` through `link`, an index of `LINKS` from 1.
    #[must_use]
    pub const fn new(link: u16, mac: [u8; 6]) -> Self {
        let mut bytes = [0; 8];
        let (low, _) = bytes.split_at_mut(mac.len());
        low.copy_from_slice(&mac);
        Self(u64::from_le_bytes(bytes) | (link as u64) << 48)
    }

    /// Index of the link, zero when the hop is not known.
    #[inline(always)]
    #[must_use]
    pub const fn link(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// The MAC address.
    #[inline(always)]
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        let bytes = self.0.to_le_bytes();
        [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
    }
}

/// An interface through which backends are reached: value of `LINKS`. Index zero is never used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Link {
    /// Index of the interface. For a VLAN, the VLAN device: the kernel adds its tag.
    pub ifindex: u32,
    /// Index of the interface that frames with tags leave by: the device below a VLAN, or the
    /// same one.
    pub lower: u32,
    /// Largest IP packet that fits, in bytes. Zero: not known.
    pub mtu: u32,
    /// The interface's own MAC address.
    pub mac: [u8; 6],
    /// Not zero: a frame that came in by [`lower`](Self::lower) may go back as `XDP_TX`, as
    /// [`GOES_BACK`] says in `DEVICES`. Spares it that look-up.
    pub back: u8,
    /// Zero.
    pub pad: u8,
    /// Tags of the VLAN, outer one first, each as on the wire: protocol, then priority and id.
    /// Zero: none.
    pub tags: [u32; 2],
}

/// A limit on what one processor does in a second: a token bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Bucket {
    /// When it was filled last, nanoseconds since boot.
    pub filled: u64,
    /// What is left, in billionths.
    pub tokens: u64,
}

/// What one takes out of a [`Bucket`].
const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// The bucket at `now`, filled up by `rate` a second, at most 10^10. It holds at most what a
    /// tenth of a second gives, and one.
    ///
    /// The clock is coarse, some milliseconds. What is left is counted in billionths, or a tick that
    /// gives less than one would give nothing, ever.
    #[inline(always)]
    #[must_use]
    pub const fn refilled(self, rate: u64, now: u64) -> Self {
        let elapsed = now.wrapping_sub(self.filled);
        let elapsed = if elapsed > TOKEN { TOKEN } else { elapsed };
        let most = (rate / 10 + 1) * TOKEN;
        let tokens = self.tokens + elapsed * rate;
        Self { filled: now, tokens: if tokens > most { most } else { tokens } }
    }

    /// Whether there is one to take.
    #[inline(always)]
    #[must_use]
    pub const fn has_one(self) -> bool {
        self.tokens >= TOKEN
    }

    /// The bucket after one was taken, of which there was one.
    #[inline(always)]
    #[must_use]
    pub const fn less_one(self) -> Self {
        Self { filled: self.filled, tokens: self.tokens - TOKEN }
    }
}

/// What the agent sets before the program is loaded, for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Config {
    /// Inserts into the flow table a second on one processor, at most 10^10. More than that is a
    /// flood.
    pub inserts_per_second: u64,
    /// `BPF_F_IPV6` (128) where the kernel knows it (6.16), else zero: makes `bpf_l4_csum_replace`
    /// right for IPv6 packets whose sum the network card has reckoned.
    pub l4_ipv6_flag: u32,
    /// Source of outer IPv6 headers. Zero: there is none.
    pub outer_v6: [u32; 4],
    /// Source of outer IPv4 headers, network byte order. Zero: there is none.
    pub outer_v4: u32,
    /// Errors and echo answers sent a second on one processor, at most.
    pub icmp_per_second: u32,
    /// Zero.
    pub pad: u32,
}

impl Config {
    /// What holds when the agent sets nothing.
    pub const DEFAULT: Self = Self {
        inserts_per_second: 200_000,
        l4_ipv6_flag: 0,
        outer_v6: [0; 4],
        outer_v4: 0,
        icmp_per_second: 1_000,
        pad: 0,
    };
}

/// No padding, no surprise: sizes and offsets that the map definitions rely on.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<Listener>() == 4 && size_of::<ListenerBucket>() == 64);
    assert!(size_of::<Return>() == 20);
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<FlowEntry>() == 8);
    assert!(size_of::<FlowBucket>() == 384 && offset_of!(FlowBucket, keys) == 64);
    assert!(size_of::<Line>() == 64);
    assert!(size_of::<Service>() == 64 && offset_of!(Service, generation) == 44);
    assert!(offset_of!(Service, steering) == 56 && MAX_SERVICES <= 1 << 14);
    assert!(MAX_BACKEND_SLOTS <= 1 << 16 && VERSION_SLOTS < 1 << 16);
    assert!(size_of::<ServerKey>() == 16);
    assert!(size_of::<SteerKey>() == 20 && size_of::<SteerSlot>() == 4);
    assert!(size_of::<Backend>() == 32 && offset_of!(Backend, next_hop) == 24);
    assert!(size_of::<Link>() == 28);
    assert!(size_of::<Counters>() == 64);
    assert!(size_of::<Reasons>() == 256 && REASONS <= 32);
    assert!(size_of::<Bucket>() == 16);
    assert!(size_of::<Config>() == 40);
    assert!(MAX_BACKENDS <= NO_BACKEND as u32);
};

/// Lets the agent write and read these types through `aya`.
#[cfg(feature = "user")]
mod user {
    use super::{
        Backend, Bucket, Config, Endpoint, FlowEntry, FlowKey, Link, Listener, Return, ServerKey,
        Service, SteerKey, SteerSlot, TraceLost,
    };

    macro_rules! pod {
        ($($type:ty),*) => {$(
            // SAFETY: `repr(C)`, integers only, and no padding (the assertions above).
            unsafe impl aya::Pod for $type {}
        )*};
    }
    pod!(Backend, Config, Endpoint, FlowEntry, FlowKey, Link, Listener, Return, Service, SteerKey);
    pod!(Bucket, ServerKey, SteerSlot, TraceLost);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_fits_in_a_word() {
        let hop = NextHop::new(300, [1, 2, 3, 4, 5, 0xff]);
        assert_eq!((hop.link(), hop.mac()), (300, [1, 2, 3, 4, 5, 0xff]));
        assert_eq!(NextHop::default().link(), 0);
    }

    #[test]
    fn families_do_not_mix() {
        assert!(Address::from_v4([10, 0, 0, 1]).is_v4());
        assert!(!Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).is_v4());
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        assert_eq!(Address::from_v6(mapped), Address::from_v4([10, 0, 0, 1]));
    }
}
