//! What is asked of a trace, and what it answers. The serialized form is what `weir -o json` prints.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::Serialize;

use super::super::messages::rfc3339;
use crate::model::{Protocol, ServiceName, Version};

/// Asks why the packets of a flow go where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFlow {
    /// The client.
    pub from: SocketAddr,
    /// The listener; nothing: the service's only one of the protocol.
    pub to: Option<SocketAddr>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The service that is meant. Another one is refused.
    pub service: Option<ServiceName>,
}

/// Why the packets of a flow go where they go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowTrace {
    /// The client.
    pub from: SocketAddr,
    /// Where it connects to.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Number of the last commit of the node.
    pub generation: u64,
    /// Why no service takes the packets.
    pub not_taken: Option<String>,
    /// The way through the tables of the service that takes them.
    pub walk: Option<Walked>,
}

/// What the program finds on its way to a decision, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walked {
    /// The service.
    pub service: ServiceName,
    /// The listener: `10.50.0.100:80`, or `10.50.0.100:any`.
    pub listener: String,
    /// The commit that last changed the service's record.
    pub generation: u64,
    /// How packets reach the backend: `nat` and the like.
    pub forwarding: String,
    /// What flows are hashed by: `connection` and the like.
    pub affinity: String,
    /// What is remembered of datagrams: `tracked` and the like.
    pub udp: Option<String>,
    /// The version slot,
    pub slot: u32,
    /// of so many.
    pub slots: u32,
    /// The hash whose low bits are the slot in every backend table.
    pub hash: u32,
    /// What the version table says.
    pub table: TracedVersionSlot,
    /// The steering entry that stands in for it.
    pub steering: Option<SteeredBy>,
    /// What counts of both.
    pub version: TracedVersionSlot,
    /// What `version.cur`'s backend table says.
    pub backend: TracedBackendSlot,
    /// What `version.base`'s says, where that is another version.
    pub base: Option<TracedBackendSlot>,
    /// The flow's entry in the flow table.
    pub remembered: Option<RememberedFlow>,
    /// What there is room for, where that matters.
    pub room: Option<Room>,
    /// What becomes of a packet that opens a flow: a SYN, an Initial of QUIC.
    pub opens: Way,
    /// What becomes of any other.
    pub continues: Way,
}

impl Walked {
    /// Whether packets can tell whether they open a flow, and it matters.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.opens != self.continues
    }
}

/// A slot of the version table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TracedVersionSlot {
    /// Where a new flow goes.
    pub cur: Version,
    /// Where one belongs that began before the slot moved.
    pub base: Version,
    /// Whether its flows are looked up.
    pub tracked: bool,
}

/// A steering entry. A version that is not said is the table's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SteeredBy {
    /// The clients.
    pub prefix: String,
    /// Where a new flow goes.
    pub cur: Option<Version>,
    /// Where one belongs that began before the entry changed.
    pub base: Option<Version>,
    /// Whether its flows are looked up.
    pub tracked: bool,
}

/// A slot of a version's backend table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TracedBackendSlot {
    /// Whose table it is.
    pub version: Version,
    /// The slot,
    pub slot: u32,
    /// of so many.
    pub slots: u32,
    /// Where a new flow goes.
    pub cur: Option<TracedBackend>,
    /// Where one belongs that began before the slot moved.
    pub base: Option<TracedBackend>,
    /// Whether its flows are looked up.
    pub tracked: bool,
}

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TracedBackend {
    /// Its version; nothing, if it is of no service any more.
    pub version: Option<Version>,
    /// Where it is.
    pub address: SocketAddr,
}

/// An entry of the flow table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RememberedFlow {
    /// Where the flow is pinned.
    pub backend: TracedBackend,
    /// What its client has shown: `syn`, `data`, `fin`, `rst`.
    pub client: Vec<String>,
    /// What its server has shown, where answers pass through this node.
    pub server: Vec<String>,
    /// Seconds since a packet was seen last.
    pub seen_s: u32,
    /// Why it does not hold; nothing: it does.
    pub void: Option<String>,
}

/// Room for one more flow in the flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Places taken of those that the flow may have,
    pub used: u64,
    /// of so many.
    pub capacity: u64,
    /// Processors that would refuse a new one, because flows come too fast there,
    pub refusing: u32,
    /// of so many.
    pub processors: u32,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Where it goes; nothing: it is dropped.
    pub goes: Option<Goes>,
    /// Why, in one stable word: `table`, `pinned`, `remembered`, `full`, `flooded`,
    /// `drop-no-backend` or `drop-no-table`.
    pub why: String,
    /// Why, in a sentence.
    pub because: String,
}

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Goes {
    /// The backend.
    pub backend: TracedBackend,
    /// The way there; nothing: the kernel looks it up for each packet.
    pub hop: Option<Hop>,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Hop {
    /// Name of the interface.
    pub interface: String,
    /// The neighbour's MAC address.
    pub mac: String,
}

/// Asks what becomes of packets as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceLive {
    /// Only of clients in this prefix.
    pub client: Option<IpNet>,
    /// Only of this service.
    pub service: Option<ServiceName>,
    /// Only packets that are dropped.
    pub drops: bool,
    /// Also packets that are left to the host.
    pub passed: bool,
    /// One packet in so many. Not zero.
    pub sample: u32,
    /// Bytes of each frame, at most 256.
    pub frame_bytes: u32,
}

/// What became of packets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TracedPackets {
    /// Packets that were not told of since the trace began.
    pub lost: u64,
    /// In the order in which each processor has handled them.
    pub packets: Vec<TracedPacket>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It was sent to a backend.
    Sent,
    /// It was dropped.
    Dropped,
    /// It was left to the host.
    Passed,
}

/// One packet, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TracedPacket {
    /// When; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// `xdp` or `tc`.
    pub hook: String,
    /// Name of the interface it came in by.
    pub interface: String,
    /// What became of it.
    pub fate: Fate,
    /// Why it was sent there, in the words of [`Way::why`], or `named`; or why it was not, in those
    /// of the counters.
    pub why: String,
    /// The service; nothing: none was found.
    pub service: Option<ServiceName>,
    /// The backend that was chosen; nothing: none was.
    pub backend: Option<TracedBackend>,
    /// It opens a flow.
    pub opens: bool,
    /// The flow; nothing, if it is neither TCP nor UDP.
    #[serde(flatten)]
    pub flow: Option<TracedEnds>,
    /// TCP flags: of `FSRPAUEC` those that are set.
    pub flags: String,
    /// Bytes of the whole frame.
    pub length: u32,
    /// Its first bytes, as it came in.
    #[serde(skip)]
    pub frame: Vec<u8>,
}

/// A flow, from sender to receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TracedEnds {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// Asks what things are called that the program knows by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AskNames {
    /// Of this service, the number.
    pub index_of: Option<ServiceName>,
    /// Services.
    pub services: BTreeSet<u32>,
    /// Backends.
    pub backends: BTreeSet<u16>,
}

/// What things are called. What is not there any more has no name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// The number that was asked for.
    pub index: Option<u32>,
    /// Services by number.
    pub services: HashMap<u32, ServiceName>,
    /// Backends by number.
    pub backends: HashMap<u16, TracedBackend>,
}
