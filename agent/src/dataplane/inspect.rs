//! Reading what the program would find for one flow. Nothing here changes anything: no entry, no
//! counter, not even the order in which an LRU forgets.

use weir_ebpf::abi::{
    Address, Bucket, Endpoint, FlowEntry, FlowKey, Link, Return, Service, SteerSlot,
};

use super::Error;

/// The two tables of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowTable {
    /// TCP and QUIC flows: those of moved slots, never evicted.
    Moved,
    /// Other UDP flows: all of them, the one that was silent longest is evicted.
    Datagrams,
}

/// Whether the table of TCP and QUIC flows takes a certain one more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Room {
    /// How many are taken now of the places that the flow may have,
    pub used: u64,
    /// of so many.
    pub capacity: u64,
    /// Inserts a second that each processor may make.
    pub rate: u64,
    /// What each processor has left of that.
    pub allowances: Vec<Bucket>,
}

impl Room {
    /// How many processors would refuse a new flow at `now` (`CLOCK_MONOTONIC_COARSE`, nanoseconds)
    /// because flows come too fast there.
    #[must_use]
    pub fn refusing(&self, now: u64) -> usize {
        let refuses = |bucket: &&Bucket| !bucket.refilled(self.rate, now).has_one();
        self.allowances.iter().filter(refuses).count()
    }
}

/// Single look-ups, as the program makes them.
///
/// # Errors
///
/// All fail only where a map cannot be read.
pub trait Inspect {
    /// The word of this listener: its service, and what it says of the version. See
    /// [`Listener`](weir_ebpf::abi::Listener).
    fn listener(&self, at: &Endpoint) -> Result<Option<u32>, Error>;

    /// What answers from this endpoint are turned back into.
    fn way_back(&self, from: &Endpoint) -> Result<Option<Return>, Error>;

    /// The record of a service.
    fn record(&self, service: u32) -> Result<Option<Service>, Error>;

    /// The steering entry that a client of a service matches longest.
    fn steer(&self, service: u32, client: Address) -> Result<Option<SteerSlot>, Error>;

    /// The entry of a flow as it lies in the table, whether it still holds or not.
    fn remembered(&self, table: FlowTable, key: &FlowKey) -> Result<Option<FlowEntry>, Error>;

    /// Whether there is room for this flow.
    fn room(&self, key: &FlowKey) -> Result<Room, Error>;

    /// An interface towards backends; all zeroes if there is none.
    fn link(&self, index: u32) -> Link;
}
