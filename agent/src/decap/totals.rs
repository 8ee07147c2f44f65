//! What the decapsulator counted, and the pin by which others read it while it runs.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use serde::Serialize;
use weir_ebpf::decap::abi::{Counters, Kind, Reason};

use crate::causes::causes;
use crate::dataplane::kernel::{PinError, require_bpffs, try_lock};

/// Name of the counters' pin in its directory.
const NAME: &str = "COUNTERS";

/// What was counted, summed over all processors. The names in JSON are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// What was stripped, by kind of tunnel: all kinds.
    pub stripped: Vec<Stripped>,
    /// Packets of tunnels that were not stripped, by reason: all reasons.
    pub not_stripped: Vec<NotStripped>,
}

/// What was stripped of one kind of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stripped {
    /// `ipip`, `ip6ip6`, `ip4ip6` (IPv4 in IPv6), `ip6ip4`, `gue4` or `gue6`.
    pub kind: &'static str,
    /// Packets.
    pub packets: u64,
    /// Bytes: whole frames, as they came in.
    pub bytes: u64,
}

/// Packets that were not stripped for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NotStripped {
    /// `passed` to the stack as they came, or `dropped`.
    pub verdict: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Packets.
    pub packets: u64,
}

impl Totals {
    pub(super) fn read(map: &PerCpuArray<MapData, Counters>) -> Result<Self, MapError> {
        Ok(Self::of(&map.get(&0, 0)?))
    }

    /// The sum of all processors' counters.
    fn of(processors: &[Counters]) -> Self {
        let sum = |get: &dyn Fn(&Counters) -> u64| processors.iter().map(get).sum();
        let stripped = |kind: Kind| Stripped {
            kind: kind.name(),
            packets: sum(&|counters| counters.kinds[kind as usize].packets),
            bytes: sum(&|counters| counters.kinds[kind as usize].bytes),
        };
        let not_stripped = |reason: Reason| NotStripped {
            verdict: if reason.drops() { "dropped" } else { "passed" },
            reason: reason.name(),
            packets: sum(&|counters| counters.reasons[reason as usize]),
        };
        Self {
            stripped: Kind::ALL.map(stripped).to_vec(),
            not_stripped: Reason::ALL.map(not_stripped).to_vec(),
        }
    }

    /// Reads the counters of the `weir decap` that pins them below `bpffs`.
    ///
    /// # Errors
    ///
    /// [`NotRunning`].
    pub fn of_running(bpffs: &Path) -> Result<Self, NotRunning> {
        let none = || NotRunning::None(bpffs.to_owned());
        // Nobody holds what a killed one has left.
        match try_lock(bpffs) {
            Err(PinError::InUse(_)) => {}
            Err(PinError::Io { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(NotRunning::Denied(bpffs.to_owned()));
            }
            _ => return Err(none()),
        }
        let path = bpffs.join(NAME);
        let foreign =
            |error: MapError| NotRunning::Foreign { path: path.clone(), reason: causes(&error) };
        let data = MapData::from_pin(&path).map_err(foreign)?;
        let size = data.info().map_err(foreign)?.value_size();
        if size as usize != size_of::<Counters>() {
            let reason = format!("it is of another build, with {size} bytes a processor");
            return Err(NotRunning::Foreign { path, reason });
        }
        let map = PerCpuArray::try_from(Map::PerCpuArray(data)).map_err(foreign)?;
        Self::read(&map).map_err(foreign)
    }
}

/// Without what is zero, in one line.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stripped = self.stripped.iter().filter(|one| one.packets > 0);
        let stripped =
            stripped.map(|one| format!("{} {} packets {} bytes", one.kind, one.packets, one.bytes));
        let others = self.not_stripped.iter().filter(|one| one.packets > 0);
        let others = others.map(|one| format!("{} {} {}", one.verdict, one.reason, one.packets));
        let all: Vec<String> = stripped.chain(others).collect();
        if all.is_empty() { f.write_str("met no tunnel") } else { f.write_str(&all.join(", ")) }
    }
}

/// Why no counters can be read.
#[derive(Debug, thiserror::Error)]
pub enum NotRunning {
    /// Nobody pins counters there.
    #[error(
        "no `weir decap` has its counters in {0}: is it running, and was it given this --bpffs?"
    )]
    None(PathBuf),
    /// Reading needs rights.
    #[error("no right to look into {0}: run as root")]
    Denied(PathBuf),
    /// They cannot be read.
    #[error("{path}: {reason}")]
    Foreign {
        /// The pin.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A directory in which the counters are pinned. Locked; dropping it removes the pin.
#[derive(Debug)]
pub struct Pin {
    directory: PathBuf,
    /// Held for as long as the pin is.
    _lock: File,
}

impl Pin {
    /// Makes and locks the directory, and removes what a killed decapsulator has left in it.
    ///
    /// # Errors
    ///
    /// [`PinError`], when it is in no BPF file system, or in use.
    pub fn new(directory: &Path) -> Result<Self, PinError> {
        require_bpffs(directory)?;
        let io = |error| PinError::Io { path: directory.to_owned(), error };
        fs::create_dir_all(directory).map_err(io)?;
        let lock = try_lock(directory)?;
        let pin = Self { directory: directory.to_owned(), _lock: lock };
        match fs::remove_file(pin.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
            _ => Ok(pin),
        }
    }

    /// Where the counters are pinned.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Nothing can be done about a failure; the next start removes what is left.
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_summed_and_zeroes_left_out() {
        let mut counters = [Counters::default(); 2];
        for (processor, counters) in (1..).zip(&mut counters) {
            counters.kinds[Kind::Gue6 as usize].packets = processor;
            counters.kinds[Kind::Gue6 as usize].bytes = 100 * processor;
            counters.reasons[Reason::Ecn as usize] = 5 * processor;
        }
        let totals = Totals::of(&counters);
        assert_eq!(totals.stripped[5], Stripped { kind: "gue6", packets: 3, bytes: 300 });
        assert_eq!(totals.to_string(), "gue6 3 packets 300 bytes, dropped ecn 15");
        assert_eq!(Totals::of(&[]).to_string(), "met no tunnel");
    }
}
