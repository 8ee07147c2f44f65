//! How the node is, as a whole.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::times::seconds;
use crate::health::Counts;
use crate::model::{AttachMode, Hook};

/// The agent, its interfaces and how full its tables are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Version of the agent.
    pub version: String,
    /// Version of the interface between the agent and its kernel program.
    pub abi: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// As in [`Counters`](super::Counters).
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
