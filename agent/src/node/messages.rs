//! What can be asked of the node, and what it answers. Plain data; `api::convert` maps it to `weir.v1`.
//!
//! The serialized form of the answers is what `weir -o json` prints: names and units are stable.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::interval::Interval;
use crate::health::Counts;
use crate::model::{
    AttachMode, BackendState, Fence, Guard, Hook, LeaseLength, LeaseTerms, Observed, OnExpiry,
    OnTimeout, PerVersion, Rule, SampleRatio, Service, ServiceName, ServiceSpec, TableShare,
    Version, Weight, Weights,
};
pub use crate::model::{Handshakes, Traffic};

/// The most characters of a request id.
pub const MAX_REQUEST_ID: usize = 64;

/// Names a request, so that repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// The id, if it is 1 to 64 printable ASCII characters.
    pub fn new(id: &str) -> Result<Self, String> {
        if id.is_empty()
            || id.len() > MAX_REQUEST_ID
            || !id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(format!(
                "is not 1 to {MAX_REQUEST_ID} printable ASCII characters without spaces"
            ));
        }
        Ok(Self(id.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How to make a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct ChangeOptions {
    /// The answer to an id that was carried out before is given again, and nothing changed.
    pub request_id: Option<RequestId>,
    /// Say what would change, and change nothing.
    pub dry_run: bool,
    /// Allow weight for a version that nothing serves.
    pub force: bool,
    /// Whose change it is, where there is a rollout.
    pub fence: Option<Fence>,
}

/// Create or replace services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Apply {
    /// At least one; valid beside each other, but not yet beside what the node has.
    pub services: Vec<Service>,
    /// How.
    pub options: ChangeOptions,
}

/// Remove services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delete {
    /// At least one; no name twice.
    pub services: Vec<ServiceName>,
    /// As in [`ChangeOptions`].
    pub request_id: Option<RequestId>,
    /// As in [`ChangeOptions`].
    pub fence: Option<Fence>,
}

/// Change weights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shift {
    /// At least one; no service twice.
    pub shifts: Vec<ServiceShift>,
    /// What becomes of the connections of versions that lose all their weight.
    pub in_flight: InFlight,
    /// The new weights hold only as long as this is renewed.
    pub lease: Option<LeaseTerms>,
    /// How.
    pub options: ChangeOptions,
}

/// What becomes of the connections of versions that lose all their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum InFlight {
    /// They drain, as the service's spec says.
    #[default]
    BySpec,
    /// They stay for as long as they last.
    Keep,
    /// They drain, with another end than the spec gives. Also of versions that are named with weight
    /// 0 and had none before.
    Drain {
        /// In seconds.
        timeout: Option<u32>,
        /// What happens then.
        on_timeout: Option<OnTimeout>,
    },
    /// They are given up in the same commit, likewise.
    Reset,
}

/// Set by hand whether a backend takes new connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetBackend {
    /// The service.
    pub service: ServiceName,
    /// Address of the backend.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What it shall be.
    pub state: BackendState,
    /// How.
    pub options: ChangeOptions,
}

/// End the transition of a service now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settle {
    /// The service.
    pub service: ServiceName,
    /// Say what would be settled, and change nothing.
    pub dry_run: bool,
    /// As in [`ChangeOptions`].
    pub fence: Option<Fence>,
}

/// The answer to [`Settle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The commit; the last one made, if there was nothing to settle.
    pub commit: Commit,
    /// Version slots, from where connections that began before belong to where new ones go.
    pub slots: Vec<Move>,
    /// Slots of backend tables.
    pub backend_slots: u32,
    /// Prefixes of steered clients.
    pub prefixes: u32,
    /// Seconds after which all of it settles by itself.
    pub by_itself_s: u32,
}

impl Settled {
    /// Whether there is nothing to settle.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.slots.is_empty() && self.backend_slots == 0 && self.prefixes == 0
    }
}

/// Whether something can be stopped without breaking a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MayStop {
    /// Nothing names it any more.
    Yes,
    /// Connections are on it, or new ones go there.
    No,
    /// Connections may be on it that have been silent since the change.
    Unknown,
}

/// A version that has lost all its weight or whose slots have not settled, or a backend that drains
/// or is down. Times are seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainStatus {
    /// The service.
    pub service: ServiceName,
    /// The version.
    pub version: Version,
    /// Address and port of the backend; nothing: the whole version.
    pub backend: Option<SocketAddr>,
    /// Why it is listed.
    pub why: String,
    /// Since the drain began.
    pub age_s: Option<u64>,
    /// Remembered flows that name it.
    pub flows: u64,
    /// The longest silence among them.
    pub longest_silence_s: Option<u32>,
    /// Since the last packet of any of them.
    pub last_packet_s: Option<u32>,
    /// Packets from clients that reached it within the last `window_s`.
    pub packets: u64,
    /// See `packets`.
    pub window_s: u32,
    /// Until the slots settle that lead there.
    pub settles_in_s: Option<u32>,
    /// Until the drain is over; negative: since it was.
    pub deadline_in_s: Option<i64>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// May it be stopped?
    pub may_stop: MayStop,
    /// Why.
    pub reason: String,
}

/// Change the weights of one service. [`crate::model::resolve`] says what it means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceShift {
    /// The service.
    pub service: ServiceName,
    /// The versions whose weight changes.
    pub set: Vec<(Version, Weight)>,
    /// The version that gives or takes the rest.
    pub remainder: Version,
    /// The generation the service must have.
    pub expected_generation: Option<u64>,
}

/// Restore the last settled weights of one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RollBack {
    /// The service.
    pub service: ServiceName,
    /// What becomes of the connections of versions that lose all their weight.
    pub in_flight: InFlight,
    /// The generation the service must have.
    pub expected_generation: Option<u64>,
    /// How.
    pub options: ChangeOptions,
}

/// Renew the lease on the weights of one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RenewLease {
    /// The service.
    pub service: ServiceName,
    /// The generation the service must have.
    pub expected_generation: Option<u64>,
    /// How long it lasts from now; as long as before, if not said.
    pub length: Option<LeaseLength>,
    /// As in [`ChangeOptions`].
    pub fence: Option<Fence>,
}

/// Set a limit that the agent enforces on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetGuard {
    /// The service.
    pub service: ServiceName,
    /// The limit.
    pub guard: Guard,
    /// As in [`ChangeOptions`].
    pub fence: Option<Fence>,
}

/// End the guard of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearGuard {
    /// The service.
    pub service: ServiceName,
    /// As in [`ChangeOptions`].
    pub fence: Option<Fence>,
}

/// A guard that is set, and what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GuardStatus {
    /// The limit.
    #[serde(flatten)]
    pub guard: Guard,
    /// Connections that count within its window,
    pub connections: u64,
    /// and those of them that failed.
    pub failures: u64,
    /// What tripped it; nothing: it has not tripped.
    pub tripped: Option<TrippedStatus>,
}

/// What tripped a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TrippedStatus {
    /// When; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// Connections that counted within its window,
    pub connections: u64,
    /// and those of them that failed.
    pub failures: u64,
    /// The weights before,
    #[serde(rename = "before_bp")]
    pub before: Weights,
    /// and those that it has set.
    #[serde(rename = "after_bp")]
    pub after: Weights,
}

/// Add and remove steering rules of one service. [`crate::model::steering::revise`] says what it
/// means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Steer {
    /// The service.
    pub service: ServiceName,
    /// Rules to add, or to lead elsewhere.
    pub add: Vec<Rule>,
    /// Prefixes whose rules go.
    pub remove: Vec<IpNet>,
    /// The generation the service must have.
    pub expected_generation: Option<u64>,
    /// How.
    pub options: ChangeOptions,
}

/// The answer to [`Apply`], [`Shift`], [`RollBack`] and [`Steer`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// The commit that made the change.
    pub commit: Commit,
    /// One for each service, in the order of the request.
    pub changes: Vec<Change>,
}

/// One atomic commit of the node's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Number of the commit; of the last one made, if `dry_run`.
    pub generation: u64,
    /// Nothing was changed.
    pub dry_run: bool,
    /// From writing the new tables to the end of the commit.
    #[serde(rename = "duration_us", serialize_with = "microseconds")]
    pub duration: Duration,
}

/// What a commit did (or would do) to one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The service.
    pub service: ServiceName,
    /// Counts the service's changes, from 1.
    pub generation: u64,
    /// The service did not exist before.
    pub created: bool,
    /// By version.
    pub versions: PerVersion<VersionChange>,
    /// Whether the connections until this commit were shared as the table before it said.
    pub sample_ratio: SampleRatio,
    /// Slots of the version table that changed hands.
    pub moves: Vec<Move>,
    /// The steering rules.
    pub steering: Steered,
    /// Digest of the new tables, hexadecimal.
    pub digest: String,
    /// The lease on the weights.
    pub lease: Option<LeaseStatus>,
}

/// What changed for one version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VersionChange {
    /// Weight before; 0 for a service that was created.
    #[serde(rename = "before_bp")]
    pub before: Weight,
    /// Weight asked for.
    #[serde(rename = "asked_bp")]
    pub asked: Weight,
    /// Share of the new version table, read back.
    pub table: TableShare,
    /// New connections from the last change of shares to this one.
    pub observed: Observed,
    /// Slots of the version's backend table that changed hands.
    pub backend_slots_moved: u32,
}

/// What a change did to steering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Steered {
    /// Rules the service has now.
    pub rules: u32,
    /// Prefixes whose new connections go elsewhere than before.
    pub moved: u32,
}

/// Slots of a version table that changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Where new connections went before.
    pub from: Version,
    /// Where they go now.
    pub to: Version,
    /// How many slots.
    pub slots: u32,
}

/// A service: asked, table, observed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// What was asked for.
    pub spec: ServiceSpec,
    /// Counts the service's changes, from 1.
    pub generation: u64,
    /// Digest of the tables, hexadecimal.
    pub digest: String,
    /// By version.
    pub versions: PerVersion<VersionStatus>,
    /// Whether the new connections since the shares last changed are shared as the table says.
    pub sample_ratio: SampleRatio,
    /// The weights it had when its tables last settled: what a rollback restores.
    #[serde(rename = "settled_bp")]
    pub settled: Weights,
    /// The lease on the weights.
    pub lease: Option<LeaseStatus>,
    /// The highest fence that its changes came with.
    pub fence: Option<Fence>,
    /// The limit that the agent enforces on its own.
    pub guard: Option<GuardStatus>,
}

/// A lease that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// Until it runs out.
    #[serde(rename = "left_ms", serialize_with = "milliseconds")]
    pub left: Duration,
    /// When it runs out; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub deadline: SystemTime,
    /// How long it lasts from when it is renewed.
    #[serde(rename = "length_s")]
    pub length: LeaseLength,
    /// What happens when it runs out.
    pub on_expiry: OnExpiry,
    /// The weights it would go back to.
    #[serde(rename = "revert_to_bp")]
    pub revert_to: Weights,
}

impl fmt::Display for LeaseStatus {
    /// `42s left of 1m, then back to blue 100%`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: a lease that is just begun has all of its time left.
        let seconds = self.left.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX);
        let left = humantime::format_duration(Duration::from_secs(seconds));
        write!(f, "{left} left of {}, then ", self.length)?;
        match self.on_expiry {
            OnExpiry::Hold => f.write_str("the weights stay"),
            OnExpiry::Revert => write!(f, "back to {}", self.revert_to),
        }
    }
}

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStatus {
    /// Label of what runs here.
    pub release: String,
    /// Weight asked for.
    #[serde(rename = "asked_bp")]
    pub asked: Weight,
    /// Share of the version table, read back.
    pub table: TableShare,
    /// New connections since the last change of shares.
    pub observed: Observed,
    /// The backends, those that drain included.
    pub backends: Vec<BackendStatus>,
}

/// How packets leave towards a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum NextHop {
    /// Neighbour and interface are known.
    Resolved {
        /// Name of the interface.
        interface: String,
    },
    /// The kernel looks the way up for each packet.
    Unresolved,
}

/// One backend of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Weight among the backends of its version.
    pub weight: u16,
    /// Whether it takes new connections.
    pub state: BackendState,
    /// Slots of the version's backend table that send new connections to it.
    pub slots: u32,
    /// Connections it was given since the counters' epoch.
    pub connections: u64,
    /// How packets leave towards it.
    pub next_hop: NextHop,
    /// What its health check says; nothing if there is none.
    pub health: Option<BackendHealth>,
}

/// What the health check of a backend says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendHealth {
    /// It is down.
    pub failing: bool,
    /// Since when it is what it is, as far as this agent has seen; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub since: SystemTime,
    /// What the last check found wrong.
    pub error: Option<String>,
    /// Results in a row that speak against what it is.
    pub against: u32,
    /// How many of these it takes now.
    pub needed: u32,
    /// Milliseconds until the next check; nothing while there is one.
    pub next_check_ms: Option<u64>,
}

/// All counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Changes when the counters start anew from 0.
    pub epoch: u64,
    /// When they were read; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// By service, ordered by name.
    pub services: Vec<ServiceCounters>,
    /// Packets that no service counts.
    pub verdicts: Vec<Verdict>,
}

/// A look at the counters, and what was counted since an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// All of them.
    #[serde(flatten)]
    pub counters: Counters,
    /// Since the earlier one; nothing if there was none.
    pub interval: Option<Interval>,
}

/// The counters of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceCounters {
    /// The service.
    pub service: ServiceName,
    /// By version.
    pub versions: PerVersion<VersionCounters>,
}

/// The counters of a version: its own, with what backends that are gone have served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VersionCounters {
    /// What was counted.
    pub traffic: Traffic,
    /// How long handshakes took.
    pub handshakes: Handshakes,
    /// By backend, those that drain included.
    pub backends: Vec<BackendCounters>,
}

/// The counters of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendCounters {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What was counted.
    pub traffic: Traffic,
    /// How long handshakes took.
    pub handshakes: Handshakes,
}

/// Packets dropped or passed to the host's stack for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where: `xdp` or `tc`.
    pub hook: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

/// The agent, its interfaces and how full its tables are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Version of the agent.
    pub version: String,
    /// Version of the interface between the agent and its kernel program.
    pub abi: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// As in [`Counters`].
    pub epoch: u64,
    /// Number of the last commit; 0: none yet.
    pub generation: u64,
    /// Time since the agent started.
    #[serde(rename = "uptime_s", serialize_with = "seconds")]
    pub uptime: Duration,
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// How full the node is.
    pub capacity: Vec<Capacity>,
    /// The node's addresses that packets in tunnels come from: at most one of each family.
    pub outer_sources: Vec<IpAddr>,
    /// Health checks.
    pub health: Counts,
    /// Where the agent serves HTTP; nothing: nowhere.
    pub http: Option<SocketAddr>,
    /// Where the API listens with mutual TLS; nothing: nowhere.
    pub listen: Option<SocketAddr>,
    /// Directory of the state store.
    pub state_dir: String,
    /// Which lines the program in the kernel writes: `off`, `error`, `info` or `debug`.
    pub bpf_log: String,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// An interface that the program is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Its index; 0 while there is no such interface.
    pub index: u32,
    /// Mode asked for.
    pub asked: AttachMode,
    /// Mode in use, if any.
    pub actual: Option<Hook>,
    /// `attached`, or what is wrong.
    pub state: String,
}

/// Use of one bounded resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// `services`, `backends`, `pool_lines`, `flows` or `udp_flows`.
    pub resource: String,
    /// In use. Of flows, what the agent's last look has left: it looks every five seconds, at TCP
    /// flows only while a transition is under way, and rests between the steps of a long look.
    pub used: u64,
    /// The bound.
    pub limit: u64,
}

fn microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

pub(super) fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&prost_types::Timestamp::from(*time))
}
