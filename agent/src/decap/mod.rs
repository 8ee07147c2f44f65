//! `weir decap`: strips tunnels on a backend that has no tunnel devices, as long as it runs.
//!
//! - `program`: the BPF program, loaded, and its maps
//! - `totals`: what it counted, and where others read that

mod program;
mod totals;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub use program::{Decapsulator, LocalsError};
pub use totals::{NotRunning, NotStripped, Pin, Stripped, Totals};

use crate::dataplane::kernel::PinError;
use crate::dataplane::next_hop::{Change, Resolver};
use crate::log;
use crate::model::InterfaceSpec;

/// Where the counters are pinned unless it is told otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/weir-decap";
/// The port that IANA has assigned to GUE.
pub const GUE_PORT: u16 = 6080;
/// Batches of changes that wait at most.
const CHANGES: usize = 16;
/// How long the kernel may take to say which addresses the host has.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the decapsulator is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the program is attached; at least one, no name twice.
    pub interfaces: Vec<InterfaceSpec>,
    /// Packets to these addresses are taken; none: to all addresses that the host has.
    pub addresses: BTreeSet<IpAddr>,
    /// UDP port of GUE.
    pub gue_port: u16,
    /// Directory in a BPF file system, by which others read the counters.
    pub bpffs: PathBuf,
}

/// Strips tunnels until SIGTERM or SIGINT.
///
/// # Errors
///
/// What kept it from starting. Nothing is attached then.
pub async fn run(options: Options) -> anyhow::Result<()> {
    log::start(log::Format::default(), log::Level::default());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let pin = pin(&options)?;
    let mut program = Decapsulator::load(options.gue_port, pin.as_ref())?;
    let mut locals = Locals::start(&options.addresses)?;
    // Addresses first, packets after.
    let first = tokio::time::timeout(PATIENCE, locals.next());
    let first = first.await.context("the kernel does not say which addresses the host has")?;
    take(&mut program, &first);
    for interface in &options.interfaces {
        let hook = program.attach(&interface.name, interface.mode)?;
        tracing::info!(
            interface = interface.name,
            mode = hook.name(),
            gue_port = options.gue_port,
            "strips IPIP and GUE"
        );
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            addresses = locals.next() => take(&mut program, &addresses),
        }
    }
    let totals = program.totals();
    drop(program);
    tracing::info!("detached");
    tracing::info!("{}", totals?);
    Ok(())
}

fn pin(options: &Options) -> anyhow::Result<Option<Pin>> {
    match Pin::new(&options.bpffs) {
        Ok(pin) => Ok(Some(pin)),
        Err(error @ PinError::NotBpf(_)) => {
            tracing::warn!("{error}; without one, `weir decap counters` has nothing to read");
            Ok(None)
        }
        Err(PinError::InUse(path)) => bail!(
            "another `weir decap` counts in {}: give all interfaces to one, or choose another --bpffs",
            path.display()
        ),
        Err(error) => Err(error.into()),
    }
}

/// Tells the program the addresses. What does not fit is told to the operator.
fn take(program: &mut Decapsulator, addresses: &BTreeSet<IpAddr>) {
    match program.set_locals(addresses) {
        Ok(()) => tracing::info!("takes packets to {} addresses", addresses.len()),
        Err(error) => tracing::warn!("{error}"),
    }
}

/// The addresses that packets are taken for.
enum Locals {
    /// Those of the host, as they change.
    Followed { changes: mpsc::Receiver<Vec<Change>>, _resolver: Resolver },
    /// Those asked for, until they are told.
    Fixed(Option<BTreeSet<IpAddr>>),
}

impl Locals {
    fn start(asked: &BTreeSet<IpAddr>) -> anyhow::Result<Self> {
        if !asked.is_empty() {
            return Ok(Self::Fixed(Some(asked.clone())));
        }
        let (sender, changes) = mpsc::channel(CHANGES);
        Ok(Self::Followed { changes, _resolver: Resolver::start(sender)? })
    }

    /// Waits for the next set, for ever if there is none.
    async fn next(&mut self) -> BTreeSet<IpAddr> {
        loop {
            let batch = match self {
                Self::Fixed(told) => match told.take() {
                    Some(addresses) => return addresses,
                    None => std::future::pending().await,
                },
                Self::Followed { changes, .. } => changes.recv().await,
            };
            // The resolver lives as long as we do, so the channel does not end.
            let Some(batch) = batch else { std::future::pending().await };
            let told = batch.into_iter().find_map(|change| match change {
                Change::Locals(addresses) => Some(addresses),
                Change::Hop(..) | Change::Devices(_) => None,
            });
            if let Some(mut addresses) = told {
                // Nothing comes to these from outside.
                addresses.retain(|address| !address.is_loopback());
                return addresses;
            }
        }
    }
}
