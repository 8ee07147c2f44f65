//! Loading the program: sizes, settings, and the maps taken out of it.

use std::collections::{BTreeSet, HashMap};
use std::error::Error as StdError;
use std::io;
use std::os::fd::AsFd;

use aya::maps::{Map, MapData, MapError};
use aya::programs::ProgramError;
use aya::util::{KernelVersion, nr_cpus};
use aya::{Ebpf, EbpfError, EbpfLoader};
use weir_ebpf::abi::{
    Address, Config, DEFAULT_FLOWS, DEFAULT_UDP_FLOWS, FlowBucket, HOOKS, Histogram,
    LISTENER_BUCKETS, Link, ListenerBucket, MAX_BACKENDS, MAX_FAILING, MAX_PENDING, POOL_LINES,
    Pending, Reasons, Signals, Tracers, flow_buckets,
};

use super::Kernel;
use super::attach::Programs;
use super::bpf_log::BpfLog;
use super::counted::Counted;
use super::flow_table::FlowTable;
use super::flows::Datagrams;
use super::pending::Places;
use super::pins::{self, PinError, Pins};
use super::root::{Fence, Root};
use super::steering::Sets;
use super::tap::KernelTap;
use crate::causes::causes;
use crate::dataplane::OuterSource;
use crate::dataplane::pool::Pool;
use crate::dataplane::sys::Mapped;

/// The program, built beside the agent.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEIR_BPF_OBJECT"));

/// The flag `BPF_F_IPV6` of `bpf_l4_csum_replace`, known to kernels from 6.16.
const BPF_F_IPV6: u32 = 128;

/// How large the data plane is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// TCP flows there is room for; some more may find some.
    pub flows: u32,
    /// Entries of the table of UDP flows.
    pub udp_flows: u32,
    /// Inserts into the table of TCP flows a second, on each processor.
    pub inserts_per_second: u64,
    /// Cache lines in the pool of tables.
    pub pool_lines: u32,
    /// Where packets in tunnels come from.
    pub outer: OuterSource,
    /// ICMP messages sent a second, on each processor.
    pub icmp_per_second: u32,
    /// Which lines the program writes.
    pub log: BpfLog,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flows: DEFAULT_FLOWS,
            udp_flows: DEFAULT_UDP_FLOWS,
            inserts_per_second: Config::DEFAULT.inserts_per_second,
            pool_lines: POOL_LINES,
            outer: OuterSource::default(),
            icmp_per_second: Config::DEFAULT.icmp_per_second,
            log: BpfLog::Off,
        }
    }
}

/// Why the program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel does not let this process load programs.
    #[error(
        "no right to load a BPF program: run as root, or give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Rights,
    /// The kernel refused the object or a map.
    #[error("cannot load the BPF program on this kernel: {0}")]
    Object(String),
    /// The verifier refused a program.
    #[error("the kernel's verifier refused {program}: {reason}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// The end of what it said.
        reason: String,
    },
    /// A pinned map is not of this contract, or the pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// A map is not in the object, or is not what it should be.
    #[error("map {map}: {reason}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Whether this kernel is of the given release or newer.
pub(super) fn kernel_has(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|running| running >= KernelVersion::new(major, minor, 0))
}

/// The last lines of a text that may be very long.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join("; ")
}

/// Whether an error, or a cause of it, is the kernel's EPERM or EACCES.
fn is_permission(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::PermissionDenied;
        }
        next = error.source();
    }
    false
}

impl Kernel {
    /// Loads the program and creates its maps. Nothing is attached yet, so no packet meets it.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with what the kernel or its verifier said.
    pub fn load(options: Options) -> Result<Self, LoadError> {
        Self::make(options, None)
    }

    /// Loads the program on the maps that are pinned, and pins those that are not. What the pinned
    /// maps hold is carried over: services, flows, counters. Their sizes stay as they are.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; the pinned maps, and a program that runs on them, are as they were.
    pub fn load_pinned(options: Options, pins: Pins) -> Result<Self, LoadError> {
        Self::make(options, Some(pins))
    }

    fn make(mut options: Options, pins: Option<Pins>) -> Result<Self, LoadError> {
        let processors = nr_cpus().map_err(|(what, error)| LoadError::Map {
            map: "COUNTERS",
            reason: format!("number of processors: {what}: {error}"),
        })?;
        if let Some(pins) = &pins {
            pins.check()?;
        }
        // Programs first: a map taken out and dropped would be missing from them.
        let object = load_object(options, processors, pins.as_ref())?;
        let mut programs = Programs::load(object, pins)?;
        let log = if options.log == BpfLog::Off { None } else { programs.log() };
        let mut taken = Taken(programs);
        let flows = taken.data("FLOWS")?;
        let buckets = flows.info().map_err(wrong("FLOWS"))?.max_entries();
        let flows = mapped("FLOWS", &flows, buckets as usize * size_of::<FlowBucket>())?;
        let flows = FlowTable::new(flows, buckets);
        let udp_flows = Datagrams::new(taken.map("UDP_FLOWS")?)?;
        let pool = taken.data("POOL")?;
        let backends = taken.data("BACKENDS")?;
        let counters = taken.data("COUNTERS")?;
        let reasons = taken.data("REASONS")?;
        // A pinned map keeps its size, whatever was asked for.
        options.flows = u32::try_from(flows.capacity()).unwrap_or(u32::MAX);
        options.udp_flows = udp_flows.capacity();
        let of_processors = |bytes| processors * MAX_BACKENDS as usize * bytes;
        options.pool_lines = pool.info().map_err(wrong("POOL"))?.max_entries();
        let mut kernel = Self {
            pool_memory: mapped("POOL", &pool, options.pool_lines as usize * 64)?,
            backend_memory: mapped("BACKENDS", &backends, MAX_BACKENDS as usize * 32)?,
            counted: Counted::new(
                mapped("COUNTERS", &counters, of_processors(64))?,
                mapped("SIGNALS", &taken.data("SIGNALS")?, of_processors(size_of::<Signals>()))?,
                mapped(
                    "HISTOGRAMS",
                    &taken.data("HISTOGRAMS")?,
                    MAX_BACKENDS as usize * size_of::<Histogram>(),
                )?,
                processors,
            ),
            pending: Places::new(
                mapped(
                    "PENDING",
                    &taken.data("PENDING")?,
                    MAX_PENDING as usize * size_of::<Pending>(),
                )?,
                mapped("FAILING", &taken.data("FAILING")?, MAX_FAILING as usize * 8)?,
            ),
            reason_memory: mapped(
                "REASONS",
                &reasons,
                processors * HOOKS as usize * size_of::<Reasons>(),
            )?,
            tap: Some(tap(&mut taken)?),
            log,
            returns: taken.typed("RETURNS")?,
            server_ids: taken.typed("SERVER_IDS")?,
            root: root(&mut taken)?,
            rare: taken.typed("PROGRAMS")?,
            steering: Sets::new(taken.typed("STEERING")?),
            backends: Map::Array(backends).try_into().map_err(wrong("BACKENDS"))?,
            links: taken.typed("LINKS")?,
            devices: taken.typed("DEVICES")?,
            flows,
            udp_flows,
            flood: taken.typed("FLOOD")?,
            processors,
            options,
            pool: Pool::new(options.pool_lines),
            live: HashMap::new(),
            endpoints: HashMap::new(),
            ways_back: HashMap::new(),
            servers: HashMap::new(),
            known_links: vec![Link::default()],
            back: BTreeSet::new(),
            last_link: 0,
            programs: taken.0,
        };
        kernel.recover()?;
        kernel.fill_programs()?;
        Ok(kernel)
    }
}

fn load_object(
    options: Options,
    processors: usize,
    pins: Option<&Pins>,
) -> Result<Ebpf, LoadError> {
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let knows_ipv6_flag = kernel_has(6, 16);
    let config = Config {
        inserts_per_second: options.inserts_per_second,
        l4_ipv6_flag: if knows_ipv6_flag { BPF_F_IPV6 } else { 0 },
        outer_v4: options.outer.v4.map_or(0, |address| u32::from_ne_bytes(address.octets())),
        outer_v6: options.outer.v6.map_or([0; 4], |address| Address::from_v6(address.octets()).0),
        icmp_per_second: options.icmp_per_second,
        pad: 0,
    };
    let level = options.log.level();
    let mut loader = EbpfLoader::new();
    for (name, pins) in pins::MAPS.iter().filter_map(|name| Some((name, pins?))) {
        loader.map_pin_path(name, pins.map(name));
    }
    loader
        .override_global("CONFIG", &config, true)
        .override_global(aya_log::LEVEL, &level, true)
        .map_max_entries("AYA_LOGS", options.log.ring())
        .map_max_entries("FLOWS", 1 + flow_buckets(options.flows))
        .map_max_entries("UDP_FLOWS", options.udp_flows)
        .map_max_entries("POOL", options.pool_lines)
        .map_max_entries("COUNTERS", processors.saturating_mul(MAX_BACKENDS))
        .map_max_entries("SIGNALS", processors.saturating_mul(MAX_BACKENDS))
        .map_max_entries("REASONS", processors.saturating_mul(HOOKS))
        .load(OBJECT)
        .map_err(|error| load_error(&error))
}

/// What the kernel said of an object.
pub(crate) fn load_error(error: &EbpfError) -> LoadError {
    if is_permission(error) { LoadError::Rights } else { LoadError::Object(causes(error)) }
}

/// What the verifier or the kernel said of a program.
pub(crate) fn refused(program: &'static str) -> impl Fn(ProgramError) -> LoadError {
    move |error| match &error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = tail(&verifier_log.to_string());
            if log.is_empty() && io_error.kind() == io::ErrorKind::PermissionDenied {
                return LoadError::Rights;
            }
            LoadError::Program { program, reason: format!("{io_error}: {log}") }
        }
        other => LoadError::Program { program, reason: tail(&causes(other)) },
    }
}

pub(super) fn wrong(map: &'static str) -> impl Fn(MapError) -> LoadError {
    move |error| LoadError::Map { map, reason: causes(&error) }
}

fn mapped(map: &'static str, data: &MapData, bytes: usize) -> Result<Mapped, LoadError> {
    Mapped::new(data.fd().as_fd(), bytes)
        .map_err(|error| LoadError::Map { map, reason: format!("cannot be mapped: {error}") })
}

/// Records and listeners, as they are.
fn root(taken: &mut Taken) -> Result<Root, LoadError> {
    let word = mapped("ROOT", &taken.data("ROOT")?, size_of::<u64>())?;
    let listeners = taken.data("LISTENERS")?;
    let bytes = 2 * LISTENER_BUCKETS as usize * size_of::<ListenerBucket>();
    let listeners = mapped("LISTENERS", &listeners, bytes)?;
    let services = taken.typed("SERVICES")?;
    let fence = Fence::new(taken.typed("FENCE")?).map_err(wrong("FENCE"))?;
    Root::take_up(word, services, listeners, fence).map_err(wrong("SERVICES"))
}

/// The maps of live traces.
fn tap(taken: &mut Taken) -> Result<KernelTap, LoadError> {
    let control = taken.data("TRACE")?;
    Ok(KernelTap {
        ring: taken.typed("TRACES")?,
        control: mapped("TRACE", &control, size_of::<Tracers>())?,
        lost: taken.typed("TRACE_LOST")?,
    })
}

/// The maps of an object whose programs are loaded.
struct Taken(Programs);

impl Taken {
    fn map(&mut self, name: &'static str) -> Result<Map, LoadError> {
        self.0
            .take_map(name)
            .ok_or(LoadError::Map { map: name, reason: "is not in the object".to_owned() })
    }

    fn typed<M: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &'static str,
    ) -> Result<M, LoadError> {
        self.map(name)?.try_into().map_err(wrong(name))
    }

    /// An array's map itself.
    fn data(&mut self, name: &'static str) -> Result<MapData, LoadError> {
        match self.map(name)? {
            Map::Array(data) => Ok(data),
            _ => Err(LoadError::Map { map: name, reason: "is not an array".to_owned() }),
        }
    }
}
