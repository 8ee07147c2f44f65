//! The gRPC API `weir.v1` on a Unix socket, and if asked on a TCP port with mutual TLS; with
//! grpc.health.v1 and server reflection.
//!
//! - [`socket`]: the socket file, of one agent at a time
//! - [`port`]: the TCP port
//! - [`roles`]: who may call which method
//! - [`server`]: what is served on them, and until when
//! - `service`: one function a method
//! - `watch`: streams that end with their client or with the server
//! - `counters`, `events`, `trace`: what is sent in them
//! - `caller`: who is at the other end
//! - `clients`: the connections, no more than there is room for
//! - [`convert`]: between `weir.v1` and the node's messages, both ways
//! - [`error`]: from the node's errors to gRPC statuses

pub(crate) mod caller;
pub(crate) mod clients;
pub mod convert;
mod counters;
pub mod error;
mod events;
pub mod port;
pub mod roles;
pub mod server;
mod service;
pub mod socket;
mod trace;
mod watch;

pub use server::{Ends, serve};

/// The most bytes of one message: some 10 000 backends in a request fit many times.
pub const MAX_MESSAGE: usize = 16 << 20;
