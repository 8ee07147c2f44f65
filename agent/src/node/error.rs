//! Why a request to the node fails. `api::error` maps each to a gRPC status.

use std::net::SocketAddr;

use crate::model::{Fence, ServiceName, Version, Violation, Weights};
use crate::store;

/// A request that was not carried out. Nothing was changed, unless the variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is wrong by itself, or beside what the node has. Never empty.
    #[error("{}", summary(.0))]
    Invalid(Vec<Violation>),
    /// There is no such service.
    #[error("there is no service {:?}", .0.as_str())]
    NotFound(ServiceName),
    /// The service changed since the caller looked.
    #[error("service {:?} has generation {actual}, not {expected}: it changed meanwhile; look again", .service.as_str())]
    GenerationMismatch {
        /// The service.
        service: ServiceName,
        /// The generation the caller expected.
        expected: u64,
        /// The generation it has.
        actual: u64,
    },
    /// The leader of a rollout was overtaken by another, and does not know it yet.
    #[error(
        "service {:?} is led by another by now: its last fence is {known}, this request has {given}; \
         whoever sent it leads no longer", .service.as_str()
    )]
    StaleFence {
        /// The service.
        service: ServiceName,
        /// The fence of the request.
        given: Fence,
        /// The highest one.
        known: Fence,
    },
    /// Weight for a version whose guard has tripped.
    #[error(
        "the guard on {version} of service {:?} has tripped: {what}; mend {version} and end the guard \
         with `weir guard {} --off`, or force", .service.as_str(), .service.as_str()
    )]
    GuardTripped {
        /// The service.
        service: ServiceName,
        /// The version.
        version: Version,
        /// What was seen.
        what: String,
    },
    /// Weight for a version that nothing serves.
    #[error("{version} of service {:?} has no backend that takes connections; give it one, or force", .service.as_str())]
    NoReadyBackend {
        /// The service.
        service: ServiceName,
        /// The version that would get weight.
        version: Version,
    },
    /// The last backend of a version with weight would take no connections.
    #[error("{backend} is the last backend of {version} in service {:?} that takes connections, and {version} has weight; shift the weight away first, or force", .service.as_str())]
    LastBackend {
        /// The service.
        service: ServiceName,
        /// The version.
        version: Version,
        /// The backend.
        backend: SocketAddr,
    },
    /// The weights are those that the tables last settled with.
    #[error(
        "service {:?} has nothing to roll back: {weights} are its last settled weights; for others, \
         use `weir shift`", .service.as_str()
    )]
    NothingToRollBack {
        /// The service.
        service: ServiceName,
        /// Its weights.
        weights: Weights,
    },
    /// There is no lease to renew.
    #[error(
        "service {:?} has no lease: it ran out, or its weights were changed without one; look with \
         `weir get`, and shift with a lease", .0.as_str()
    )]
    NoLease(ServiceName),
    /// The id was used for a request that asks for something else.
    #[error("request id {0:?} was used for another request; choose a new one")]
    RequestIdReused(String),
    /// A bounded resource of this node does not suffice.
    #[error("{what}: {asked} would be needed, this node has room for {limit}")]
    Exhausted {
        /// The resource, such as "backends".
        what: String,
        /// The bound.
        limit: u64,
        /// How many would be in use.
        asked: u64,
    },
    /// Too many requests wait.
    #[error("the agent is busy: too many requests wait; try again")]
    Busy,
    /// The agent stops.
    #[error("the agent is stopping")]
    Stopping,
    /// No answer in time. The change may still be made.
    #[error("no answer in time; the change may still be made: repeat it with the same request id")]
    TimedOut,
    /// The kernel refused something.
    #[error("data plane: {0}")]
    DataPlane(String),
    /// The state could not be kept. The tables hold the change, the disk does not.
    #[error("state store: {0}")]
    Store(String),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(error.to_string())
    }
}

/// The first violation, and how many there are besides.
fn summary(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is not valid".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
