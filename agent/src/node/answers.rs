//! What the node answers: asked, table, observed, put together from the state, the tables read
//! back and the counters.

use std::collections::{BTreeMap, HashMap};

use weir_ebpf::abi::{self, MAX_BACKENDS, MAX_SERVICES, Reason, VERSION_SLOTS};

use super::clock;
use super::counted::Counted;
use super::directory::Key;
use super::error::Error;
use super::messages::{
    BackendCounters, BackendStatus, Capacity, Change, Changed, Commit, Counters, Move, NextHop,
    NodeStatus, ServiceCounters, ServiceStatus, Steered, Verdict, VersionChange, VersionCounters,
    VersionStatus,
};
use super::next::Next;
use super::owner::Owner;
use super::state::{Entry, State};
use super::tunnels;
use crate::dataplane::DataPlane;
use crate::model::{
    Affinity, BackendState, Observed, PerVersion, Protocol, SampleRatio, ServiceName, ServiceSpec,
    Signals, TableShare, Traffic, Udp, Version, Weight,
};
use crate::plan::shares;
use crate::plan::tables::ServiceTables;
use crate::store::Store;

/// Names of the hooks, in the order of their rows.
pub(super) const HOOKS: [&str; abi::HOOKS as usize] = ["xdp", "tc"];

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// New connections of each version since the service's weights changed last.
    pub(super) fn observed(&self, name: &ServiceName) -> PerVersion<Observed> {
        let now = self.counted(name);
        let mark = self.marks.get(name).copied().unwrap_or_default();
        let since = PerVersion::from_fn(|version| now[version].since(&mark[version]));
        let by_table = |one: &Traffic| one.connections.saturating_sub(one.steered);
        let total = since.iter().map(|(_, one)| by_table(one)).sum();
        since.map(|one| Observed { connections: by_table(&one), total, steered: one.steered })
    }

    /// Whether these agree with the shares of `tables`, which have decided them.
    fn sample_ratio(
        entry: &Entry,
        observed: &PerVersion<Observed>,
        tables: &ServiceTables,
    ) -> SampleRatio {
        let connections = observed.map(|one| one.connections);
        let ratio = SampleRatio::judge(connections, table_shares(tables));
        let service = &entry.service;
        let one_by_one =
            service.affinity() == Affinity::Connection && !matches!(service.udp(), Udp::Quic);
        // Those that rules or listeners lead are told apart by TCP's signals alone.
        let led = !service.steering().is_empty()
            || service.listeners().iter().any(|one| one.version.is_some());
        let told_apart = !led
            || service.signals() != Signals::Off
                && service.listeners().iter().all(|one| one.protocol == Protocol::Tcp);
        if one_by_one && told_apart { ratio } else { ratio.not_judged() }
    }

    /// The answer to a change.
    pub(super) fn changed(
        &self,
        commit: Commit,
        names: &[ServiceName],
        next: &Next,
        before: &State,
        observed: &BTreeMap<ServiceName, PerVersion<Observed>>,
    ) -> Changed {
        let changes = names
            .iter()
            .filter_map(|name| {
                let entry = next.state.services.get(name)?;
                let was = before.services.get(name);
                // What is really there; what would be there, if nothing was changed.
                let read = if commit.dry_run { None } else { self.read_back(entry) };
                let table = table_shares(read.as_ref().unwrap_or(&entry.tables));
                let moves = next.moves.get(name).copied().unwrap_or_default();
                let observed = observed.get(name).copied().unwrap_or_default();
                let versions = PerVersion::from_fn(|version| VersionChange {
                    before: was.map_or(Weight::default(), |was| was.service.weights().get(version)),
                    asked: entry.service.weights().get(version),
                    table: table[version],
                    observed: observed[version],
                    backend_slots_moved: moves.backends[version.index()].moved,
                });
                let sample_ratio = was.map_or_else(SampleRatio::default, |was| {
                    Self::sample_ratio(was, &observed, &was.tables)
                });
                Some(Change {
                    service: name.clone(),
                    generation: entry.generation,
                    created: was.is_none(),
                    versions,
                    sample_ratio,
                    moves: move_list(&moves.versions),
                    steering: Steered {
                        rules: u32::try_from(entry.service.steering().len()).unwrap_or(u32::MAX),
                        moved: moves.steered,
                    },
                    digest: entry.digest().to_string(),
                    lease: entry.lease.map(|lease| lease.status(clock::unix_milliseconds())),
                })
            })
            .collect();
        Changed { commit, changes }
    }

    /// The tables of a service as they are after a commit; a failure to read is no failure to change.
    fn read_back(&self, entry: &Entry) -> Option<ServiceTables> {
        self.plane.tables(entry.index).unwrap_or_else(|error| {
            let service = entry.service.name().as_str();
            tracing::warn!(service, %error, "tables cannot be read back");
            None
        })
    }

    /// One service.
    pub(super) fn get(&self, name: &ServiceName) -> Result<ServiceStatus, Error> {
        let entry = self.state.get(name)?;
        let tables = self
            .plane
            .tables(entry.index)
            .map_err(|error| Error::DataPlane(error.to_string()))?
            .ok_or_else(|| Error::DataPlane(format!("service {name} is not in the kernel")))?;
        let (observed, table) = (self.observed(name), table_shares(&tables));
        let versions = PerVersion::from_fn(|version| VersionStatus {
            release: entry.service.versions()[version].release.clone(),
            asked: entry.service.weights().get(version),
            table: table[version],
            observed: observed[version],
            backends: self.backends(entry, &tables, version),
        });
        Ok(ServiceStatus {
            spec: ServiceSpec::from(&entry.service),
            generation: entry.generation,
            digest: entry.digest().to_string(),
            versions,
            sample_ratio: Self::sample_ratio(entry, &observed, &tables),
            settled: entry.settled,
            lease: entry.lease.map(|lease| lease.status(clock::unix_milliseconds())),
            fence: entry.fence.clone(),
            guard: self.guard_of(entry),
        })
    }

    /// All services.
    pub(super) fn list(&self) -> Result<Vec<ServiceStatus>, Error> {
        self.state.services.keys().map(|name| self.get(name)).collect()
    }

    /// The names of all services, in order.
    pub(super) fn services(&self) -> Vec<ServiceName> {
        self.state.services.keys().cloned().collect()
    }

    fn backends(
        &self,
        entry: &Entry,
        tables: &ServiceTables,
        version: Version,
    ) -> Vec<BackendStatus> {
        let mut slots: BTreeMap<u16, u32> = BTreeMap::new();
        for slot in tables.backends()[version.index()].slots() {
            *slots.entry(slot.cur()).or_default() += 1;
        }
        let listed = entry.service.versions()[version].backends.iter();
        let weights: HashMap<_, _> = listed.map(|b| ((b.address, b.port), b.weight)).collect();
        let of_version = |key: &Key| key.version == version;
        self.state
            .directory
            .of(entry.service.name())
            .filter(|(key, _)| of_version(key))
            .map(|(key, place)| {
                let weight = weights.get(&(key.address, key.port)).copied().unwrap_or(0);
                let state = match place.state() {
                    BackendState::Active if weight == 0 => BackendState::Draining,
                    state => state,
                };
                BackendStatus {
                    address: key.address,
                    port: key.port,
                    weight,
                    state,
                    slots: slots.get(&place.index).copied().unwrap_or(0),
                    connections: self.plane.counters(place.index).connections,
                    next_hop: self.next_hop(key.address),
                    health: self.health_of(entry.service.name(), key),
                }
            })
            .collect()
    }

    fn next_hop(&self, address: std::net::IpAddr) -> NextHop {
        let Some(hop) = self.hops.get(&address) else { return NextHop::Unresolved };
        let known = self.devices.get(&hop.interface).map(|device| device.name.clone());
        // The kernel is asked only for one that nobody has told of: it takes three calls a backend.
        let asked = || nix::net::if_::if_indextoname(hop.interface).ok()?.into_string().ok();
        let name = known.or_else(asked).unwrap_or_else(|| hop.interface.to_string());
        NextHop::Resolved { interface: name }
    }

    /// The counters of the named services, or of all.
    pub(super) fn counters(&self, names: &[ServiceName]) -> Result<Counters, Error> {
        for name in names {
            self.state.get(name)?;
        }
        let chosen = |name: &&ServiceName| names.is_empty() || names.contains(name);
        let services = self.state.services.keys().filter(chosen).map(|name| self.of(name));
        Ok(Counters {
            epoch: self.epoch,
            time: clock::steady(),
            services: services.collect(),
            verdicts: self.verdicts(),
        })
    }

    fn of(&self, name: &ServiceName) -> ServiceCounters {
        let mut versions = PerVersion::<VersionCounters>::default();
        for version in Version::ALL {
            if let Some(gone) = self.retired.get(&(name.clone(), version)) {
                versions[version].traffic.add(&gone.traffic);
                versions[version].handshakes.add(&gone.handshakes);
            }
        }
        for (key, place) in self.state.directory.of(name) {
            let Counted { traffic, handshakes } = Counted::of(&self.plane, place.index);
            let version = &mut versions[key.version];
            version.traffic.add(&traffic);
            version.handshakes.add(&handshakes);
            version.backends.push(BackendCounters {
                address: key.address,
                port: key.port,
                traffic,
                handshakes,
            });
        }
        ServiceCounters { service: name.clone(), versions }
    }

    /// Packets that no backend counts, and those that took a way of their own. Zeroes are left out.
    fn verdicts(&self) -> Vec<Verdict> {
        let counts = self.plane.reasons();
        let row = |(hook, counts): (&'static str, &[u64; abi::REASONS])| {
            let seen = Reason::ALL.into_iter().zip(*counts).filter(|(_, packets)| *packets > 0);
            seen.map(|(reason, packets)| Verdict {
                hook: hook.to_owned(),
                reason: reason_name(reason).to_owned(),
                packets,
            })
            .collect::<Vec<_>>()
        };
        HOOKS.into_iter().zip(&counts).flat_map(row).collect()
    }

    /// The agent itself.
    pub(super) fn status(&self) -> NodeStatus {
        let own = [
            ("services", self.state.services.len() as u64, u64::from(MAX_SERVICES)),
            ("backends", self.state.directory.len() as u64, u64::from(MAX_BACKENDS)),
        ];
        let own = own.map(|(resource, used, limit)| Capacity {
            resource: resource.to_owned(),
            used,
            limit,
        });
        let planes = self.plane.uses().into_iter().map(|u| Capacity {
            resource: u.resource.to_owned(),
            used: u.used,
            limit: u.limit,
        });
        let kernel = nix::sys::utsname::uname();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: abi::VERSION,
            kernel: kernel
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            epoch: self.epoch,
            generation: u64::from(self.generation),
            uptime: self.started.elapsed(),
            interfaces: self.identity.interfaces.clone(),
            capacity: own.into_iter().chain(planes).collect(),
            outer_sources: self.plane.outer_source().addresses(),
            health: self.checks.counts(),
            http: self.identity.http,
            listen: self.identity.listen,
            state_dir: self.identity.state_dir.display().to_string(),
            bpf_log: self.identity.bpf_log.name().to_owned(),
            warnings: self.warnings(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.identity.warnings.clone();
        warnings.extend(self.notes.iter().chain(&self.unsaved).cloned());
        warnings.extend(self.detached_warnings());
        warnings.extend(self.tunnel_warnings());
        warnings.extend(self.slow_devices().into_values());
        warnings
    }

    /// Of services whose tunnels come from nowhere.
    pub(super) fn tunnel_warnings(&self) -> Vec<String> {
        let services = self.state.services.values().map(|entry| &entry.service);
        tunnels::warnings(services, self.plane.outer_source())
    }
}

fn table_shares(tables: &ServiceTables) -> PerVersion<TableShare> {
    let slots = shares::by_version(tables);
    PerVersion::from_fn(|version| TableShare {
        slots: slots[version.index()],
        total: VERSION_SLOTS,
    })
}

pub(super) fn move_list(matrix: &[[u32; 3]; 3]) -> Vec<Move> {
    let pairs = Version::ALL.into_iter().flat_map(|from| Version::ALL.map(|to| (from, to)));
    pairs
        .map(|(from, to)| Move { from, to, slots: matrix[from.index()][to.index()] })
        .filter(|moved| moved.slots > 0)
        .collect()
}

/// The names of all hooks, and of all reasons of [`Verdict`]s.
#[must_use]
pub fn hooks_and_reasons() -> (&'static [&'static str], Vec<&'static str>) {
    (&HOOKS, Reason::ALL.into_iter().map(reason_name).collect())
}

pub(super) fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::NotIp => "pass-not-ip",
        Reason::NotTransport => "pass-not-tcp-or-udp",
        Reason::Malformed => "pass-malformed",
        Reason::Fragment => "pass-fragment",
        Reason::Vlan => "pass-vlan",
        Reason::NotOurs => "pass-not-ours",
        Reason::Direct => "pass-direct",
        Reason::NoBackend => "drop-no-backend",
        Reason::HopLimit => "drop-hop-limit",
        Reason::NoRoute => "drop-no-route",
        Reason::Rewrite => "drop-rewrite",
        Reason::NoTable => "drop-no-table",
        Reason::Fib => "forward-by-kernel-route",
        Reason::TooBig => "drop-too-big",
        Reason::EarlyFragment => "drop-early-fragment",
        Reason::Echo => "answer-echo",
        Reason::Quoted => "forward-icmp-error",
        Reason::Silenced => "drop-icmp-limit",
        Reason::NoSource => "drop-no-outer-source",
    }
}
