//! The clients: load that runs in the background and can be read at any time.
//!
//! - [`fresh`]: new connections, one HTTP request each; counts which version answered.
//! - [`long_lived`]: TCP connections and UDP flows that must stay where they began.
//! - [`transfer`]: files to and from a backend, compared bit for bit.

mod fault;
pub mod fresh;
pub mod long_lived;
mod socket;
mod source;
mod tcp;
pub mod transfer;
mod udp;

pub use fault::Fault;
pub(crate) use socket::connect_tcp;
pub use source::SourcePorts;
