//! The lab: a balancer host between clients and the backends of three versions, each in a network
//! namespace of its own, joined by veth pairs. See [`addresses`] for the plan.
//!
//! ```text
//! clients --- lb --- blue
//!                --- green
//!                --- canary
//! ```
//!
//! Everything is removed when the [`Lab`] is dropped, also by a panic. What a killed process
//! leaves is removed by the next lab that starts.

pub mod addresses;
pub mod behind;
pub(crate) mod host;
mod names;
mod namespace;
mod netstat;
pub mod spec;
mod sweep;
mod wiring;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::identity::{Identity, Version};
use crate::servers::{Served, Servers};
use addresses::{DIRECT_VIPS, Family, MAX_BACKENDS, MAX_CLIENTS};
pub(crate) use host::{bounded, file_limit, run};
use names::LabName;
pub(crate) use namespace::daemon;
pub use namespace::{Namespace, Task};
use spec::{Protocol, ServiceSpec};

/// Whether the veth pairs leave checksums and segmentation to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// As the kernel makes them: packets of up to 64 KiB with partial checksums. For TC programs.
    On,
    /// Complete checksums and packets of the wire's size, and NAPI on every end, so that each end
    /// can receive what an XDP program redirects to it. For XDP programs. Needs ethtool.
    Off,
}

/// What a lab is to have. `LabBuilder::new().start()` makes a useful one.
#[derive(Clone, Copy, Debug)]
pub struct LabBuilder {
    clients: u16,
    backends: u8,
    offloads: Offloads,
    families: &'static [Family],
    direct: bool,
    files_apart: bool,
}

impl Default for LabBuilder {
    fn default() -> Self {
        Self {
            clients: 500,
            backends: 2,
            offloads: Offloads::On,
            families: &Family::ALL,
            direct: false,
            files_apart: false,
        }
    }
}

impl LabBuilder {
    /// 500 clients, two backends a version, both families, offloads on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of client addresses in each family, 1 to [`MAX_CLIENTS`].
    #[must_use]
    pub fn clients(mut self, clients: u16) -> Self {
        self.clients = clients;
        self
    }

    /// The number of backends in each version, 1 to [`MAX_BACKENDS`].
    #[must_use]
    pub fn backends(mut self, backends: u8) -> Self {
        self.backends = backends;
        self
    }

    /// Whether checksums and segmentation are offloaded.
    #[must_use]
    pub fn offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// The address families to set up, for machines without IPv6.
    #[must_use]
    pub fn families(mut self, families: &'static [Family]) -> Self {
        self.families = families;
        self
    }

    /// Lets the backends answer for the services themselves: each version's namespace has the
    /// first [`DIRECT_VIPS`] of the services' addresses of each family on its loopback, and servers
    /// there, which call themselves the version's first backend.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Gives each version's servers a table of open files of their own, so that the limit on these
    /// holds for each end of a connection by itself. Such servers keep open what was open when they
    /// began: they are not to be started again beside connections.
    #[must_use]
    pub fn files_apart(mut self) -> Self {
        self.files_apart = true;
        self
    }

    /// Builds the namespaces and starts the servers, after sweeping what dead processes left.
    /// Takes about half a second. Needs root.
    pub fn start(self) -> Result<Lab> {
        if !(1..=MAX_CLIENTS).contains(&self.clients)
            || !(1..=MAX_BACKENDS).contains(&self.backends)
            || self.families.is_empty()
        {
            bail!(
                "a lab has 1 to {MAX_CLIENTS} clients, 1 to {MAX_BACKENDS} backends a version and a family: {self:?}"
            );
        }
        host::require_root()?;
        host::raise_file_limit()?;
        sweep::sweep();

        let name = LabName::fresh();
        let directory = Directory::create(&name.to_string())?;
        let create = |role: &str| Namespace::create(name.namespace(role));
        let namespaces = wiring::Namespaces {
            clients: create("clients")?,
            lb: create("lb")?,
            versions: [create("blue")?, create("green")?, create("canary")?],
        };
        wiring::wire(&namespaces, &self)?;
        let (servers, more_servers) = (BTreeMap::new(), Vec::new());
        let mut lab = Lab { servers, more_servers, namespaces, directory, name, plan: self };
        for version in Version::ALL {
            lab.start_servers(version)?;
        }
        Ok(lab)
    }
}

/// A running lab. Fields drop in order: the servers before their namespaces.
#[derive(Debug)]
pub struct Lab {
    servers: BTreeMap<Version, Servers>,
    /// Those that a test has added.
    more_servers: Vec<Servers>,
    namespaces: wiring::Namespaces,
    directory: Directory,
    name: LabName,
    plan: LabBuilder,
}

impl Lab {
    /// The namespace of the clients.
    #[must_use]
    pub fn clients(&self) -> &Namespace {
        &self.namespaces.clients
    }

    /// The namespace of the balancer host.
    #[must_use]
    pub fn lb(&self) -> &Namespace {
        &self.namespaces.lb
    }

    /// The namespace of a version's backends.
    #[must_use]
    pub fn version(&self, version: Version) -> &Namespace {
        self.namespaces.version(version)
    }

    /// The directory for the lab's files. It goes with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// A BPF file system of the lab's own, for pins. It too goes with the lab. (`ip netns exec`
    /// hides the machine's from what it runs.)
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.directory.0.join(sweep::BPFFS)
    }

    /// All client addresses of a family.
    #[must_use]
    pub fn client_addresses(&self, family: Family) -> Vec<IpAddr> {
        (0..self.plan.clients).map(|index| addresses::client(family, index)).collect()
    }

    /// The backends of a version in a family.
    #[must_use]
    pub fn backends(&self, family: Family, version: Version) -> Vec<IpAddr> {
        (0..self.plan.backends).map(|index| addresses::backend(family, version, index)).collect()
    }

    /// A service over all backends of a family, everything on blue.
    #[must_use]
    pub fn service(&self, name: &str, listener: SocketAddr, protocol: Protocol) -> ServiceSpec {
        let family = Family::of(listener.ip());
        ServiceSpec {
            name: name.to_owned(),
            listener,
            protocol,
            forwarding: "nat",
            weights: [10_000, 0, 0],
            backends: Version::ALL.map(|version| self.backends(family, version)),
            more: Vec::new(),
        }
    }

    /// The balancer host's interfaces: toward the clients, then toward each version.
    #[must_use]
    pub fn interfaces(&self) -> [&'static str; 4] {
        let [blue, green, canary] = Version::ALL.map(addresses::version_side);
        [addresses::CLIENT_SIDE, blue, green, canary]
    }

    /// Joins a version's backends to the balancer host again, after the pair between them was
    /// deleted: with new interfaces under the old names.
    pub fn rewire(&self, version: Version) -> Result<()> {
        wiring::rewire(&self.namespaces, &self.plan, version)
    }

    /// What each backend has served since its servers started.
    #[must_use]
    pub fn served(&self) -> BTreeMap<Identity, Served> {
        let mut all: BTreeMap<Identity, Served> = BTreeMap::new();
        let servers = self.servers.values().chain(&self.more_servers);
        for (identity, served) in servers.flat_map(Servers::served) {
            all.entry(identity).or_default().add(&served);
        }
        all
    }

    /// Starts the servers of a version again after [`Lab::stop_servers`], with counters at zero.
    pub fn start_servers(&mut self, version: Version) -> Result<()> {
        let backends = self.plan.families.iter().flat_map(|&family| self.backends(family, version));
        let own = backends.map(|address| (Identity { version, address }, address));
        let direct = self.plan.families.iter().filter(|_| self.plan.direct).flat_map(|&family| {
            let address = addresses::backend(family, version, 0);
            (0..DIRECT_VIPS)
                .map(move |index| (Identity { version, address }, addresses::vip(family, index)))
        });
        let (namespace, all) = (self.version(version), own.chain(direct).collect());
        let servers = Servers::start(namespace, all, self.plan.files_apart)?;
        self.servers.insert(version, servers);
        Ok(())
    }

    /// Starts servers on further addresses that a version's namespace has by now. They call
    /// themselves its first backend.
    pub fn serve_on(&mut self, version: Version, addresses: &[IpAddr]) -> Result<()> {
        let named = addresses.iter().map(|&at| {
            let address = addresses::backend(Family::of(at), version, 0);
            (Identity { version, address }, at)
        });
        self.more_servers.push(Servers::start(self.version(version), named.collect(), false)?);
        Ok(())
    }

    /// Stops the servers of a version; their connections end.
    pub fn stop_servers(&mut self, version: Version) {
        self.servers.remove(&version);
    }
}

/// A directory that only root can read, removed with everything in it when dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn create(name: &str) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
            .recursive(true)
            .create(sweep::FILES)
            .with_context(|| format!("creating {}", sweep::FILES))?;
        let path = Path::new(sweep::FILES).join(name);
        builder
            .recursive(false)
            .create(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        // From here on what fails is cleaned up by the drop.
        let directory = Self(path);
        let bpffs = directory.0.join(sweep::BPFFS);
        builder.create(&bpffs).with_context(|| format!("creating {}", bpffs.display()))?;
        let none: Option<&str> = None;
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), none)
            .with_context(|| format!("mounting a BPF file system on {}", bpffs.display()))?;
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = sweep::remove_files(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
        // Fails while another lab has its directory there, and then it is to stay.
        let _ = fs::remove_dir(sweep::FILES);
    }
}
