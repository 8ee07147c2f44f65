//! The nodes that cases share: specs as users write them, and what the network around them is.
//!
//! A spec goes the agent's own way, from YAML to the tables in the kernel. Packets come in through
//! the loopback interface of a network namespace of the node's own, which has nothing else unless
//! the node says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::memory::Memory;
use weir::dataplane::next_hop::{Change, NextHop};
use weir::dataplane::{Commit, DataPlane, OuterSource};
use weir::model::{ServiceName, SpecFile, Version, Weight, parse_services};
use weir::node::Owner;
use weir::node::messages::{Apply, ChangeOptions, InFlight, ServiceShift, Shift};
use weir::store::{self, Loaded, Store, Stored};
use weir_ebpf::abi::{Address, TCP, UDP};

use crate::frames::{endpoint, ip};
use crate::lab::host::ip_batch;
use crate::program::{SMALL, load, redirect_to_all, set_forwarding};

/// A node.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// The services, as a user writes them.
    pub services: &'static str,
    /// The services were left by an agent with these outer sources, and are found at the start. Now
    /// the sources are those of `options`.
    pub left_with: Option<OuterSource>,
    /// The same services written otherwise, and applied after that.
    pub then: &'static [&'static str],
    /// Changes of weights after that: service; blue, green and canary in basis points.
    pub shifts: &'static [(&'static str, [u32; 3])],
    /// Next hops that the agent knows. Those of other backends it does not.
    pub hops: &'static [(&'static str, NextHop)],
    /// Commands of `ip` that make its network, in parts that nodes share.
    pub network: &'static [&'static [&'static str]],
    /// Whether it forwards packets.
    pub forwarding: bool,
    /// Listeners that belong to a service that is not there.
    pub orphans: &'static [&'static str],
    /// Sizes and limits of the data plane.
    pub options: Options,
}

/// A node without anything.
pub const BARE: Spec = Spec {
    name: "bare",
    services: "",
    left_with: None,
    then: &[],
    shifts: &[],
    hops: &[],
    network: &[],
    forwarding: false,
    orphans: &[],
    options: SMALL,
};

/// Behind another interface than packets come by.
pub const AWAY: NextHop = NextHop::plain(7, [2, 7, 0, 0, 0, 1], [2, 7, 0, 0, 0, 2]);
/// Behind the interface that packets come by.
pub const HERE: NextHop = NextHop::plain(1, [2, 1, 0, 0, 0, 1], [2, 1, 0, 0, 0, 2]);
/// What the kernel's own routing says in a node with a network, of clients and of `10.0.0.x`.
pub const ROUTED: NextHop = NextHop::plain(17, [2, 17, 0, 0, 0, 1], [2, 17, 0, 0, 0, 2]);

/// A network with the clients and some backends behind one router, and a neighbour that is still
/// to be found.
pub(super) const NETWORK: &[&str] = &[
    "link set lo up",
    "link add name near index 17 address 02:11:00:00:00:01 type veth peer name far index 18",
    "link set far address 02:11:00:00:00:02 up",
    "link set near up",
    "addr add 203.0.113.1/24 dev near",
    "addr add 2001:db8:113::1/64 dev near nodad",
    "neigh add 203.0.113.254 lladdr 02:11:00:00:00:02 nud permanent dev near",
    "neigh add 2001:db8:113::254 lladdr 02:11:00:00:00:02 nud permanent dev near",
    "route add 192.0.2.0/24 via 203.0.113.254",
    "route add 2001:db8:7::/64 via 2001:db8:113::254",
    "route add 10.0.0.0/24 via 203.0.113.254",
    "route add fd00::/64 via 2001:db8:113::254",
    // Nobody knows the MAC address of what is here.
    "route add 10.0.1.0/24 dev near",
    "route add fd00:1::/64 dev near",
];

/// A network in which backends are neighbours that are still to be found.
pub(super) const NETWORK_ON_LINK: &[&str] = &[
    "link set lo up",
    "link add name near index 17 address 02:11:00:00:00:01 type veth peer name far index 18",
    "link set far up",
    "link set near up",
    "addr add 203.0.113.1/24 dev near",
    "addr add 2001:db8:113::1/64 dev near nodad",
    "route add 10.0.0.0/24 dev near",
    "route add fd00::/64 dev near",
];

/// Services of both families in `nat`, for TCP and UDP.
const NAT: &str = r#"
services:
  - name: away4
    listeners:
      - { address: 198.51.100.1, port: 80, protocol: tcp }
      - { address: 198.51.100.1, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 8080 }] } }
  - name: away6
    listeners:
      - { address: "2001:db8::1", port: 80, protocol: tcp }
      - { address: "2001:db8::1", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::1", port: 8080 }] } }
  - name: here4
    listeners:
      - { address: 198.51.100.2, port: 80, protocol: tcp }
      - { address: 198.51.100.2, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.2, port: 8080 }] } }
  - name: here6
    listeners:
      - { address: "2001:db8::2", port: 80, protocol: tcp }
      - { address: "2001:db8::2", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::2", port: 8080 }] } }
  - name: unknown4
    listeners:
      - { address: 198.51.100.3, port: 80, protocol: tcp }
      - { address: 198.51.100.3, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.3, port: 8080 }] } }
  - name: unknown6
    listeners:
      - { address: "2001:db8::3", port: 80, protocol: tcp }
      - { address: "2001:db8::3", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::3", port: 8080 }] } }
  - name: unresolved4
    listeners:
      - { address: 198.51.100.4, port: 80, protocol: tcp }
      - { address: 198.51.100.4, port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.1.4, port: 8080 }] } }
  - name: unresolved6
    listeners:
      - { address: "2001:db8::4", port: 80, protocol: tcp }
      - { address: "2001:db8::4", port: 80, protocol: udp }
    versions: { blue: { weight: 100%, backends: [{ address: "fd00:1::4", port: 8080 }] } }
  - name: empty4
    listeners:
      - { address: 198.51.100.1, port: 81, protocol: tcp }
      - { address: 198.51.100.1, port: 81, protocol: udp }
    versions: { blue: { weight: 100% } }
  - name: empty6
    listeners:
      - { address: "2001:db8::1", port: 81, protocol: tcp }
      - { address: "2001:db8::1", port: 81, protocol: udp }
    versions: { blue: { weight: 100% } }
"#;

const NAT_HOPS: &[(&str, NextHop)] =
    &[("10.0.0.1", AWAY), ("fd00::1", AWAY), ("10.0.0.2", HERE), ("fd00::2", HERE)];

/// `nat`, and nothing known of any network: no route, no forwarding.
pub static PLAIN: Spec = Spec {
    name: "plain",
    services: NAT,
    hops: NAT_HOPS,
    orphans: &["198.51.100.1:82", "[2001:db8::1]:82"],
    ..BARE
};

/// The same with forwarding on, but still no route.
pub static LOST: Spec = Spec { name: "lost", forwarding: true, ..PLAIN };

/// The same with routes to clients and backends.
pub static NETWORKED: Spec =
    Spec { name: "networked", network: &[NETWORK], forwarding: true, ..PLAIN };

/// Blue was replaced by green just now: every slot has moved, and is tracked.
const MOVING: &str = r#"
services:
  - name: moving4
    listeners:
      - { address: 198.51.100.1, port: 80, protocol: tcp }
      - { address: 198.51.100.1, port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 8080 }] }
      green: { backends: [{ address: 10.0.0.2, port: 8080 }] }
  - name: moving6
    listeners:
      - { address: "2001:db8::1", port: 80, protocol: tcp }
      - { address: "2001:db8::1", port: 80, protocol: udp }
    versions:
      blue: { weight: 100%, backends: [{ address: "fd00::1", port: 8080 }] }
      green: { backends: [{ address: "fd00::2", port: 8080 }] }
"#;

/// In the middle of a shift from blue (`.1`) to green (`.2`).
pub static SHIFTING: Spec = Spec {
    name: "shifting",
    services: MOVING,
    shifts: &[("moving4", [0, 10_000, 0]), ("moving6", [0, 10_000, 0])],
    hops: NAT_HOPS,
    ..BARE
};

/// The same, where new flows come faster than they may be remembered.
pub static FLOODED: Spec =
    Spec { name: "flooded", options: Options { inserts_per_second: 0, ..SMALL }, ..SHIFTING };

/// A node that runs, in the calling thread's own network namespace.
pub struct Node {
    owner: Owner<Kernel, Kept>,
    backends: Vec<SocketAddr>,
}

/// A store in memory, which its clones share.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Stored>>>);

impl Store for Kept {
    fn load(&mut self) -> Result<Loaded, store::Error> {
        Ok(Loaded { state: self.0.lock().unwrap().clone(), warning: None })
    }

    fn save(&mut self, stored: &Stored) -> Result<store::Kept, store::Error> {
        *self.0.lock().unwrap() = Some(stored.clone());
        Ok(store::Kept::Durably)
    }
}

impl Node {
    /// Starts a node. The calling thread gets a network namespace of its own, which ends with it.
    pub fn start(spec: &Spec) -> Result<Self> {
        let kernel = load(spec.options);
        let network: Vec<String> = spec.network.concat().iter().map(ToString::to_string).collect();
        if !network.is_empty() {
            ip_batch(None, &network)?;
        }
        set_forwarding(spec.forwarding);
        let store = Kept::default();
        if let Some(outer) = spec.left_with {
            let mut before = Owner::start(Memory { outer, ..Memory::new(1) }, store.clone())?;
            apply(&mut before, spec.services)?;
        }
        let mut owner = Owner::start(kernel, store)?;
        if spec.left_with.is_none() {
            apply(&mut owner, spec.services)?;
        }
        for text in spec.then {
            apply(&mut owner, text)?;
        }
        for (service, weights) in spec.shifts {
            let shift = shift(service, *weights)?;
            owner.shift(&Shift {
                shifts: vec![shift],
                in_flight: InFlight::default(),
                lease: None,
                options: forced(),
            })?;
        }
        let hops = spec
            .hops
            .iter()
            .map(|(address, hop)| Ok(Change::Hop(address.parse::<IpAddr>()?, Some(*hop))));
        owner.follow(hops.collect::<Result<_>>()?);
        let kernel = owner.plane();
        redirect_to_all(kernel);
        orphans(kernel, spec.orphans)?;
        let records = (0..)
            .map(|index| kernel.backend(index))
            .take_while(|b| b.address != Address::default());
        let backends = records.map(|b| (ip(b.address), u16::from_be(b.port)).into()).collect();
        Ok(Self { owner, backends })
    }

    /// The data plane.
    pub fn kernel(&mut self) -> &mut Kernel {
        self.owner.plane()
    }

    /// Applies services, as a user writes them.
    pub fn apply(&mut self, services: &str) -> Result<()> {
        apply(&mut self.owner, services)
    }

    /// All backends, by index.
    #[must_use]
    pub fn backends(&self) -> &[SocketAddr] {
        &self.backends
    }

    /// The index of the backend at `10.0.0.1:8080` or the like, or at `10.0.0.1` if it has no port of
    /// its own. It is there.
    #[must_use]
    pub fn index(&self, backend: &str) -> usize {
        let whole = |_| backend.parse::<IpAddr>().map(|ip| (ip, 0).into());
        let at: SocketAddr = backend.parse().or_else(whole).expect("an address");
        let mut all = self.backends.iter();
        all.position(|known| *known == at).unwrap_or_else(|| panic!("no backend {at}"))
    }

    /// Forgets all flows, and handshakes.
    pub fn forget(&mut self) {
        self.kernel().forget_handshakes();
        for protocol in [TCP, UDP] {
            for (key, _) in self.kernel().flows(protocol).expect("the flow table is read") {
                self.kernel().remove_flow(&key).expect("a flow is removed");
            }
        }
    }

    /// How many flows are remembered.
    pub fn flows(&mut self) -> usize {
        let count = |protocol| self.owner.plane().flows(protocol).expect("a flow table").len();
        [TCP, UDP].map(count).iter().sum()
    }
}

fn forced() -> ChangeOptions {
    ChangeOptions { force: true, ..ChangeOptions::default() }
}

fn apply<P: DataPlane>(owner: &mut Owner<P, Kept>, text: &str) -> Result<()> {
    let services = match parse_services(&SpecFile::parse(text)?.services, true) {
        Ok(services) => services,
        Err(violations) => bail!("{violations:?}"),
    };
    owner.apply(&Apply { services, options: forced() })?;
    Ok(())
}

fn shift(service: &str, weights: [u32; 3]) -> Result<ServiceShift> {
    let mut set = Vec::new();
    for (version, bp) in Version::ALL.into_iter().zip(weights) {
        set.push((version, Weight::from_bp(bp).context("a weight above 10000")?));
    }
    let service = match ServiceName::new(service) {
        Ok(name) => name,
        Err(error) => bail!("{service:?} {error}"),
    };
    Ok(ServiceShift { service, set, remainder: Version::Blue, expected_generation: None })
}

/// Listeners of a service that has no record: what a packet meets in the instant between the two
/// halves of a commit that makes a service.
fn orphans(kernel: &mut Kernel, listeners: &[&str]) -> Result<()> {
    const NOBODY: u32 = 500;
    let mut commit = Commit { generation: 1_000, ..Commit::default() };
    for listener in listeners {
        for protocol in [TCP, UDP] {
            commit.listeners.push((endpoint(listener.parse()?, protocol), NOBODY));
        }
    }
    if !commit.listeners.is_empty() {
        kernel.commit(&commit)?;
    }
    Ok(())
}
