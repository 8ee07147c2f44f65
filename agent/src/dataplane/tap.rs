//! What the program tells of packets while somebody traces.

use weir_ebpf::abi::{
    TRACE_DROPPED, TRACE_FRAME, TRACE_PASSED, TRACE_SENT, TRACERS, TraceEvent, Tracer,
};

use crate::plan::steering::Prefix;

/// Which packets a tracer wants to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Of clients in this prefix.
    pub client: Option<Prefix>,
    /// To this service, by index.
    pub service: Option<u32>,
    /// Those that are sent to a backend,
    pub sent: bool,
    /// those that are dropped,
    pub dropped: bool,
    /// and those that are left to the host.
    pub passed: bool,
    /// One packet in so many, by chance. Not zero.
    pub sample: u32,
    /// Bytes of each frame, at most [`TRACE_FRAME`].
    pub frame: u32,
}

impl Filter {
    /// As the program has it, but for its end.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        let (mask, address) =
            self.client.map_or(([0; 4], [0; 4]), |prefix| (prefix.mask().0, prefix.address().0));
        let wants = [(self.sent, TRACE_SENT), (self.dropped, TRACE_DROPPED)];
        let wants = wants.into_iter().chain([(self.passed, TRACE_PASSED)]);
        Tracer {
            until: 0,
            mask,
            address,
            service: self.service.unwrap_or(0),
            services: if self.service.is_some() { u32::MAX } else { 0 },
            wants: wants.map(|(wanted, byte)| u32::from(wanted) << (8 * byte)).sum(),
            sample: u32::MAX / self.sample.max(1),
            frame: self.frame.min(TRACE_FRAME),
            pad: 0,
        }
    }
}

/// What the program tells of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What became of it.
    pub event: TraceEvent,
    /// The first bytes of the frame as it came in.
    pub frame: Vec<u8>,
}

/// Where the program's events come from.
pub trait Tap: Send {
    /// Begins or ends a trace. It ends by itself at `until`, nanoseconds of `CLOCK_MONOTONIC`.
    fn set(&mut self, tracer: usize, filter: Option<&Filter>, until: u64);

    /// Lets all traces that have begun go on until then.
    fn renew(&mut self, until: u64);

    /// Takes at most so many events, and gives the number of those taken.
    fn take(&mut self, limit: usize, show: &mut dyn FnMut(Told)) -> usize;

    /// Events of each tracer that found no room, since the program was loaded.
    fn lost(&self) -> [u64; TRACERS];
}
