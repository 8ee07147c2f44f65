//! The kernel's data plane: the loaded program and its maps.
//!
//! - `load`: creates or takes up maps, loads the program; `recover` reads what pinned maps hold
//! - `attach`, `attached`, `clsact`, `links`, `pins`: interfaces, and what outlives the agent
//! - `rare`: the programs that the TC program calls
//! - `inspect`: single look-ups
//! - `commit`: how tables change; `root`: what it replaces; `listeners`: how they lie; `steering`: the
//!   sets of steering entries
//! - `bpf_log`: the program's own log lines
//! - `tap`: what the program tells while somebody traces
//! - `ways`: what the program is told of interfaces
//! - `flows`, `run`: the tables of flows, and runs of the program without an interface
//! - `counted`: what the program has counted; `pending`: handshakes under way

mod attach;
mod attached;
mod bpf_log;
mod clsact;
mod commit;
mod counted;
mod flow_table;
mod flows;
mod inspect;
mod links;
mod listeners;
mod load;
mod pending;
mod pins;
mod rare;
mod recover;
mod root;
mod run;
mod steering;
mod tap;
mod ways;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::maps::{
    Array, DevMapHash, HashMap as HashMapMap, MapData, MapError, PerCpuArray, ProgramArray,
};
use weir_ebpf::abi::{
    Backend, Bucket, Counters, Edges, Endpoint, FlowEntry, FlowKey, HOOKS, Line, Link,
    MAX_LISTENERS, MAX_STEERING, NextHop as HopWord, REASONS, Return, ServerKey, Service, Signals,
    TCP, VERSION_LINES, VERSIONS,
};

pub use attach::AttachError;
pub(crate) use attach::{Attach, attach, attach_tc, attach_xdp, program};
pub use bpf_log::{BpfLog, Lines};
pub use load::{LoadError, Options};
pub(crate) use load::{load_error, refused};
pub use pins::{PinError, Pins};
pub(crate) use pins::{require_bpffs, try_lock};
pub(crate) use run::run;
pub use run::{Run, Runner};
pub use tap::KernelTap;

use super::inspect::Inspect as _;
use super::next_hop::NextHop;
use super::pool::Pool;
use super::sys::Mapped;
use super::{Carried, Commit, DataPlane, Devices, Error, OuterSource, ReasonCounts, Swept, Use};
use crate::causes::causes;
use crate::model::{AttachMode, Handshakes, Hook};
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;

/// Words of 64 bits of an element of `REASONS`, of `BACKENDS`.
const REASON_WORDS: usize = 32;
const BACKEND_WORDS: usize = 4;
/// The word of a backend's record that holds its next hop.
const NEXT_HOP_WORD: usize = 3;

/// The program, loaded, and its maps.
pub struct Kernel {
    programs: attach::Programs,
    returns: HashMapMap<MapData, Endpoint, Return>,
    server_ids: HashMapMap<MapData, ServerKey, u32>,
    root: root::Root,
    /// Held, or it would empty.
    rare: ProgramArray<MapData>,
    steering: steering::Sets,
    backends: Array<MapData, Backend>,
    links: Array<MapData, Link>,
    devices: DevMapHash<MapData>,
    flows: flow_table::FlowTable,
    udp_flows: flows::Datagrams,
    flood: PerCpuArray<MapData, Bucket>,
    tap: Option<KernelTap>,
    log: Option<Lines>,
    pool_memory: Mapped,
    backend_memory: Mapped,
    counted: counted::Counted,
    pending: pending::Places,
    reason_memory: Mapped,
    processors: usize,
    options: Options,
    pool: Pool,
    /// The records in the kernel, and where their tables lie.
    live: HashMap<u32, Live>,
    /// What `LISTENERS`, `RETURNS` and `SERVER_IDS` hold, so that a failed commit can be undone.
    endpoints: HashMap<Endpoint, u32>,
    ways_back: HashMap<Endpoint, Return>,
    servers: HashMap<ServerKey, u16>,
    /// What `LINKS` holds, by index; index zero is never used.
    known_links: Vec<Link>,
    /// Interfaces by which a frame may go back as it came.
    back: BTreeSet<u32>,
    /// Where a link was written last.
    last_link: u32,
}

/// A service as it stands in the kernel.
#[derive(Debug, Clone)]
struct Live {
    record: Service,
    tables: Arc<ServiceTables>,
    /// Those of the set that the record names.
    steering: Arc<Steering>,
    version_run: Range<u32>,
    backend_runs: [Range<u32>; VERSIONS],
}

impl Live {
    fn runs(&self) -> impl Iterator<Item = &Range<u32>> {
        std::iter::once(&self.version_run).chain(&self.backend_runs)
    }
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> Error {
    move |error| Error::Map { map, reason: causes(&error) }
}

impl Kernel {
    fn read_lines(&self, start: u32, lines: u32) -> Option<Vec<Line>> {
        let (start, end) = (start as usize * 16, (start as usize + lines as usize) * 16);
        let words = self.pool_memory.words().get(start..end)?;
        let line = |words: &[std::sync::atomic::AtomicU32]| Line {
            words: std::array::from_fn(|i| words[i].load(Ordering::Relaxed)),
        };
        Some(words.chunks_exact(16).map(line).collect())
    }
}

impl DataPlane for Kernel {
    fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        self.carry_out(commit)
    }

    fn tables(&self, service: u32) -> Result<Option<ServiceTables>, Error> {
        let Some(record) = self.record(service)? else { return Ok(None) };
        let damaged = |reason: String| Error::Damaged { service, reason };
        let read = |start, lines| {
            self.read_lines(start, lines)
                .ok_or_else(|| damaged(format!("lines {start} and on are outside of the pool")))
        };
        let version = read(record.version_table, VERSION_LINES)?;
        let mut tables: [Vec<Line>; VERSIONS] = Default::default();
        for (lines, (start, mask)) in
            tables.iter_mut().zip(record.backend_table.into_iter().zip(record.backend_mask))
        {
            *lines = read(start, u32::from(mask) / 16 + 1)?;
        }
        let tables = ServiceTables::from_lines(&version, tables.each_ref().map(Vec::as_slice))
            .map_err(|error| damaged(error.to_string()))?;
        // What packets go by, if it says anything.
        if record.edges.settled != 0 && record.edges != Edges::of(tables.versions()) {
            return Err(damaged(format!("its version table is not as {:?} say", record.edges)));
        }
        Ok(Some(tables))
    }

    fn steering(&self, service: u32) -> Arc<Steering> {
        self.live.get(&service).map(|live| Arc::clone(&live.steering)).unwrap_or_default()
    }

    fn carried(&self) -> Carried {
        Carried {
            services: self.live.keys().copied().collect(),
            listeners: self.endpoints.keys().copied().collect(),
            returns: self.ways_back.keys().copied().collect(),
            server_ids: self.servers.keys().copied().collect(),
        }
    }

    fn backend(&self, index: u16) -> Backend {
        self.backends.get(&u32::from(index), 0).unwrap_or_default()
    }

    fn set_next_hop(&mut self, backend: u16, hop: Option<NextHop>) -> Result<(), Error> {
        let word = match hop {
            Some(hop) => HopWord::new(self.link(&hop)?, hop.mac),
            None => HopWord::default(),
        };
        let place = usize::from(backend) * BACKEND_WORDS + NEXT_HOP_WORD;
        if let Some(place) = self.backend_memory.long_words().get(place) {
            place.store(word.0, Ordering::Release);
        }
        Ok(())
    }

    fn set_devices(&mut self, devices: &Devices) -> Result<(), Error> {
        self.write_devices(devices)
    }

    fn counters(&self, backend: u16) -> Counters {
        self.counted.traffic(backend)
    }

    fn signals(&self, backend: u16) -> Signals {
        self.counted.signals(backend)
    }

    fn handshakes(&self, backend: u16) -> Handshakes {
        self.counted.handshakes(backend)
    }

    fn clear_counters(&mut self, backends: &BTreeSet<u16>) {
        self.pending.forget(backends);
        for backend in backends {
            self.counted.clear(*backend);
        }
    }

    fn end_some_handshakes(&mut self) {
        self.sweep_some_pending();
    }

    fn sweep(
        &mut self,
        protocol: u8,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<u64, Error> {
        if protocol != TCP {
            return self.sweep_udp(keep);
        }
        // A whole one, whatever was under way.
        self.flows.begin_anew();
        Ok(self.flows.sweep(u32::MAX, keep).forgotten)
    }

    fn sweep_on(
        &mut self,
        buckets: u32,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<Swept, Error> {
        Ok(self.flows.sweep(buckets, keep))
    }

    fn attached(&mut self, interfaces: &[(&str, u32, Hook)]) -> Result<Vec<bool>, String> {
        self.programs.attached(interfaces).map_err(|error| causes(&error))
    }

    fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<Hook, AttachError> {
        attach(&mut self.programs, interface, mode)
    }

    fn reasons(&self) -> ReasonCounts {
        let mut sum = ReasonCounts::default();
        for processor in 0..self.processors {
            for (hook, counts) in sum.iter_mut().enumerate() {
                let start = (processor * HOOKS as usize + hook) * REASON_WORDS;
                let words = &self.reason_memory.long_words()[start..];
                for (total, word) in counts.iter_mut().zip(words).take(REASONS) {
                    *total += word.load(Ordering::Relaxed);
                }
            }
        }
        sum
    }

    fn outer_source(&self) -> OuterSource {
        self.options.outer
    }

    fn uses(&self) -> Vec<Use> {
        let pool = Use {
            resource: "pool_lines",
            used: u64::from(self.pool.used()),
            limit: u64::from(self.pool.size()),
        };
        let listeners = Use {
            resource: "listeners",
            used: self.endpoints.len() as u64,
            limit: u64::from(MAX_LISTENERS),
        };
        let steering = Use {
            resource: "steering_entries",
            used: u64::from(self.steering.used()),
            limit: u64::from(MAX_STEERING),
        };
        let (flows, udp_flows) = (self.flows.used(), self.udp_flows.used());
        vec![listeners, pool, steering, flows, udp_flows]
    }
}
