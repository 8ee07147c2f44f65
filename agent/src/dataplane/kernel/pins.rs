//! Pins: names in a BPF file system by which maps and links outlive the agent.
//!
//! Under the directory of one ABI version, `maps/NAME` and `links/INTERFACE:HOOK`. An agent that
//! starts takes up what it finds there; so the program goes on while the agent is away, and no
//! flow and no counter is lost.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, MapError, MapType};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use weir_ebpf::abi;

use super::links;

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It is no BPF file system.
    #[error("{0} is not in a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`")]
    NotBpf(PathBuf),
    /// Another agent holds them.
    #[error("another agent uses the pins in {0}: stop it, or choose another --bpffs")]
    InUse(PathBuf),
    /// The data plane of a build whose contract is another is there.
    #[error(
        "the data plane in {0} is that of another build, whose ABI is not this agent's ({ours}), and \
         goes on forwarding: start that build again, or run `weir detach` to end its forwarding, \
         then start this one", ours = abi::VERSION
    )]
    OtherAbi(PathBuf),
    /// A file operation failed.
    #[error("{path}: {error}")]
    Io {
        /// On what.
        path: PathBuf,
        /// What was said.
        error: io::Error,
    },
    /// A pinned map is not of this contract.
    #[error(
        "the pinned map {map} has {what} {found}, this agent needs {needed}: run `weir detach` to \
         remove what another build has left, which ends its forwarding"
    )]
    Foreign {
        /// Name of the map.
        map: String,
        /// What differs.
        what: &'static str,
        /// What it has.
        found: String,
        /// What it should have.
        needed: String,
    },
}

/// The pins of one data plane, locked.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// Held for as long as they are used.
    _lock: File,
}

impl Pins {
    /// Locks the pins under `bpffs`, a directory in a BPF file system. Makes it where needed.
    ///
    /// # Errors
    ///
    /// [`PinError`], when it is no BPF file system, or another agent is there, or was there and was
    /// of another ABI.
    pub fn open(bpffs: &Path) -> Result<Self, PinError> {
        require_bpffs(bpffs)?;
        let root = bpffs.join(format!("{DIRECTORY}{}", abi::VERSION));
        for other in directories(bpffs)?.into_iter().filter(|there| *there != root) {
            if !removed_empty(&other)? {
                return Err(PinError::OtherAbi(other));
            }
        }
        for part in ["maps", "links"] {
            let directory = root.join(part);
            fs::create_dir_all(&directory).map_err(io(&directory))?;
        }
        Self::lock(root)
    }

    /// Locks all that is pinned under `bpffs`, of whichever ABI.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn all(bpffs: &Path) -> Result<Vec<Self>, PinError> {
        require_bpffs(bpffs)?;
        directories(bpffs)?.into_iter().map(Self::lock).collect()
    }

    fn lock(root: PathBuf) -> Result<Self, PinError> {
        let lock = try_lock(&root)?;
        Ok(Self { root, _lock: lock })
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    /// Where the link of an interface is pinned. A BPF file system takes no dots in names.
    pub(super) fn link(&self, interface: &str, hook: &str) -> PathBuf {
        let interface = interface.replace('%', "%25").replace('.', "%2e");
        self.root.join("links").join(format!("{interface}:{hook}"))
    }

    /// Links pinned now.
    pub(super) fn links(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.root.join("links")) else { return Vec::new() };
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// Removes all pins, and gives the number of links among them. What nobody holds open ends.
    ///
    /// # Errors
    ///
    /// Some could not be removed.
    pub fn remove(&self) -> Result<usize, PinError> {
        // Links first: a program must not run on while its maps lose their names.
        let links = self.links();
        links::end(&links)?;
        for part in ["links", "maps"] {
            let directory = self.root.join(part);
            for entry in fs::read_dir(&directory).map_err(io(&directory))? {
                let file = entry.map_err(io(&directory))?.path();
                fs::remove_file(&file).map_err(io(&file))?;
            }
            fs::remove_dir(&directory).map_err(io(&directory))?;
        }
        fs::remove_dir(&self.root).map_err(io(&self.root))?;
        Ok(links.len())
    }
}

/// How the name of an ABI version's directory begins. The number follows.
const DIRECTORY: &str = "abi-";

/// What there is of any ABI version. Nothing where `bpffs` is not there yet.
fn directories(bpffs: &Path) -> Result<Vec<PathBuf>, PinError> {
    let entries = match fs::read_dir(bpffs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(bpffs)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(bpffs))?;
        if entry.file_name().to_string_lossy().starts_with(DIRECTORY) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |error| PinError::Io { path, error }
}

/// Fails unless `directory` is, or can be made, in a BPF file system.
pub(crate) fn require_bpffs(directory: &Path) -> Result<(), PinError> {
    // It may not be there yet; what it would be made in must be.
    let there =
        if directory.exists() { directory } else { directory.parent().unwrap_or(directory) };
    if statfs(there).map_or(true, |found| found.filesystem_type() != BPF_FS_MAGIC) {
        return Err(PinError::NotBpf(directory.to_owned()));
    }
    Ok(())
}

/// Locks a directory of pins, until the file is dropped or the process ends.
pub(crate) fn try_lock(directory: &Path) -> Result<File, PinError> {
    let lock = File::open(directory).map_err(io(directory))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(PinError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(directory)(error)),
    }
}

/// Removes a directory in which nothing is pinned: one that an agent had made, and not come further.
/// Says whether it was such a one.
fn removed_empty(root: &Path) -> Result<bool, PinError> {
    let _lock = try_lock(root)?;
    let parts = ["maps", "links"].map(|part| root.join(part));
    let is_empty = |part: &PathBuf| fs::read_dir(part).map_or(true, |mut all| all.next().is_none());
    if !parts.iter().all(is_empty) {
        return Ok(false);
    }
    for directory in parts.iter().map(PathBuf::as_path).chain([root]) {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io(directory)(error));
            }
            _ => {}
        }
    }
    Ok(true)
}

/// The interface and the hook in the name of a link's pin.
pub(super) fn owner(link: &Path) -> Option<(String, &str)> {
    let (interface, hook) = link.file_name()?.to_str()?.rsplit_once(':')?;
    Some((interface.replace("%2e", ".").replace("%25", "%"), hook))
}

/// A map as the contract has it: type, sizes of key and value, flags.
struct Shape {
    map: MapType,
    key: usize,
    value: usize,
    flags: u32,
}

const MMAPABLE: u32 = 1024;
const NO_PREALLOC: u32 = 1;
/// The kernel sets it on maps of devices: only user space writes them.
const RDONLY_PROG: u32 = 128;

/// The maps that are pinned, and what each must be. [`abi`] says what lies in them.
fn shape(name: &str) -> Option<Shape> {
    use std::mem::size_of as size;
    let word = size::<u32>();
    let shape = |map, key, value, flags| Some(Shape { map, key, value, flags });
    match name {
        "ROOT" => shape(MapType::Array, word, size::<u64>(), MMAPABLE),
        "LISTENERS" => shape(MapType::Array, word, size::<abi::ListenerBucket>(), MMAPABLE),
        "RETURNS" => shape(MapType::Hash, size::<abi::Endpoint>(), size::<abi::Return>(), 0),
        "SERVER_IDS" => shape(MapType::Hash, size::<abi::ServerKey>(), word, 0),
        "SERVICES" => shape(MapType::Array, word, size::<abi::Service>(), MMAPABLE),
        "STEERING" => shape(
            MapType::LpmTrie,
            word + size::<abi::SteerKey>(),
            size::<abi::SteerSlot>(),
            NO_PREALLOC,
        ),
        "POOL" => shape(MapType::Array, word, size::<abi::Line>(), MMAPABLE),
        "BACKENDS" => shape(MapType::Array, word, size::<abi::Backend>(), MMAPABLE),
        "LINKS" => shape(MapType::Array, word, size::<abi::Link>(), 0),
        "DEVICES" => shape(MapType::DevMapHash, word, 2 * word, RDONLY_PROG),
        "FLOWS" => shape(MapType::Array, word, size::<abi::FlowBucket>(), MMAPABLE),
        "UDP_FLOWS" => shape(MapType::LruHash, size::<abi::FlowKey>(), size::<abi::FlowEntry>(), 0),
        "DIRECT" => shape(MapType::LruHash, size::<abi::FlowKey>(), word, 0),
        "DIRECT_SEEN" => shape(MapType::Array, word, size::<u64>(), 0),
        "FRAGMENTS" => {
            shape(MapType::LruHash, size::<abi::FragmentKey>(), size::<abi::FragmentPorts>(), 0)
        }
        "PROGRAMS" => shape(MapType::ProgramArray, word, word, 0),
        "COUNTERS" => shape(MapType::Array, word, size::<abi::Counters>(), MMAPABLE),
        "SIGNALS" => shape(MapType::Array, word, size::<abi::Signals>(), MMAPABLE),
        "HISTOGRAMS" => shape(MapType::Array, word, size::<abi::Histogram>(), MMAPABLE),
        "PENDING" => shape(MapType::Array, word, size::<abi::Pending>(), MMAPABLE),
        "REASONS" => shape(MapType::Array, word, size::<abi::Reasons>(), MMAPABLE),
        _ => None,
    }
}

/// Names of the maps that are pinned. The others hold nothing that must last.
pub(super) const MAPS: [&str; 21] = [
    "ROOT",
    "LISTENERS",
    "RETURNS",
    "SERVER_IDS",
    "SERVICES",
    "STEERING",
    "POOL",
    "BACKENDS",
    "LINKS",
    "DEVICES",
    "FLOWS",
    "UDP_FLOWS",
    "DIRECT",
    "DIRECT_SEEN",
    "FRAGMENTS",
    "PROGRAMS",
    "COUNTERS",
    "SIGNALS",
    "HISTOGRAMS",
    "PENDING",
    "REASONS",
];

impl Pins {
    /// Compares what is pinned with the contract. The loader takes whatever is pinned under a map's
    /// name, and pins what is not there, so this must come before.
    ///
    /// # Errors
    ///
    /// [`PinError::Foreign`], on the first map that differs.
    pub(super) fn check(&self) -> Result<(), PinError> {
        MAPS.iter()
            .filter(|name| self.map(name).exists())
            .try_for_each(|name| check(name, MapData::from_pin(self.map(name))))
    }
}

fn check(name: &str, pinned: Result<MapData, MapError>) -> Result<(), PinError> {
    let Some(shape) = shape(name) else { return Ok(()) };
    let foreign = |what, found: &dyn std::fmt::Debug, needed: &dyn std::fmt::Debug| {
        let (found, needed) = (format!("{found:?}"), format!("{needed:?}"));
        Err(PinError::Foreign { map: name.to_owned(), what, found, needed })
    };
    let info = match pinned.and_then(|map| map.info()) {
        Ok(info) => info,
        Err(error) => return foreign("no description", &error, &"one"),
    };
    let kind = info.map_type().unwrap_or(MapType::Unspecified);
    if kind != shape.map {
        return foreign("type", &kind, &shape.map);
    }
    if info.key_size() as usize != shape.key {
        return foreign("key size", &info.key_size(), &shape.key);
    }
    if info.value_size() as usize != shape.value {
        return foreign("value size", &info.value_size(), &shape.value);
    }
    if info.map_flags() != shape.flags {
        return foreign("flags", &info.map_flags(), &shape.flags);
    }
    Ok(())
}

/// The map behind its kind.
fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::DevMapHash(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data) => Some(data),
        _ => None,
    }
}

/// How many entries a map has room for.
pub(super) fn capacity(map: &Map) -> Option<u32> {
    Some(data(map)?.info().ok()?.max_entries())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_links_name_says_whose_it_is() {
        let pins = Pins { root: "/bpf".into(), _lock: File::open("/").unwrap() };
        for interface in ["eth0", "eth0.100", "a%b", "%2e", "bond0:1"] {
            let link = pins.link(interface, "clsact");
            assert!(!link.file_name().unwrap().to_str().unwrap().contains('.'), "{link:?}");
            assert_eq!(owner(&link), Some((interface.to_owned(), "clsact")));
        }
        assert_eq!(owner(Path::new("/bpf/links/other")), None);
    }
}
