//! What is counted of handshakes and of how connections end, and what is kept to tell.

use crate::latency::BUCKETS;

/// Value of `Service::signals`: nothing but [`Counters`](super::Counters), and each SYN is a
/// connection.
pub const SIGNALS_OFF: u8 = 0;
/// All but what [`SIGNALS_FULL`] adds.
pub const SIGNALS_BASIC: u8 = 1;
/// Also times, early resets and failing clients; in the direct modes, also how handshakes end.
pub const SIGNALS_FULL: u8 = 2;

/// Handshakes that are looked at, at once.
pub const MAX_PENDING: u32 = 16_384;
/// Failures of clients that are kept in mind.
pub const MAX_FAILING: u32 = 4_096;
/// A handshake without an answer for so long is unanswered, in nanoseconds.
pub const UNANSWERED_NS: u64 = 3_000_000_000;
/// A reset so soon after the handshake is early, in nanoseconds.
pub const EARLY_NS: u64 = 1_000_000_000;

/// Value of `SIGNALS`: the signals of one backend on one processor. Only packets with SYN, FIN or
/// RST touch it, and in the direct modes those that end a handshake. Each number is added to
/// atomically: the agent adds to those of the first processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Signals {
    /// SYNs that came again.
    pub retransmissions: u64,
    /// Handshakes that the server accepted.
    pub established: u64,
    /// Handshakes that the server refused.
    pub refused: u64,
    /// Handshakes without an answer for [`UNANSWERED_NS`].
    pub unanswered: u64,
    /// Handshakes that the client gave up by a RST.
    pub abandoned: u64,
    /// Handshakes that were lost sight of.
    pub lost_samples: u64,
    /// RSTs of clients, but for those that end a handshake.
    pub resets_in: u64,
    /// RSTs of servers, likewise.
    pub resets_out: u64,
    /// Of these, those within [`EARLY_NS`] after the handshake.
    pub early_resets: u64,
    /// FINs of clients.
    pub fins_in: u64,
    /// FINs of servers.
    pub fins_out: u64,
    /// Failures, those of one client within a second counted once.
    pub failing_clients: u64,
    /// Connections whose version came from a steering entry.
    pub steered: u64,
    /// Sum of the times of all handshakes that are in the histogram, in nanoseconds.
    pub handshake_ns: u64,
    /// Zero.
    pub pad: [u64; 2],
}

/// Value of `HISTOGRAMS`: handshakes of one backend by the bucket of their time, see
/// [`latency`](crate::latency). Of all processors: added to atomically.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Histogram {
    /// Handshakes, by bucket.
    pub buckets: [u64; BUCKETS],
}

/// Value of `PENDING`: a handshake, in the place that the hash of its flow gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Pending {
    /// Whose it is and how far it has come, see [`handshake::Word`](crate::handshake::Word).
    /// Changed by compare-exchange alone; the rest is written by whoever has claimed the place.
    pub word: u64,
    /// When the first SYN was seen; once that was answered, when it was. Nanoseconds since boot.
    pub time: u64,
    /// The SYN's sequence number, as in the header.
    pub sequence: u32,
    /// What tells the client from others, see [`handshake::client`](crate::handshake::client).
    pub client: u32,
}

const _: () = {
    use core::mem::size_of;
    assert!(size_of::<Signals>() == 128);
    assert!(size_of::<Histogram>() == 8 * BUCKETS);
    assert!(size_of::<Pending>() == 24);
    assert!(MAX_FAILING.is_power_of_two() && MAX_PENDING.is_power_of_two());
};
