//! What is counted: by backend, and by reason.

/// Counters of one backend on one processor: one cache line. A version's counters are the sum
/// over its backends, so that a packet touches one line, not two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Flows begun: SYN without ACK, or the first datagram of a remembered UDP flow.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients: whole frames.
    pub bytes_in: u64,
    /// Packets to clients (only where answers pass through the node).
    pub packets_out: u64,
    /// Bytes to clients: whole frames.
    pub bytes_out: u64,
    /// Flows put into a flow table.
    pub tracked: u64,
    /// Packets whose flow found the flow table full, and so went where an older flow would have gone.
    pub fallback_full: u64,
    /// The same, because flows came faster than the limit on inserts.
    pub fallback_flood: u64,
}

/// What else became of packets: index of `REASONS`, separately for each hook. Every packet that is
/// not counted by its backend is counted here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Passed: neither IPv4 nor IPv6.
    NotIp = 0,
    /// Passed: neither TCP nor UDP, or an IPv6 header that is not understood comes first.
    NotTransport = 1,
    /// Passed: the frame or a header is cut short, or a length is impossible. Dropped: a fragment for
    /// a listener's address that cuts the transport header (RFC 1858).
    Malformed = 2,
    /// Passed: a fragment that is not for a listener, or of a flow that is not known.
    Fragment = 3,
    /// Passed: more than two VLAN tags.
    Vlan = 4,
    /// Passed: to no listener and from no backend.
    NotOurs = 5,
    /// Passed: between a backend and the node itself, or a client's direct connection to a backend.
    Direct = 6,
    /// Dropped: the version has no backend.
    NoBackend = 7,
    /// Dropped: the hop limit is used up. The sender is told.
    HopLimit = 8,
    /// Dropped: the kernel knows no way to the backend or the client.
    NoRoute = 9,
    /// Dropped: the packet could not be rewritten.
    Rewrite = 10,
    /// Dropped: a record or table that must be there is not. In a sound node only for the instant in
    /// which a new listener waits for its service's first commit.
    NoTable = 11,
    /// Forwarded, and counted by its backend too: the kernel had to find the backend's next hop.
    Fib = 12,
    /// Dropped: it would not fit on the way to the backend or the client. The sender is told.
    TooBig = 13,
    /// Dropped: a fragment for a listener's address that came before the first one of its packet.
    EarlyFragment = 14,
    /// Answered: an echo request to a listener's address.
    Echo = 15,
    /// Forwarded: an ICMP error to the end of the flow that it quotes.
    Quoted = 16,
    /// Dropped: an echo request that was not answered, or a packet whose sender was not told why,
    /// because too many were within a second. The latter are counted by their own reason too.
    Silenced = 17,
    /// Dropped: the node has no source address for the outer header, see `--outer-source`.
    NoSource = 18,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; REASONS] = [
        Self::NotIp,
        Self::NotTransport,
        Self::Malformed,
        Self::Fragment,
        Self::Vlan,
        Self::NotOurs,
        Self::Direct,
        Self::NoBackend,
        Self::HopLimit,
        Self::NoRoute,
        Self::Rewrite,
        Self::NoTable,
        Self::Fib,
        Self::TooBig,
        Self::EarlyFragment,
        Self::Echo,
        Self::Quoted,
        Self::Silenced,
        Self::NoSource,
    ];
}

/// Number of [`Reason`]s.
pub const REASONS: usize = 19;
/// Rows of `REASONS`: one for each hook.
pub const HOOKS: u32 = 2;
/// Row of the XDP program. It counts what it drops; what it passes, TC sees next and counts.
pub const HOOK_XDP: u32 = 0;
/// Row of the TC program.
pub const HOOK_TC: u32 = 1;

/// Value of `REASONS` on one processor for one hook: packets by [`Reason`], padded to whole lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Reasons {
    /// Packets, by [`Reason`].
    pub packets: [u64; 32],
}
