//! The lab itself: it comes and goes, plain forwarding works, and the checkers can fail.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod agent;
mod fresh;
mod lifecycle;
mod long_lived;

use std::net::SocketAddr;

use weir_tests::identity::Version;
use weir_tests::lab::addresses::{Family, backend};
use weir_tests::lab::{Lab, LabBuilder};

fn small_lab() -> Lab {
    LabBuilder::new().clients(20).start().unwrap()
}

/// The first backend of a version, reached directly and not through a service.
fn direct(family: Family, version: Version, port: u16) -> SocketAddr {
    SocketAddr::new(backend(family, version, 0), port)
}
