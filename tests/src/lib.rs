//! What crosses the rooms of weir: the lab and the tests that use it.
//!
//! - [`lab`]: network namespaces for clients, the balancer host and the backends of each version.
//! - [`servers`]: the HTTP and echo servers that run on the backends.
//! - [`load`]: the clients: fresh connections, long-lived connections, UDP flows.
//! - [`identity`]: which version and backend answered.

#![forbid(unsafe_code)]

pub mod identity;
pub mod lab;
pub mod load;
pub mod servers;
