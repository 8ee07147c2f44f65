//! What can be asked of the node to change.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{ChangeOptions, RequestId};
use crate::model::{
    BackendState, Fence, Guard, LeaseLength, LeaseTerms, OnTimeout, Rule, Service, ServiceName,
    Version, Weight,
};

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
