//! What the fake node says of itself.

use std::time::{Duration, SystemTime};

use weir::health::Counts;
use weir::model::{
    AttachMode, Backend, BackendState, Hook, Observed, OnTimeout, PerVersion, SampleRatio, Service,
    ServiceName, ServiceSpec, TableShare, Version, Weight,
};
use weir::node::Error;
use weir::node::messages::{
    BackendCounters, BackendHealth, BackendStatus, Capacity, Counters, DrainStatus, Handshakes,
    InterfaceStatus, MayStop, NextHop, NodeStatus, ServiceCounters, ServiceStatus, Traffic,
    Verdict, VersionCounters, VersionStatus,
};

use super::node::{Node, SLOTS};

impl Node {
    pub(super) fn get(&self, name: &ServiceName) -> Result<ServiceStatus, Error> {
        let (generation, service) =
            self.services.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        let version = |version: Version| {
            let weight = service.weights().get(version);
            let group = &service.versions()[version];
            let backend = |backend: &Backend| BackendStatus {
                address: backend.address,
                port: backend.port,
                weight: backend.weight,
                state: if backend.weight > 0 {
                    BackendState::Active
                } else {
                    BackendState::Draining
                },
                slots: 1_024,
                connections: 7,
                next_hop: NextHop::Resolved { interface: "eth1".into() },
                health: service.health().map(|_| BackendHealth {
                    failing: true,
                    since: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
                    error: Some("connection refused".into()),
                    against: 1,
                    needed: 2,
                    next_check_ms: Some(1_200),
                }),
            };
            VersionStatus {
                release: group.release.clone(),
                asked: weight,
                table: TableShare { slots: weight.bp() * SLOTS / 10_000, total: SLOTS },
                observed: self.observed(version, weight),
                backends: group.backends.iter().map(backend).collect(),
            }
        };
        let versions = PerVersion::from_fn(version);
        let counts = PerVersion::from_fn(|version| versions[version].observed.connections);
        let table = PerVersion::from_fn(|version| versions[version].table);
        Ok(ServiceStatus {
            spec: ServiceSpec::from(service),
            generation: *generation,
            digest: "0123456789abcdef".into(),
            versions,
            sample_ratio: SampleRatio::judge(counts, table),
            settled: self.before.get(name).copied().unwrap_or(*service.weights()),
            lease: self.leases.get(name).copied(),
            fence: None,
            guard: None,
        })
    }

    fn observed(&self, version: Version, weight: Weight) -> Observed {
        match *self.planted.lock().unwrap() {
            Some(planted) => Observed {
                connections: planted[version.index()],
                total: planted.iter().sum(),
                steered: 0,
            },
            None => Observed { connections: u64::from(weight.bp()) * 2, total: 20_000, steered: 0 },
        }
    }

    /// Each look finds 10 000 connections more, by weight, and a second later than the last.
    pub(super) fn counters(&mut self, names: &[ServiceName]) -> Result<Counters, Error> {
        if let Some(missing) = names.iter().find(|name| !self.services.contains_key(name)) {
            return Err(Error::NotFound(missing.clone()));
        }
        self.reads += 1;
        let reads = self.reads;
        let wanted = self
            .services
            .values()
            .filter(|(_, service)| names.is_empty() || names.contains(service.name()));
        let of_version = |service: &Service, version: Version| {
            let connections = u64::from(service.weights().get(version).bp()) * reads;
            // One in a hundred is refused; the others take 1 ms.
            let (refused, established) = (connections / 100, connections - connections / 100);
            let traffic = Traffic { connections, established, refused, ..Traffic::default() };
            let mut buckets = vec![0; weir_ebpf::latency::bucket(1_000_000)];
            buckets.push(established);
            let sum = Duration::from_millis(established);
            let handshakes = Handshakes::new(buckets, sum);
            let backends = &service.versions()[version].backends;
            let backends = backends.iter().map(|one| BackendCounters {
                address: one.address,
                port: one.port,
                traffic,
                handshakes: handshakes.clone(),
            });
            let backends = backends.collect();
            VersionCounters { traffic, handshakes, backends }
        };
        let services = wanted.map(|(_, service)| ServiceCounters {
            service: service.name().clone(),
            versions: PerVersion::from_fn(|version| of_version(service, version)),
        });
        Ok(Counters {
            epoch: 1,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + reads - 1),
            services: services.collect(),
            verdicts: vec![Verdict {
                hook: "tc".into(),
                reason: "no_listener".into(),
                packets: 12,
            }],
        })
    }

    /// Canary drains, and one of its backends.
    pub(super) fn drains(&self, names: &[ServiceName]) -> Result<Vec<DrainStatus>, Error> {
        if let Some(missing) = names.iter().find(|name| !self.services.contains_key(name)) {
            return Err(Error::NotFound(missing.clone()));
        }
        let Some(service) = self.services.keys().next_back().cloned() else {
            return Ok(Vec::new());
        };
        let whole = DrainStatus {
            service,
            version: Version::Canary,
            backend: None,
            why: "no weight".into(),
            age_s: Some(75),
            flows: 1_012,
            longest_silence_s: Some(64),
            last_packet_s: Some(3),
            packets: 4_096,
            window_s: 8,
            settles_in_s: Some(825),
            deadline_in_s: Some(1_725),
            on_timeout: OnTimeout::Reset,
            may_stop: MayStop::No,
            reason: "1012 flows, last packet 3s ago".into(),
        };
        let one = DrainStatus {
            backend: Some(([10, 63, 0, 2], 80).into()),
            why: "by hand".into(),
            flows: 0,
            longest_silence_s: None,
            last_packet_s: None,
            packets: 0,
            settles_in_s: None,
            deadline_in_s: None,
            on_timeout: OnTimeout::Keep,
            may_stop: MayStop::Yes,
            reason: "nothing names it".into(),
            ..whole.clone()
        };
        Ok(vec![whole, one])
    }

    pub(super) fn status(&self) -> NodeStatus {
        NodeStatus {
            version: "0.1.0".into(),
            abi: 1,
            kernel: "6.12.0".into(),
            epoch: 1,
            generation: self.generation,
            uptime: Duration::from_secs(61),
            interfaces: vec![InterfaceStatus {
                name: "eth0".into(),
                index: 2,
                asked: AttachMode::Auto,
                actual: Some(Hook::Tcx),
                state: "attached".into(),
            }],
            capacity: vec![Capacity { resource: "flows".into(), used: 3, limit: 1_048_576 }],
            outer_sources: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            health: Counts {
                backends: 3,
                failing: 1,
                in_flight: 2,
                made: 1_234,
                ..Counts::default()
            },
            http: Some(([127, 0, 0, 1], 9180).into()),
            listen: None,
            state_dir: "/var/lib/weir".into(),
            bpf_log: "off".into(),
            warnings: vec!["eth1 went away".into()],
        }
    }
}
