//! Live traces: what the agent asks the program to tell, and what is told.

use super::{Address, FlowKey, NO_SERVICE};

/// Tracers at once.
pub const TRACERS: usize = 4;
/// Bytes of a frame in an event at most.
pub const TRACE_FRAME: u32 = 256;
/// Bytes of the ring that events go through.
pub const TRACE_RING: u32 = 1 << 20;

/// In [`TraceEvent::reason`]: the packet was sent to a backend.
pub const NO_REASON: u32 = u32::MAX;

/// What became of a packet, as the number of a byte in [`Tracer::wants`]: it was sent to a backend,
pub const TRACE_SENT: u32 = 0;
/// was dropped,
pub const TRACE_DROPPED: u32 = 1;
/// or was left to the next program or the host.
pub const TRACE_PASSED: u32 = 2;

/// Which packets one tracer wants to be told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Tracer {
    /// It ends when this has passed, nanoseconds of `CLOCK_MONOTONIC`. Zero: there is no tracer.
    pub until: u64,
    /// A prefix of clients' addresses: the bits of it that count,
    pub mask: [u32; 4],
    /// and what they are.
    pub address: [u32; 4],
    /// Index of a service, of which only the bits of `services` count: all or none.
    pub service: u32,
    /// Zero: of every service.
    pub services: u32,
    /// Byte [`TRACE_SENT`] and so on is one where such packets are wanted, else zero.
    pub wants: u32,
    /// A packet is told of if a random word is not above this.
    pub sample: u32,
    /// Bytes of the frame that are wanted, at most [`TRACE_FRAME`].
    pub frame: u32,
    /// Zero.
    pub pad: u32,
}

/// One if `a` is less than `b`, else zero; both below 2^63. Without a branch: the verifier would walk
/// both ways of each, for each tracer.
#[inline(always)]
const fn less(a: u64, b: u64) -> u64 {
    a.wrapping_sub(b) >> 63
}

impl Tracer {
    /// Bits by which an address is none of the prefix; zero for one that is.
    #[inline(always)]
    #[must_use]
    pub fn off(&self, address: &Address) -> u32 {
        let (a, m, p) = (&address.0, &self.mask, &self.address);
        a[0] & m[0] ^ p[0] | a[1] & m[1] ^ p[1] | a[2] & m[2] ^ p[2] | a[3] & m[3] ^ p[3]
    }

    /// One if it wants to be told of a packet of this service at this time, else zero. `off`: of the
    /// packet's source and destination. A packet that is of no service may be an answer: then the
    /// client may be at either end.
    #[inline(always)]
    #[must_use]
    pub fn asks(&self, off: [u32; 2], service: u32, now: u64, random: u32) -> u64 {
        let mut client = less(u64::from(off[0]), 1);
        if service == NO_SERVICE {
            client |= less(u64::from(off[1]), 1);
        }
        let of_service = less(u64::from((self.service ^ service) & self.services), 1);
        let chosen = less(u64::from(random), u64::from(self.sample) + 1);
        less(now, self.until) & client & of_service & chosen
    }
}

/// The one element of `TRACE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Tracers {
    /// When the last of them ends. Zero: nobody traces. This word is all that the program reads
    /// then.
    pub until: u64,
    /// Zero: the tracers begin at a cache line.
    pub pad: [u64; 7],
    /// The tracers.
    pub all: [Tracer; TRACERS],
}

/// What is told of a packet; up to [`TRACE_FRAME`] bytes of the frame as it came in follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct TraceEvent {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The flow, from sender to receiver. All zeroes if the packet is neither TCP nor UDP or could
    /// not be read.
    pub key: FlowKey,
    /// Index of the service, or [`NO_SERVICE`].
    pub service: u32,
    /// The interface it came in by.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes that follow.
    pub captured: u32,
    /// A VLAN tag that is kept beside the frame: protocol in the upper half, priority and id in the
    /// lower. Zero: none.
    pub tag: u32,
    /// Why it was not sent to a backend, by [`Reason`](super::Reason), or [`NO_REASON`].
    pub reason: u32,
    /// The backend that was chosen, or [`NO_BACKEND`](super::NO_BACKEND).
    pub backend: u16,
    /// Row of the hook, [`HOOK_XDP`](super::HOOK_XDP) or [`HOOK_TC`](super::HOOK_TC).
    pub hook: u8,
    /// What became of it: [`TRACE_SENT`] and so on.
    pub what: u8,
    /// Why this backend, by [`Why`](crate::decide::Why).
    pub why: u8,
    /// Whether the packet opens a flow.
    pub opens: u8,
    /// TCP flags.
    pub flags: u8,
    /// The tracers that want it: bit by index.
    pub tracers: u8,
}

/// Bytes of a [`TraceEvent`].
pub const TRACE_EVENT: u32 = size_of::<TraceEvent>() as u32;

/// Events that found no room in the ring, on one processor, by tracer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct TraceLost {
    /// How many.
    pub events: [u64; TRACERS],
}

const _: () = {
    assert!(size_of::<Tracer>() == 64);
    assert!(size_of::<Tracers>() == 64 * (TRACERS + 1));
    assert!(size_of::<TraceEvent>() == 80);
    assert!(TRACERS <= 8, "a bit each in a byte");
};

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlowKey = FlowKey {
        source: Address::from_v4([10, 50, 3, 7]),
        destination: Address::from_v4([10, 50, 0, 100]),
        source_port: 1,
        destination_port: 2,
        protocol: 6,
        pad: [0; 3],
    };
    const ALL: Tracer = Tracer {
        until: 100,
        mask: [0; 4],
        address: [0; 4],
        service: 0,
        services: 0,
        wants: 0x0001_0101,
        sample: u32::MAX,
        frame: 0,
        pad: 0,
    };

    #[test]
    fn a_tracer_is_told_of_what_it_wants() {
        let of = |t: Tracer, service, now| {
            t.asks([t.off(&KEY.source), t.off(&KEY.destination)], service, now, 7)
        };
        let asks = |tracer: Tracer| of(tracer, 3, 99) != 0;
        assert!(asks(ALL));
        assert_eq!(of(ALL, 3, 100), 0, "its time is over");
        assert!(!asks(Tracer::default()));
        let to = |service| asks(Tracer { service, services: u32::MAX, ..ALL });
        assert!(to(3) && !to(2));
        assert!(asks(Tracer { sample: 7, ..ALL }) && !asks(Tracer { sample: 6, ..ALL }));
        let prefix = |octets: [u8; 4], mask: [u8; 4]| {
            let mut bits = Address::from_v4(mask).0;
            (bits[0], bits[1], bits[2]) = (u32::MAX, u32::MAX, u32::MAX);
            Tracer { mask: bits, address: Address::from_v4(octets).0, ..ALL }
        };
        assert!(asks(prefix([10, 50, 3, 0], [255, 255, 255, 0])));
        assert!(!asks(prefix([10, 50, 0, 0], [255, 255, 255, 0])), "that is the listener's");
        let answer = prefix([10, 50, 0, 0], [255, 255, 255, 0]);
        assert!(of(answer, NO_SERVICE, 99) != 0, "dropped on its way there");
    }
}
