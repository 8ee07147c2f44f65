//! The decapsulator's program, loaded, and its maps.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use weir_ebpf::abi::Address;
use weir_ebpf::decap::abi::{Config, Counters, MAX_LOCALS};

use super::totals::{Pin, Totals};
use crate::causes::causes;
use crate::dataplane::kernel::{
    Attach, AttachError, LoadError, Run, attach, attach_tc, attach_xdp, load_error, program,
    refused, run,
};
use crate::model::{AttachMode, Hook};

/// The program, built beside the agent.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEIR_DECAP_OBJECT"));

const XDP: &str = "weir_decap_xdp";
const XDP_GENERIC: &str = "weir_decap_xdp_generic";
const TC: &str = "weir_decap_tc";
const LOCALS: &str = "LOCALS";
const COUNTERS: &str = "COUNTERS";

/// The program and its maps. Dropping it detaches.
pub struct Decapsulator {
    object: Ebpf,
    locals: HashMap<MapData, [u32; 4], u32>,
    counters: PerCpuArray<MapData, Counters>,
    /// What `LOCALS` holds.
    known: BTreeSet<IpAddr>,
}

impl Decapsulator {
    /// Loads the program, which takes no packet before it is told addresses. Its counters begin at
    /// zero; with `pin` others can read them.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with what the kernel or its verifier said.
    pub fn load(gue_port: u16, pin: Option<&Pin>) -> Result<Self, LoadError> {
        let config = Config::new(gue_port);
        let mut loader = EbpfLoader::new();
        if let Some(pin) = pin {
            loader.map_pin_path(COUNTERS, pin.path());
        }
        let mut object = loader
            .override_global("CONFIG", &config, true)
            .load(OBJECT)
            .map_err(|error| load_error(&error))?;
        // Programs first: a map taken out and dropped would be missing from them.
        for name in [XDP, XDP_GENERIC] {
            program::<Xdp>(&mut object, name).and_then(Xdp::load).map_err(refused(name))?;
        }
        program::<SchedClassifier>(&mut object, TC)
            .and_then(SchedClassifier::load)
            .map_err(refused(TC))?;
        let locals = take(&mut object, LOCALS)?;
        let counters = take(&mut object, COUNTERS)?;
        Ok(Self { object, locals, counters, known: BTreeSet::new() })
    }

    /// Attaches to an interface, and says how.
    ///
    /// # Errors
    ///
    /// [`AttachError`]; the interface is as it was.
    pub fn attach(&mut self, interface: &str, mode: AttachMode) -> Result<Hook, AttachError> {
        attach(self, interface, mode)
    }

    /// Takes packets to these addresses from here on, and to no others.
    ///
    /// # Errors
    ///
    /// [`LocalsError`]; some addresses are taken, some are not.
    pub fn set_locals(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), LocalsError> {
        let gone: Vec<IpAddr> = self.known.difference(addresses).copied().collect();
        for address in gone {
            self.locals.remove(&key(address))?;
            self.known.remove(&address);
        }
        let new: Vec<IpAddr> = addresses.difference(&self.known).copied().collect();
        for address in new {
            if self.known.len() == MAX_LOCALS as usize {
                return Err(LocalsError::Full(addresses.len()));
            }
            self.locals.insert(key(address), 1, 0)?;
            self.known.insert(address);
        }
        Ok(())
    }

    /// What it has counted since it was loaded.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn totals(&self) -> Result<Totals, MapError> {
        Totals::read(&self.counters)
    }

    /// Runs the XDP program over a frame, without an interface.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn run_xdp(&self, frame: &[u8]) -> Result<Run, ProgramError> {
        let program = self.object.program(XDP).ok_or(ProgramError::NotLoaded)?;
        run::<Xdp>(program.try_into()?, frame, 1)
    }

    /// Runs the TC program likewise.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn run_tc(&self, frame: &[u8]) -> Result<Run, ProgramError> {
        let program = self.object.program(TC).ok_or(ProgramError::NotLoaded)?;
        run::<SchedClassifier>(program.try_into()?, frame, 1)
    }
}

impl Attach for Decapsulator {
    fn tc(&mut self, interface: &str) -> Result<Hook, AttachError> {
        attach_tc(&mut self.object, TC, interface, None)
    }

    fn xdp(&mut self, interface: &str, hook: Hook) -> Result<Hook, AttachError> {
        attach_xdp(&mut self.object, [XDP, XDP_GENERIC], interface, hook, None)
    }
}

/// Why not all addresses are taken.
#[derive(Debug, thiserror::Error)]
pub enum LocalsError {
    /// There are too many.
    #[error(
        "packets to {MAX_LOCALS} of the host's {0} addresses are stripped, which is all there is \
         room for: name those that matter with --take"
    )]
    Full(usize),
    /// The kernel refused.
    #[error("map LOCALS: {0}")]
    Map(#[from] MapError),
}

fn key(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => Address::from_v4(v4.octets()).0,
        IpAddr::V6(v6) => Address::from_v6(v6.octets()).0,
    }
}

fn take<M: TryFrom<Map, Error = MapError>>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    let wrong = |reason| LoadError::Map { map: name, reason };
    let map = object.take_map(name).ok_or_else(|| wrong("is not in the object".to_owned()))?;
    map.try_into().map_err(|error| wrong(causes(&error)))
}
