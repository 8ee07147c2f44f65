//! A node whose one service has just moved, whole: every slot is in transition, and every new flow is
//! remembered.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::{Change, NextHop};
use weir::model::{ServiceName, SpecFile, Version, Weight, parse_services};
use weir::node::Owner;
use weir::node::messages::{Apply, ChangeOptions, InFlight, ServiceShift, Shift};
use weir::store::Directory;

use crate::program;

/// Where clients connect to.
pub const LISTENER: &str = "10.50.0.1:80";
/// Where all new connections go.
pub const CANARY: &str = "10.63.0.2:80";
/// The service.
const SPEC: &str = "
services:
  - name: shop
    listeners: [{ address: 10.50.0.1, port: 80, protocol: tcp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.61.0.2, port: 80 }] }
      canary: { weight: 0%, backends: [{ address: 10.63.0.2, port: 80 }] }
";

/// Loads the program as [`program::load`] does, and shifts all from blue to canary. The state is kept
/// in `directory`.
///
/// # Errors
///
/// The state cannot be kept, or a change is refused.
pub fn everything(options: Options, directory: &Path) -> Result<Owner<Kernel, Directory>> {
    let mut owner = Owner::start(program::load(options), Directory::open(directory)?)?;
    let services = parse_services(&SpecFile::parse(SPEC)?.services, false)
        .map_err(|violations| anyhow!("{violations:?}"))?;
    let options = ChangeOptions::default();
    owner.apply(&Apply { services, options: options.clone() })?;
    let service = ServiceName::new("shop").map_err(|error| anyhow!("{error}"))?;
    let all = Weight::from_bp(10_000).context("a weight")?;
    let shift = ServiceShift {
        service,
        set: vec![(Version::Canary, all)],
        remainder: Version::Blue,
        expected_generation: None,
    };
    let in_flight = InFlight::default();
    owner.shift(&Shift { shifts: vec![shift], lease: None, in_flight, options })?;
    let hop = NextHop::plain(program::AWAY, [2; 6], [4; 6]);
    let canary: std::net::SocketAddr = CANARY.parse()?;
    owner.follow(vec![Change::Hop(canary.ip(), Some(hop))]);
    Ok(owner)
}
