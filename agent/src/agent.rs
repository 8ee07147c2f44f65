//! The agent's life: start, serve, stop.

use std::{fs, io::IsTerminal as _, path::PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::{
    api::{serve, socket},
    dataplane::{
        kernel::{Kernel, Options as KernelOptions},
        next_hop::Resolver,
    },
    model::InterfaceSpec,
    node::{self, Identity, Owner, messages::InterfaceStatus},
    store::Directory,
};

/// Batches of next hops that wait for the owner at most.
const CHANGES: usize = 64;

/// What the agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the program is attached; at least one, no name twice.
    pub interfaces: Vec<InterfaceSpec>,
    /// Where the API listens.
    pub socket: PathBuf,
    /// Where the desired state is kept.
    pub state_dir: PathBuf,
    /// Room of the flow table, in entries.
    pub flows: u32,
}

/// Runs the agent until SIGTERM or SIGINT, then detaches.
///
/// # Errors
///
/// What kept it from starting. Nothing is attached then.
pub async fn run(options: Options) -> anyhow::Result<()> {
    start_log();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // First of all, so that a second agent stops here, before it touches anything.
    let (listener, guard) = socket::bind(&options.socket)?;
    let store = Directory::open(&options.state_dir)?;

    let kernel = Kernel::load(KernelOptions { flows: options.flows, ..KernelOptions::default() })?;
    // Tables first, packets after: the program is attached once it knows what to do.
    let mut owner = Owner::start(kernel, store).with_context(|| {
        format!("cannot start from the state in {}", options.state_dir.display())
    })?;
    let interfaces = attach(owner.plane(), &options.interfaces)?;
    let warnings = warnings(&options.interfaces);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    owner.introduce(Identity { interfaces, state_dir: options.state_dir.clone(), warnings });

    let (changes, followed) = mpsc::channel(CHANGES);
    let resolver = Resolver::start(changes)?;
    let (handle, requests) = node::channel();
    // Ends when the server has dropped the last handle; the program is detached with it.
    let owner = tokio::spawn(node::serve(owner, requests, resolver, followed));
    tracing::info!(socket = %options.socket.display(), "serving");
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    serve(listener, &guard, handle, shutdown).await?;
    owner.await.context("the owner task failed")?;
    tracing::info!("detached");
    Ok(())
}

fn attach(kernel: &mut Kernel, wanted: &[InterfaceSpec]) -> anyhow::Result<Vec<InterfaceStatus>> {
    let mut attached = Vec::new();
    for interface in wanted {
        let hook = kernel.attach(&interface.name, interface.mode)?;
        let index = nix::net::if_::if_nametoindex(interface.name.as_str())
            .with_context(|| format!("interface {} vanished", interface.name))?;
        tracing::info!(interface = interface.name, mode = hook.name(), "attached");
        attached.push(InterfaceStatus {
            name: interface.name.clone(),
            index,
            asked: interface.mode,
            actual: Some(hook),
            state: "attached".to_owned(),
        });
    }
    Ok(attached)
}

/// What would keep packets from being forwarded.
fn warnings(interfaces: &[InterfaceSpec]) -> Vec<String> {
    let mut warnings = Vec::new();
    for InterfaceSpec { name, .. } in interfaces {
        for (family, place) in [("IPv4", "ipv4"), ("IPv6", "ipv6")] {
            let file = format!("/proc/sys/net/{place}/conf/{name}/forwarding");
            if fs::read_to_string(&file).is_ok_and(|text| text.trim() == "0") {
                warnings.push(format!(
                    "{name} does not forward {family}, so answers of {family} backends through it \
                     cannot reach clients: set {file} to 1"
                ));
            }
        }
    }
    warnings
}

fn start_log() {
    let filter = tracing_subscriber::filter::LevelFilter::INFO;
    let log = tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr);
    // A second start in one process, as in tests, keeps the first log.
    let _ = log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init();
}
