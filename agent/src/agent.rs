//! The agent's life: start, serve, stop.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::net::if_::if_nametoindex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::{
    api::{Ends, port::Port, serve, socket},
    dataplane::{
        DataPlane as _, OuterSource,
        kernel::{AttachError, BpfLog, Kernel, Options as KernelOptions, PinError, Pins},
        next_hop::{self, Resolver},
    },
    health, log,
    model::InterfaceSpec,
    node::{self, Identity, Owner, messages::InterfaceStatus, trace::live::Tracing},
    observe, outer_source,
    store::Directory,
    tls,
};

/// Where the data plane is pinned unless the agent is told otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/weir";
/// Batches of next hops that wait for the owner at most.
const CHANGES: usize = 64;

/// What the agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the program is attached; at least one, no name twice.
    pub interfaces: Vec<InterfaceSpec>,
    /// Where the API listens.
    pub socket: PathBuf,
    /// Where it listens too, with mutual TLS.
    pub listen: Option<(SocketAddr, tls::Files)>,
    /// Where the desired state is kept.
    pub state_dir: PathBuf,
    /// Flows that the flow table has room for.
    pub flows: u32,
    /// Directory in a BPF file system, by which the data plane outlives the agent.
    pub bpffs: PathBuf,
    /// What becomes of the data plane when the agent stops cleanly.
    pub on_exit: OnExit,
    /// A flow that is silent for longer has ended, in seconds.
    pub drain_idle: u32,
    /// Where packets in tunnels come from. For a family without one, the node finds one.
    pub outer_source: OuterSource,
    /// Where metrics and the page are served.
    pub http: observe::Listen,
    /// Which lines are logged,
    pub log: log::Level,
    /// and how.
    pub log_format: log::Format,
    /// Which lines the program in the kernel writes.
    pub bpf_log: BpfLog,
}

/// What becomes of the data plane when the agent stops cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnExit {
    /// It is detached, and forgets.
    #[default]
    Detach,
    /// It goes on, and the next agent takes it up.
    Keep,
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
///
/// What kept it from starting. Nothing is attached then.
pub async fn run(options: Options) -> anyhow::Result<()> {
    log::start(options.log_format, options.log);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // First of all, so that a second agent stops here, before it touches anything.
    let (listener, guard) = socket::bind(&options.socket)?;
    let bind = |(address, files): &(_, tls::Files)| Port::bind(*address, files.clone());
    let port = options.listen.as_ref().map(bind).transpose()?;
    let store = Directory::open(&options.state_dir)?;

    let kernel = load(&options, outer_source(&options).await?)?;
    // Tables first, packets after: the program is attached once it knows what to do.
    let mut owner = Owner::start(kernel, store).with_context(|| {
        format!("cannot start from the state in {}", options.state_dir.display())
    })?;
    owner.set_idle(options.drain_idle);
    let interfaces = attach(owner.plane(), &options.interfaces);
    if interfaces.is_err() {
        owner.plane().release_new();
    }
    let interfaces = interfaces?;
    owner.plane().release_others();
    let (http, unheard) = observe::bind(options.http);
    let mut warnings = warnings(&options.interfaces);
    warnings.extend(unheard);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    owner.introduce(Identity {
        interfaces,
        state_dir: options.state_dir.clone(),
        http: http.as_ref().map(observe::Bound::address),
        listen: port.as_ref().map(Port::address),
        bpf_log: options.bpf_log,
        warnings,
    });
    if let Some(lines) = owner.plane().take_log() {
        tokio::spawn(lines.follow());
    }

    owner.rely_on(health::start());
    let (changes, followed) = mpsc::channel(CHANGES);
    let resolver = Resolver::start(changes)?;
    let (mut handle, requests) = node::channel();
    if let Some(tap) = owner.plane().take_tap() {
        handle = handle.with_tracing(Tracing::start(Box::new(tap)));
    }
    let (stop, stopped) = oneshot::channel();
    let owner = tokio::spawn(node::serve(owner, requests, resolver, followed, stopped));
    let observing = http.map(|http| observe::serve(http, handle.clone()));
    let listen = port.as_ref().map(|port| format!("https://{}", port.address()));
    tracing::info!(socket = %options.socket.display(), listen, "serving");
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    serve(Ends { socket: listener, guard: &guard, port }, handle, shutdown).await?;
    drop(observing);
    // Not by the last handle's end: a client that hangs keeps its connection, and that a handle.
    drop(stop);
    let mut owner = owner.await.context("the owner task failed")?;
    match options.on_exit {
        OnExit::Detach => {
            owner.plane().unpin()?;
            tracing::info!("detached");
        }
        OnExit::Keep => tracing::info!("stopped; the data plane goes on"),
    }
    Ok(())
}

/// Where packets in tunnels come from, for as long as the agent runs.
async fn outer_source(options: &Options) -> anyhow::Result<OuterSource> {
    let index = |interface: &InterfaceSpec| if_nametoindex(interface.name.as_str()).ok();
    let attached: Vec<u32> = options.interfaces.iter().filter_map(index).collect();
    let own = next_hop::own_addresses().await?;
    let outer = outer_source::choose(options.outer_source, &attached, &own);
    let text = |address: Option<String>| address.unwrap_or_else(|| "none".to_owned());
    tracing::info!(
        ipv4 = text(outer.v4.map(|address| address.to_string())),
        ipv6 = text(outer.v6.map(|address| address.to_string())),
        "packets in tunnels come from"
    );
    Ok(outer)
}

/// Loads the program, on what an earlier agent has pinned where there is a BPF file system.
fn load(options: &Options, outer: OuterSource) -> anyhow::Result<Kernel> {
    let (flows, log) = (options.flows, options.bpf_log);
    let sizes = KernelOptions { flows, outer, log, ..KernelOptions::default() };
    match Pins::open(&options.bpffs) {
        Ok(pins) => Ok(Kernel::load_pinned(sizes, pins)?),
        Err(error @ PinError::NotBpf(_)) if options.on_exit == OnExit::Detach => {
            tracing::warn!("{error}; without one, forwarding ends with the agent");
            Ok(Kernel::load(sizes)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Attaches to all interfaces. One that is not there is an error, unless an earlier agent was
/// attached to it: then the others go on, and it is waited for.
fn attach(kernel: &mut Kernel, wanted: &[InterfaceSpec]) -> anyhow::Result<Vec<InterfaceStatus>> {
    let mut attached = Vec::new();
    for interface in wanted {
        let name = interface.name.as_str();
        let mut status = InterfaceStatus {
            name: name.to_owned(),
            index: 0,
            asked: interface.mode,
            actual: None,
            state: node::GONE.to_owned(),
        };
        match kernel.attach(name, interface.mode) {
            Ok(hook) => {
                status.index =
                    if_nametoindex(name).with_context(|| format!("interface {name} vanished"))?;
                (status.actual, status.state) = (Some(hook), node::ATTACHED.to_owned());
                tracing::info!(interface = name, mode = hook.name(), "attached");
            }
            Err(AttachError::NoInterface(_)) if kernel.was_attached(name) => {
                tracing::warn!(interface = name, "the interface is gone; it is waited for");
            }
            Err(error) => return Err(error.into()),
        }
        attached.push(status);
    }
    Ok(attached)
}

/// What would keep packets from being forwarded, or forward some that it should not.
fn warnings(interfaces: &[InterfaceSpec]) -> Vec<String> {
    let mut warnings = Vec::new();
    for InterfaceSpec { name, .. } in interfaces {
        if let Some(master) = master(name) {
            warnings.push(format!(
                "{name} is a port of {master}: weir sees what comes in by this port alone, and \
                 sees it before {master} sorts out what is not for this host; attach to {master} \
                 instead (--interface {master}), or know that this is what you want"
            ));
        }
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

/// The bond or bridge that an interface is a port of.
fn master(interface: &str) -> Option<String> {
    let place = Path::new("/sys/class/net").join(interface);
    // A VRF is a master too, but packets stay with its ports.
    let is_port = place.join("bonding_slave").exists() || place.join("brport").exists();
    let master = fs::read_link(place.join("master")).ok().filter(|_| is_port)?;
    Some(master.file_name()?.display().to_string())
}
