//! Backends that die, and come back: always the last one of a version, so that all others' connections
//! have no excuse.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::identity::Version;
use crate::lab::Lab;
use crate::lab::addresses::{FAR_END, Family};
use crate::random::Random;

/// What services say of their checks: two failures, half a second apart.
pub(super) const CHECK: &str =
    "type: tcp, interval: 500ms, timeout: 250ms, rise: 2, fall: 2, on_down:";
/// From a death until no new connection goes there any more, with time to spare.
const NOTICED: Duration = Duration::from_secs(3);

/// Whether an address is that of a backend that may die.
pub(super) fn is_mortal(lab: &Lab, address: IpAddr) -> bool {
    let last = |family, version| lab.backends(family, version).last().copied();
    let mut all = Family::ALL.into_iter().flat_map(|f| Version::ALL.map(|v| last(f, v)));
    all.any(|mortal| mortal == Some(address))
}

/// Who is dead.
#[derive(Default)]
pub(super) struct Deaths {
    dead: Option<(Version, Instant)>,
    /// How many died.
    pub(super) count: u64,
}

impl Deaths {
    /// Whether one has died that may not have been noticed yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.dead.is_some_and(|(_, since)| since.elapsed() < NOTICED)
    }

    /// Brings back the one that is dead.
    pub(super) fn end(&mut self, lab: &Lab) -> Result<()> {
        match self.dead.take() {
            Some((version, _)) => change(lab, version, "add", " nodad"),
            None => Ok(()),
        }
    }

    /// Lets one die; or the one that is dead come back, which has known nothing of it: its
    /// connections are as they were.
    pub(super) fn next(&mut self, lab: &Lab, chance: &mut Random) -> Result<()> {
        if self.dead.is_some() {
            return self.end(lab);
        }
        let version = *chance.one(&Version::ALL);
        change(lab, version, "del", "")?;
        self.dead = Some((version, Instant::now()));
        self.count += 1;
        Ok(())
    }
}

/// Gives the last backend of a version its addresses, or takes them away.
fn change(lab: &Lab, version: Version, verb: &str, nodad: &str) -> Result<()> {
    let lines = Family::ALL.into_iter().filter_map(|family| {
        let address = lab.backends(family, version).pop()?;
        let nodad = if family == Family::V6 { nodad } else { "" };
        let length = family.link_prefix();
        Some(format!("address {verb} {address}/{length} dev {FAR_END}{nodad}"))
    });
    lab.version(version).ip(&lines.collect::<Vec<_>>())
}
