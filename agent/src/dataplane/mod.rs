//! What the agent needs of the machine: a trait, the kernel behind it, and a memory for tests.
//!
//! - [`kernel`]: loads the program, writes its maps, attaches it
//! - [`memory`]: the same rules in the agent's own memory, for tests
//! - [`inspect`]: single look-ups, as the program makes them
//! - [`shared`]: a data plane that others look at beside its owner, for tests
//! - [`tap`]: what the program tells while somebody traces
//! - [`pool`]: room for tables
//! - [`next_hop`]: the way to each backend, as the kernel's routes and neighbours say
//! - `sys`: what no library does safely; the only unsafe code of the agent

pub mod inspect;
pub mod kernel;
pub mod memory;
pub mod next_hop;
pub mod pool;
pub mod shared;
mod sys;
pub mod tap;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weir_ebpf::abi::{
    Backend, Counters, Endpoint, FlowEntry, FlowKey, HOOKS, REASONS, Return, ServerKey, Service,
    Signals, TCP, UDP,
};

use crate::model::{AttachMode, Handshakes, Hook};
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use inspect::Inspect;
use kernel::AttachError;
use next_hop::NextHop;
pub use sys::Mapped;

/// What one commit changes. All of it takes effect together, or nothing does.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Number of the commit, not zero.
    pub generation: u32,
    /// Services by index: their new image, or nothing to remove them. Others stay as they are.
    pub services: Vec<(u32, Option<Image>)>,
    /// Backends whose records are written anew, by index. No table may name them yet.
    pub backends: Vec<(u16, Backend)>,
    /// Backends that become what their flags say, by index. Flags that go do so before the tables
    /// change, those that come do so after: a flow that begins at a backend that is back must not
    /// be void for an instant.
    pub flags: Vec<(u16, u32)>,
    /// Listeners that appear, or that now belong to another service: the word of each, see
    /// [`abi::Listener`](weir_ebpf::abi::Listener).
    pub listeners: Vec<(Endpoint, u32)>,
    /// Listeners that disappear.
    pub closed: Vec<Endpoint>,
    /// Return paths that appear or change.
    pub returns: Vec<(Endpoint, Return)>,
    /// Return paths that disappear.
    pub severed: Vec<Endpoint>,
    /// Server ids that appear, or that now belong to another backend.
    pub server_ids: Vec<(ServerKey, u16)>,
    /// Server ids that disappear.
    pub retired_ids: Vec<ServerKey>,
}

/// A service as the program shall see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What its spec says. Where its tables lie, its set of steering entries, and the generation,
    /// the data plane fills in.
    pub record: Service,
    /// Its tables.
    pub tables: Arc<ServiceTables>,
    /// Its steering entries.
    pub steering: Arc<Steering>,
}

/// What a data plane held when it was taken up: left by an earlier agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Services that have a record, by index.
    pub services: Vec<u32>,
    /// Endpoints that clients' packets are taken from.
    pub listeners: Vec<Endpoint>,
    /// Endpoints that backends' answers are taken from.
    pub returns: Vec<Endpoint>,
    /// Server ids that datagrams are routed by.
    pub server_ids: Vec<ServerKey>,
}

/// Packets by hook and by reason, since the program was loaded.
pub type ReasonCounts = [[u64; REASONS]; HOOKS as usize];

/// The node's own addresses that packets in tunnels come from, by the outer header's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OuterSource {
    /// Of IPv4 headers. Without it no backend with an IPv4 address can be tunnelled to.
    pub v4: Option<Ipv4Addr>,
    /// Of IPv6 headers.
    pub v6: Option<Ipv6Addr>,
}

impl OuterSource {
    /// The sources there are, that of IPv4 first.
    #[must_use]
    pub fn addresses(self) -> Vec<IpAddr> {
        [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)].into_iter().flatten().collect()
    }

    /// Whether packets can be tunnelled to this address.
    #[must_use]
    pub fn reaches(self, backend: IpAddr) -> bool {
        if backend.is_ipv4() { self.v4.is_some() } else { self.v6.is_some() }
    }
}

/// The interfaces that XDP may send through, by index. What is for others goes through TC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices {
    /// They take frames that are redirected to them.
    pub redirect: BTreeSet<u32>,
    /// They take those in several buffers (jumbo frames), too.
    pub in_buffers: BTreeSet<u32>,
    /// What came in by them may go back as `XDP_TX`, which needs no redirecting.
    pub back: BTreeSet<u32>,
}

/// How full a bounded part of the data plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Its name in answers.
    pub resource: &'static str,
    /// In use. Of flows, as the last sweep has left them.
    pub used: u64,
    /// There are.
    pub limit: u64,
}

/// What came of a part of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Flows that were forgotten.
    pub forgotten: u64,
    /// The last flow was shown, and the next part begins anew.
    pub ended: bool,
}

/// Why the data plane could not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pool has no run of lines long enough.
    #[error("the pool of tables has {free} of {size} lines free, and not {asked} in a row")]
    PoolFull {
        /// Lines asked for.
        asked: u32,
        /// Lines free.
        free: u32,
        /// Lines there are.
        size: u32,
    },
    /// There is no room for so many steering entries.
    #[error("the map of steering entries has {free} of {size} free, and not {asked}")]
    SteeringFull {
        /// Entries asked for.
        asked: u32,
        /// Entries free.
        free: u32,
        /// Entries there are.
        size: u32,
    },
    /// A map could not be written or read.
    #[error("map {map}: {reason}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// What is in the kernel cannot be.
    #[error("the tables of service {service} in the kernel are damaged: {reason}")]
    Damaged {
        /// Index of the service.
        service: u32,
        /// What is wrong.
        reason: String,
    },
}

/// A data plane: where tables lie and packets are decided.
pub trait DataPlane: Inspect + Send {
    /// Makes a commit. When this returns, no packet is still decided by the old tables.
    ///
    /// # Errors
    ///
    /// Nothing was changed.
    fn commit(&mut self, commit: &Commit) -> Result<(), Error>;

    /// The tables of a service as they are, read back; nothing when there is no such service.
    ///
    /// # Errors
    ///
    /// They cannot be read, or cannot be a service's tables.
    fn tables(&self, service: u32) -> Result<Option<ServiceTables>, Error>;

    /// The steering entries of a service; none when there is no such service.
    fn steering(&self, service: u32) -> Arc<Steering>;

    /// What is there, from an earlier agent at the start.
    fn carried(&self) -> Carried;

    /// The record of a backend as it is. Zeroes, if it was never written.
    fn backend(&self, index: u16) -> Backend;

    /// Sets or forgets the way to a backend, at once.
    ///
    /// # Errors
    ///
    /// It could not be written; the old way stays.
    fn set_next_hop(&mut self, backend: u16, hop: Option<NextHop>) -> Result<(), Error>;

    /// Says which interfaces XDP may send through: all of them.
    ///
    /// # Errors
    ///
    /// Some are missing.
    fn set_devices(&mut self, devices: &Devices) -> Result<(), Error>;

    /// For each interface, by name and index, whether the program is still attached to it by this
    /// hook.
    ///
    /// # Errors
    ///
    /// The kernel does not say, for this reason.
    fn attached(&mut self, interfaces: &[(&str, u32, Hook)]) -> Result<Vec<bool>, String> {
        Ok(vec![true; interfaces.len()])
    }

    /// Attaches the program to an interface, and says how. Without pins, it is detached when the
    /// data plane is dropped.
    ///
    /// # Errors
    ///
    /// The interface is as it was, but that TC may be attached where XDP could not be.
    fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<Hook, AttachError> {
        let _ = mode;
        Err(AttachError::NoInterface(interface.to_owned()))
    }

    /// Counters of a backend, summed over all processors.
    fn counters(&self, backend: u16) -> Counters;

    /// Signals of a backend, summed over all processors.
    fn signals(&self, backend: u16) -> Signals;

    /// How long handshakes of a backend took.
    fn handshakes(&self, backend: u16) -> Handshakes;

    /// Sets all that was counted of backends to zero, and forgets their handshakes. Only for those
    /// that no table names.
    fn clear_counters(&mut self, backends: &BTreeSet<u16>);

    /// Counts handshakes that have waited for too long, in a quarter of the places, the next one at
    /// each call. Where it is late, they are counted by what comes next: so it should be called four
    /// times a second.
    fn end_some_handshakes(&mut self) {}

    /// Forgets every remembered flow that is `lost`, and gives the number of them. Only for flows
    /// that no table can bring back.
    ///
    /// # Errors
    ///
    /// Some could not be removed.
    fn forget(&mut self, lost: &dyn Fn(&FlowKey, &FlowEntry) -> bool) -> Result<u64, Error> {
        let keep = &mut |key: &FlowKey, flow: &FlowEntry| !lost(key, flow);
        Ok(self.sweep(TCP, keep)? + self.sweep(UDP, keep)?)
    }

    /// Shows every flow of a table to `keep`, and forgets those it does not keep: [`TCP`] means the
    /// table of TCP and QUIC flows, [`UDP`] that of other UDP flows. Gives the number of them.
    ///
    /// # Errors
    ///
    /// The table could not be read whole: then what was not shown may be there.
    fn sweep(
        &mut self,
        protocol: u8,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<u64, Error>;

    /// A part of a sweep of the table of TCP flows, so that others need not wait for all of it:
    /// shows the flows of so many buckets to `keep`, up to seven in each, from where the part before
    /// has ended, and forgets those it does not keep. From the first part to the last, every flow
    /// that is there all the time is shown once.
    ///
    /// # Errors
    ///
    /// The table could not be read: the next part begins anew.
    fn sweep_on(
        &mut self,
        buckets: u32,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<Swept, Error> {
        let _ = buckets;
        Ok(Swept { forgotten: self.sweep(TCP, keep)?, ended: true })
    }

    /// Packets that no backend counts.
    fn reasons(&self) -> ReasonCounts;

    /// Where packets in tunnels come from, chosen when the program was loaded.
    fn outer_source(&self) -> OuterSource;

    /// How full the data plane is.
    fn uses(&self) -> Vec<Use>;
}
