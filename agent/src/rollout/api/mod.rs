//! The coordinator's gRPC API `weir.rollout.v1`, with grpc.health.v1 and server reflection.
//!
//! - [`server`]: what is served, and until when
//! - `service`: one function a method
//! - [`remote`]: the client
//! - [`refusal`]: why something is not done, and the gRPC status that says so

pub mod refusal;
pub mod remote;
pub mod server;
mod service;

pub use refusal::Refusal;
pub use remote::Remote;
pub use server::serve;

/// Where a coordinator listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/coordinator.sock";
