//! The agent's program in the kernel, run in a tight loop (`BPF_PROG_TEST_RUN`; nothing is sent):
//! which version does it send a new connection to, now?

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aya::maps::MapInfo;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, loaded_programs};
use weir::model::Version;
use weir_ebpf::abi;

use super::crowd::Crowd;
use crate::agent::pins;
use crate::frames::{ACK, Frame, SYN};
use crate::lab::Lab;

/// The program's name.
const PROGRAM: &str = "weir_tc";
/// TC's verdict on a packet that leaves by another interface.
const REDIRECT: u32 = 7;
/// Where a frame has its sender's address, its receiver's, and both ports.
const SOURCE: usize = 26;
const DESTINATION: usize = 30;
const SOURCE_PORT: usize = 34;
const DESTINATION_PORT: usize = 36;
/// Ports of a client that connections come from.
const PORTS: u32 = 60_000;
/// Runs that must agree before a change is taken to be complete, for each service.
const AGREE: u32 = 8;
/// A change that has not come by then does not come.
const LIMIT: Duration = Duration::from_secs(20);

/// The program, and where its next frame comes from.
pub struct Probe {
    program: SchedClassifier,
    crowd: Crowd,
    /// The services whose packets it plays.
    services: Range<u16>,
    frame: Vec<u8>,
    out: Vec<u8>,
    connection: u32,
}

/// How a change was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The end of the first run after the last one that was still decided by the old tables.
    pub at: Instant,
    /// Runs decided by the old tables after one that was decided by the new ones.
    pub back: u32,
    /// Runs until then.
    pub runs: u64,
}

impl Probe {
    /// The program of the agent of this lab.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(lab: &Lab, crowd: Crowd) -> Result<Self> {
        Self::of(lab, crowd, 0..crowd.services)
    }

    /// The same, with packets to one of the services alone.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn of_service(lab: &Lab, crowd: Crowd, service: u16) -> Result<Self> {
        Self::of(lab, crowd, service..service + 1)
    }

    fn of(lab: &Lab, crowd: Crowd, services: Range<u16>) -> Result<Self> {
        // Other agents' programs have the same name, but other maps.
        let path = pins(lab).join(format!("abi-{}/maps/SERVICES", abi::VERSION));
        let map = MapInfo::from_pin(&path).with_context(|| path.display().to_string())?.id();
        let mut found = None;
        for info in loaded_programs() {
            let info = info?;
            if info.name_as_str() == Some(PROGRAM)
                && info.map_ids()?.is_some_and(|ids| ids.contains(&map))
            {
                found = Some(info);
            }
        }
        let info = found.with_context(|| format!("no {PROGRAM} with the maps of this agent"))?;
        let frame = Frame::tcp(([10, 9, 0, 1], 1_024).into(), crowd.listener(0), SYN).bytes();
        Ok(Self {
            program: SchedClassifier::from_program_info(info, "".into())?,
            crowd,
            services,
            out: vec![0; frame.len() + 256],
            frame,
            connection: 0,
        })
    }

    /// Runs over packets of new connections to all services in turn, until each is decided by the new
    /// tables, that is sent to `version`. Sets `ready` after the first round.
    ///
    /// # Errors
    ///
    /// The program cannot be run, or sends a packet nowhere, or nothing changes.
    pub fn watch(&mut self, version: Version, ready: &AtomicBool) -> Result<Seen> {
        let began = Instant::now();
        let services = self.services.len() as u64;
        let enough = 64 + AGREE * u32::try_from(services)?;
        let (mut seen, mut agreed, mut back): (Option<Instant>, u32, u32) = (None, 0, 0);
        for runs in 0.. {
            if runs == services {
                ready.store(true, Ordering::Release);
            }
            let service = self.services.start + u16::try_from(runs % services)?;
            if self.decide(service)? == version {
                // The first one after the last that was not.
                seen.get_or_insert_with(Instant::now);
                agreed += 1;
            } else {
                back += u32::from(seen.take().is_some());
                agreed = 0;
            }
            if let Some(at) = seen.filter(|_| agreed >= enough) {
                return Ok(Seen { at, back, runs });
            }
            if runs % 1_024 == 0 && began.elapsed() > LIMIT {
                bail!("no shift to {version} within {LIMIT:?}");
            }
        }
        bail!("no shift to {version}")
    }

    /// The version that the next new connection to a service goes to.
    fn decide(&mut self, service: u16) -> Result<Version> {
        self.connection = self.connection.wrapping_add(1);
        self.address(service, self.connection);
        let (verdict, to) = self.run(1)?;
        let version = Crowd::version_of(to).filter(|_| verdict == REDIRECT);
        version.with_context(|| {
            format!("the program said {verdict} to a new connection, and sent it to {to}")
        })
    }

    /// Plays packets of so many established connections, until it is to stop. `on` says whether
    /// there is any load now.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub fn load(&mut self, connections: u32, on: &AtomicBool, stop: &AtomicBool) -> Result<u64> {
        self.frame = Frame::tcp(([10, 9, 0, 1], 1_024).into(), self.crowd.listener(0), ACK).bytes();
        let mut runs = 0;
        while !stop.load(Ordering::Relaxed) {
            if !on.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let connection = u32::try_from(runs % u64::from(connections))?;
            let service = u16::try_from(runs % self.services.len() as u64)?;
            self.address(service, connection);
            self.run(1)?;
            runs += 1;
        }
        Ok(runs)
    }

    /// Makes the frame one of this connection, to this service. The program has no reason to look
    /// at checksums.
    fn address(&mut self, service: u16, connection: u32) {
        let client = u32::from(Ipv4Addr::new(10, 9, 0, 0)) + 1 + (connection / PORTS) % 65_000;
        let port = u16::try_from(1_024 + connection % PORTS).unwrap_or(u16::MAX);
        let listener = self.crowd.listener(service).port();
        self.frame[SOURCE..DESTINATION].copy_from_slice(&client.to_be_bytes());
        self.frame[SOURCE_PORT..DESTINATION_PORT].copy_from_slice(&port.to_be_bytes());
        self.frame[DESTINATION_PORT..][..2].copy_from_slice(&listener.to_be_bytes());
    }

    /// Runs the program over the frame: its verdict, and the address that the frame has then.
    fn run(&mut self, repeat: u32) -> Result<(u32, IpAddr)> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.frame);
        options.data_out = Some(&mut self.out);
        options.repeat = repeat;
        let verdict = self.program.test_run(options)?.return_value;
        let mut to = [0; 4];
        to.copy_from_slice(&self.out[DESTINATION..SOURCE_PORT]);
        Ok((verdict, to.into()))
    }
}
