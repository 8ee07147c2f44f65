//! A service: listeners, three versions and their weights. Built by [`super::parse_services`] alone.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weir_ebpf::abi::UDP_IDLE_SECONDS;

use super::{
    Drain, Health, PerVersion, Quic, Rule, ServerId, Signals, Udp, Version, Weights,
    spec::{
        BackendSpec, HealthSpec, ListenerSpec, QuicSpec, RuleSpec, ServiceSpec, VersionSpec,
        VersionsSpec,
    },
    time,
};

/// The most services of a node.
pub const MAX_SERVICES: usize = 512;
/// The most listeners of a service.
pub const MAX_LISTENERS: usize = 16;
/// The most backends of a version.
pub const MAX_BACKENDS: usize = 4096;
/// The most characters of a release label.
pub const MAX_RELEASE: usize = 128;
/// The most characters of a service's name.
pub const MAX_NAME: usize = 63;
/// The highest weight of a backend.
pub const MAX_BACKEND_WEIGHT: u16 = 1000;
/// The UDP port of GUE where none is given, as assigned by IANA.
pub const DEFAULT_GUE_PORT: u16 = 6080;
/// The weight of a backend that gives none.
pub const DEFAULT_BACKEND_WEIGHT: u16 = 100;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// How a packet reaches its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// The destination is rewritten; answers come back through this node.
    #[default]
    Nat,
    /// Only the destination MAC address is rewritten; answers go to the client directly.
    DsrL2,
    /// The packet is sent inside an IP packet; answers go to the client directly.
    DsrIpip,
    /// The packet is sent inside a UDP datagram (GUE); answers go to the client directly.
    DsrGue,
}

impl Forwarding {
    /// Whether a backend of `backend`'s family can serve listeners of `listener`'s.
    #[must_use]
    pub fn carries(self, listener: Family, backend: Family) -> bool {
        match self {
            Self::Nat | Self::DsrL2 => listener == backend,
            Self::DsrIpip => listener == backend || listener == Family::V4,
            Self::DsrGue => true,
        }
    }

    /// Whether packets are put into other packets.
    #[must_use]
    pub fn is_tunnel(self) -> bool {
        matches!(self, Self::DsrIpip | Self::DsrGue)
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::DsrL2 => "dsr-l2",
            Self::DsrIpip => "dsr-ipip",
            Self::DsrGue => "dsr-gue",
        })
    }
}

/// Which connections stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// Each connection is decided by itself.
    #[default]
    Connection,
    /// All connections of a client address go to one version.
    Client,
    /// All connections of a client address go to one backend.
    ClientBackend,
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::Client => "client",
            Self::ClientBackend => "client-backend",
        })
    }
}

/// The family of an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A name that can be a DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at the ends. Clones share
/// it: each change begins with a copy of the node's state, in which services are by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServiceName(Arc<str>);

impl TryFrom<String> for ServiceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.as_str().to_owned()
    }
}

impl ServiceName {
    /// The name, or what is wrong with it.
    pub fn new(name: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        if bytes.is_empty() {
            Err("is empty; a service needs a name".to_owned())
        } else if bytes.len() > MAX_NAME {
            Err(format!("has {} characters; at most {MAX_NAME} are allowed", name.chars().count()))
        } else if !bytes.iter().all(|byte| inner(*byte) || *byte == b'-') {
            Err(format!("{name:?} holds something other than a-z, 0-9 and -"))
        } else if name.starts_with('-') || name.ends_with('-') {
            Err(format!("{name:?} must begin and end with a letter or a digit"))
        } else {
            Ok(Self(name.into()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// A unicast address.
    pub address: IpAddr,
    /// The port; 0 means every port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// All its connections go to this version, whatever the weights and rules.
    pub version: Option<Version>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", std::net::SocketAddr::new(self.address, self.port), self.protocol)?;
        self.version.map_or(Ok(()), |version| write!(f, " ({version})"))
    }
}

/// One endpoint that serves a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend {
    /// A unicast address.
    pub address: IpAddr,
    /// The port; 0 where the packet's own is kept: in the direct modes, and behind a listener for
    /// every port.
    pub port: u16,
    /// Weight among the backends of the version, 0 to 1000. 0 quiesces: no new connections.
    pub weight: u16,
    /// With [`Service::quic`], its id in the service's connection ids, which no other backend has.
    pub server_id: Option<ServerId>,
}

/// The key of a service's hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub [u8; 16]);

impl Seed {
    /// The seed of a service that gives none: the same on every node.
    #[must_use]
    pub fn derived(name: &ServiceName) -> Self {
        let digest =
            Sha256::new().chain_update(b"weir seed v1\0").chain_update(name.as_str()).finalize();
        let mut seed = [0; 16];
        seed.copy_from_slice(&digest[..16]);
        Self(seed)
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What serves one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct VersionGroup {
    /// A label that says what runs here; may be empty.
    pub release: String,
    /// The backends; no two with the same address and port.
    pub backends: Vec<Backend>,
}

impl VersionGroup {
    /// Whether a backend takes new connections.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.backends.iter().any(|backend| backend.weight > 0)
    }
}

/// A valid service.
///
/// What holds: listeners are not empty, differ, and are of one family; with nat there is one of each
/// protocol. Backends are of a family that the forwarding mode carries, differ over all versions and are
/// no listener. Steering rules are ordered, of the listeners' family, and one for a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    pub(super) name: ServiceName,
    pub(super) listeners: Vec<Listener>,
    pub(super) forwarding: Forwarding,
    pub(super) gue_port: u16,
    pub(super) affinity: Affinity,
    pub(super) udp: Udp,
    pub(super) udp_idle: u16,
    pub(super) quic: Option<Quic>,
    pub(super) signals: Signals,
    pub(super) drain: Drain,
    pub(super) health: Option<Arc<Health>>,
    pub(super) seed: Option<Seed>,
    pub(super) weights: Weights,
    pub(super) steering: Arc<[Rule]>,
    pub(super) versions: PerVersion<VersionGroup>,
}

impl Service {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Where clients connect: at least one, all of one family.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// How packets reach the backends.
    #[must_use]
    pub fn forwarding(&self) -> Forwarding {
        self.forwarding
    }

    /// The UDP port that backends take tunnelled packets at, with [`Forwarding::DsrGue`].
    #[must_use]
    pub fn gue_port(&self) -> u16 {
        self.gue_port
    }

    /// Which connections stay together.
    #[must_use]
    pub fn affinity(&self) -> Affinity {
        self.affinity
    }

    /// What is remembered of UDP flows.
    #[must_use]
    pub fn udp(&self) -> Udp {
        self.udp
    }

    /// Seconds of silence that end a tracked UDP flow.
    #[must_use]
    pub fn udp_idle(&self) -> u16 {
        self.udp_idle
    }

    /// How QUIC connection ids name its backends. Then each of these has a server id.
    #[must_use]
    pub fn quic(&self) -> Option<Quic> {
        self.quic
    }

    /// What is counted beside traffic.
    #[must_use]
    pub fn signals(&self) -> Signals {
        self.signals
    }

    /// How long flows that a change leaves behind are waited for.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain
    }

    /// How its backends are checked; without it they are taken to be up.
    #[must_use]
    pub fn health(&self) -> Option<&Arc<Health>> {
        self.health.as_ref()
    }

    /// The key of the hashes: as given, else derived from the name.
    #[must_use]
    pub fn seed(&self) -> Seed {
        self.seed.unwrap_or_else(|| Seed::derived(&self.name))
    }

    /// The weights of the versions.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The steering rules.
    #[must_use]
    pub fn steering(&self) -> &Arc<[Rule]> {
        &self.steering
    }

    /// What serves each version.
    #[must_use]
    pub fn versions(&self) -> &PerVersion<VersionGroup> {
        &self.versions
    }

    /// The family of its listeners.
    #[must_use]
    pub fn family(&self) -> Family {
        self.listeners.first().map_or(Family::V4, |listener| Family::of(listener.address))
    }

    /// Versions that have weight but no backend that takes new connections.
    pub fn unserved(&self) -> impl Iterator<Item = Version> {
        let weights = self.weights;
        let missing = move |(version, group): (Version, &VersionGroup)| {
            (weights.get(version).bp() > 0 && !group.is_served()).then_some(version)
        };
        self.versions.iter().filter_map(missing)
    }

    /// The first rule that leads to a version without a backend that takes new connections.
    #[must_use]
    pub fn misled(&self) -> Option<&Rule> {
        self.steering.iter().find(|rule| !self.versions[rule.version].is_served())
    }

    /// Whether listeners lead connections to a version.
    #[must_use]
    pub fn previews(&self, version: Version) -> bool {
        self.listeners.iter().any(|listener| listener.version == Some(version))
    }

    /// The same service with other steering rules, as [`super::steering::revise`] makes them.
    #[must_use]
    pub fn with_steering(mut self, rules: Arc<[Rule]>) -> Self {
        self.steering = rules;
        self
    }

    /// The same service with other weights.
    #[must_use]
    pub fn with_weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }
}

impl From<&Service> for ServiceSpec {
    /// The spec that makes this service again. Versions with nothing in them are left out.
    fn from(service: &Service) -> Self {
        let version = |version: Version| {
            let group = &service.versions[version];
            let spec = VersionSpec {
                release: group.release.clone(),
                weight: service.weights.get(version).bp(),
                backends: group.backends.iter().map(BackendSpec::from).collect(),
            };
            (spec != VersionSpec::default()).then_some(spec)
        };
        Self {
            name: service.name.to_string(),
            listeners: service.listeners.iter().map(ListenerSpec::from).collect(),
            forwarding: service.forwarding,
            gue_port: (service.gue_port != DEFAULT_GUE_PORT).then_some(service.gue_port.into()),
            affinity: service.affinity,
            udp: service.udp,
            udp_idle: (service.udp_idle != UDP_IDLE_SECONDS)
                .then(|| time::text(service.udp_idle.into())),
            quic: service.quic.map(QuicSpec::from),
            signals: service.signals,
            drain: (service.drain != Drain::default()).then(|| service.drain.into()),
            health: service.health.as_deref().map(HealthSpec::from),
            seed: service.seed.map(|seed| seed.to_string()),
            steering: service.steering.iter().map(RuleSpec::from).collect(),
            versions: VersionsSpec {
                blue: version(Version::Blue),
                green: version(Version::Green),
                canary: version(Version::Canary),
            },
        }
    }
}

impl From<&Rule> for RuleSpec {
    fn from(rule: &Rule) -> Self {
        Self { source: rule.source.to_string(), version: rule.version }
    }
}

impl From<&Listener> for ListenerSpec {
    fn from(listener: &Listener) -> Self {
        Self {
            address: listener.address.to_string(),
            port: listener.port.into(),
            protocol: listener.protocol,
            version: listener.version,
        }
    }
}

impl From<&Backend> for BackendSpec {
    fn from(backend: &Backend) -> Self {
        Self {
            address: backend.address.to_string(),
            port: backend.port.into(),
            weight: backend.weight.into(),
            server_id: backend.server_id.map(|id| id.to_string()),
        }
    }
}
