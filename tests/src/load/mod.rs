//! The clients: load that runs in the background and can be read at any time.
//!
//! - [`fresh`]: new connections, one HTTP request each; counts which version answered.
//! - [`long_lived`]: TCP connections and UDP flows that must stay where they began.

mod fault;
pub mod fresh;
pub mod long_lived;
mod socket;
mod source;
mod tcp;
mod udp;

pub use fault::Fault;
pub use source::SourcePorts;
