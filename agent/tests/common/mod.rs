//! A node that lives in memory, behind the real API on a real socket.
//!
//! It keeps services and answers with plausible tables; it moves no packet. What it answers is right in form and
//! follows what was asked, so that the API, the client and the command line can be tested from end to end.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; no test uses all of this"
)]

pub(crate) mod certificates;
pub(crate) mod refused;
pub(crate) mod trace;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use weir::{
    api::{Ends, port::Port, serve, socket},
    client::Client,
    health::Counts,
    model::{
        AttachMode, BackendState, Hook, LeaseTerms, Observed, OnTimeout, PerVersion, Rule,
        SampleRatio, Service, ServiceName, ServiceSpec, TableShare, Version, Violation, Weight,
        Weights, resolve, steering::revise, validate_set,
    },
    node::{
        Error, Handle, Request, channel,
        events::{Event, Kind, Log},
        messages::{
            Apply, BackendCounters, BackendHealth, BackendStatus, Capacity, Change, ChangeOptions,
            Changed, Commit, Counters, Delete, DrainStatus, GuardStatus, Handshakes,
            InterfaceStatus, LeaseStatus, MayStop, Move, NextHop, NodeStatus, RenewLease,
            RequestId, RollBack, ServiceCounters, ServiceStatus, SetBackend, Settle, Settled,
            Shift, Steer, Steered, Traffic, Verdict, VersionChange, VersionCounters, VersionStatus,
        },
        trace::answer::Names,
    },
};

const SLOTS: u32 = 16_384;

/// The state of the fake.
struct Node {
    services: BTreeMap<ServiceName, (u64, Service)>,
    generation: u64,
    done: HashMap<RequestId, Changed>,
    reads: u64,
    events: Log,
    /// The weights of services before they were changed last, and leases on the new ones.
    before: BTreeMap<ServiceName, Weights>,
    /// New connections of blue, green and canary, if not 20 000 by weight.
    planted: Arc<Mutex<Option<[u64; 3]>>>,
    leases: BTreeMap<ServiceName, LeaseStatus>,
}

impl Node {
    fn handle(&mut self, request: Request) {
        // A caller that is gone is no error.
        match request {
            Request::Apply(apply, reply) => drop(reply.send(self.apply(apply))),
            Request::Delete(delete, reply) => drop(reply.send(self.delete(&delete))),
            Request::Get(name, reply) => drop(reply.send(self.get(&name))),
            Request::List(reply) => {
                drop(reply.send(self.services.keys().map(|name| self.get(name)).collect()));
            }
            Request::Services(reply) => {
                drop(reply.send(Ok(self.services.keys().cloned().collect())));
            }
            Request::Shift(shift, reply) => drop(reply.send(self.shift(shift))),
            Request::RollBack(roll_back, reply) => drop(reply.send(self.roll_back(&roll_back))),
            Request::RenewLease(renew, reply) => drop(reply.send(self.renew(&renew))),
            Request::SetBackend(set, reply) => drop(reply.send(self.set_backend(&set))),
            Request::Drains(names, reply) => drop(reply.send(self.drains(&names))),
            Request::Settle(settle, reply) => drop(reply.send(self.settle(&settle))),
            Request::SetGuard(set, reply) => {
                let status =
                    GuardStatus { guard: set.guard, connections: 41, failures: 3, tripped: None };
                drop(reply.send(self.get(&set.service).map(|_| status)));
            }
            Request::ClearGuard(clear, reply) => {
                drop(reply.send(self.get(&clear.service).map(|_| ())));
            }
            Request::Steer(steer, reply) => drop(reply.send(self.steer(&steer))),
            Request::Counters(names, reply) => drop(reply.send(self.counters(&names))),
            Request::Status(reply) => drop(reply.send(Ok(self.status()))),
            Request::Events(query, reply) => drop(reply.send(Ok(self.events.look(&query)))),
            Request::TraceFlow(asked, reply) => drop(reply.send(Ok(trace::any(&asked)))),
            Request::Tell(event) => self.events.push(event),
            Request::By(caller, request) => {
                self.events.set_caller(Some(caller));
                self.handle(*request);
                self.events.set_caller(None);
            }
            Request::Names(_, reply) => drop(reply.send(Ok(Names::default()))),
        }
    }

    fn apply(&mut self, apply: Apply) -> Result<Changed, Error> {
        let existing: Vec<&Service> = self.services.values().map(|(_, service)| service).collect();
        validate_set(&apply.services, &existing).map_err(Error::Invalid)?;
        Ok(self.change(apply.services, &apply.options))
    }

    fn shift(&mut self, shift: Shift) -> Result<Changed, Error> {
        let mut services = Vec::new();
        for (index, one) in shift.shifts.into_iter().enumerate() {
            let (generation, service) = self
                .services
                .get(&one.service)
                .ok_or_else(|| Error::NotFound(one.service.clone()))?;
            if let Some(expected) =
                one.expected_generation.filter(|expected| expected != generation)
            {
                return Err(Error::GenerationMismatch {
                    service: one.service,
                    expected,
                    actual: *generation,
                });
            }
            let weights = resolve(service.weights(), &one.set, one.remainder).map_err(|error| {
                let message = error.to_string();
                Error::Invalid(vec![Violation { field: format!("shifts[{index}].set"), message }])
            })?;
            let service = service.clone().with_weights(weights);
            if let Some(version) = service.unserved().next().filter(|_| !shift.options.force) {
                return Err(Error::NoReadyBackend { service: one.service, version });
            }
            services.push(service);
        }
        for service in &services {
            self.lease(service.name(), shift.lease);
        }
        Ok(self.change(services, &shift.options))
    }

    /// Nothing runs out here: all of the time is left.
    fn lease(&mut self, name: &ServiceName, terms: Option<LeaseTerms>) {
        let weights = self.services.get(name).map(|(_, service)| *service.weights());
        self.leases.remove(name);
        if let (Some(LeaseTerms { length, on_expiry }), Some(revert_to)) = (terms, weights) {
            let deadline = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            let left = length.duration();
            let lease = LeaseStatus { left, deadline, length, on_expiry, revert_to };
            self.leases.insert(name.clone(), lease);
        }
    }

    fn renew(&mut self, renew: &RenewLease) -> Result<LeaseStatus, Error> {
        self.get(&renew.service)?;
        let lease = self.leases.get_mut(&renew.service);
        let lease = lease.ok_or_else(|| Error::NoLease(renew.service.clone()))?;
        lease.length = renew.length.unwrap_or(lease.length);
        lease.left = lease.length.duration();
        Ok(*lease)
    }

    fn roll_back(&mut self, roll_back: &RollBack) -> Result<Changed, Error> {
        let found = self.services.get(&roll_back.service);
        let (_, service) = found.ok_or_else(|| Error::NotFound(roll_back.service.clone()))?;
        let weights = self.before.get(&roll_back.service).filter(|old| *old != service.weights());
        let weights = *weights.ok_or_else(|| Error::NothingToRollBack {
            service: roll_back.service.clone(),
            weights: *service.weights(),
        })?;
        let service = service.clone().with_weights(weights);
        self.leases.remove(&roll_back.service);
        let answer = self.change(vec![service], &roll_back.options);
        if !roll_back.options.dry_run {
            self.before.insert(roll_back.service.clone(), weights);
        }
        Ok(answer)
    }

    fn set_backend(&mut self, set: &SetBackend) -> Result<Changed, Error> {
        let found = self.services.get(&set.service);
        let (_, service) = found.ok_or_else(|| Error::NotFound(set.service.clone()))?;
        let service = service.clone();
        Ok(self.change(vec![service], &set.options))
    }

    /// Canary drains, and one of its backends.
    fn drains(&self, names: &[ServiceName]) -> Result<Vec<DrainStatus>, Error> {
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

    fn settle(&self, settle: &Settle) -> Result<Settled, Error> {
        self.get(&settle.service)?;
        let (generation, duration) = (self.generation, Duration::from_micros(800));
        Ok(Settled {
            commit: Commit { generation, dry_run: settle.dry_run, duration },
            slots: vec![Move { from: Version::Canary, to: Version::Blue, slots: 819 }],
            backend_slots: 12,
            prefixes: 0,
            by_itself_s: 825,
        })
    }

    fn steer(&mut self, steer: &Steer) -> Result<Changed, Error> {
        let found = self.services.get(&steer.service);
        let (generation, service) = found.ok_or_else(|| Error::NotFound(steer.service.clone()))?;
        if let Some(expected) = steer.expected_generation.filter(|expected| expected != generation)
        {
            let (service, actual) = (steer.service.clone(), *generation);
            return Err(Error::GenerationMismatch { service, expected, actual });
        }
        let rules = revise(service, &steer.add, &steer.remove).map_err(Error::Invalid)?;
        let service = service.clone().with_steering(rules);
        let unserved = |rule: &&Rule| !service.versions()[rule.version].is_served();
        if let Some(rule) = steer.add.iter().find(unserved).filter(|_| !steer.options.force) {
            let (service, version) = (steer.service.clone(), rule.version);
            return Err(Error::NoReadyBackend { service, version });
        }
        Ok(self.change(vec![service], &steer.options))
    }

    fn change(&mut self, services: Vec<Service>, options: &ChangeOptions) -> Changed {
        if let Some(done) = options.request_id.as_ref().and_then(|id| self.done.get(id)) {
            return done.clone();
        }
        let changes = services.iter().map(|service| self.describe(service)).collect();
        if !options.dry_run {
            self.generation += 1;
            for service in services {
                let event = Event::new(Kind::Applied, "as asked").of(service.name());
                self.events.push(event.asked_by(options.request_id.as_ref()));
                let entry = self
                    .services
                    .entry(service.name().clone())
                    .or_insert_with(|| (0, service.clone()));
                self.before.insert(service.name().clone(), *entry.1.weights());
                *entry = (entry.0 + 1, service);
            }
        }
        let duration = Duration::from_micros(1_340);
        let commit = Commit { generation: self.generation, dry_run: options.dry_run, duration };
        let answer = Changed { commit, changes };
        if let Some(id) = options.request_id.clone().filter(|_| !options.dry_run) {
            self.done.insert(id, answer.clone());
        }
        answer
    }

    /// What making `service` so would change.
    fn describe(&self, service: &Service) -> Change {
        let before = self.services.get(service.name());
        let weight_before =
            |version| before.map_or(Weight::ZERO, |(_, service)| service.weights().get(version));
        let slots = |weight: Weight| weight.bp() * SLOTS / 10_000;
        let mut moves = Vec::new();
        for (version, weight) in
            service.weights().iter().filter(|(version, _)| *version != Version::Blue)
        {
            let (old, new) = (slots(weight_before(version)), slots(weight));
            match (before.is_some(), new.checked_sub(old), old.checked_sub(new)) {
                (true, Some(gained @ 1..), _) => {
                    moves.push(Move { from: Version::Blue, to: version, slots: gained });
                }
                (true, _, Some(lost @ 1..)) => {
                    moves.push(Move { from: version, to: Version::Blue, slots: lost });
                }
                _ => {}
            }
        }
        Change {
            service: service.name().clone(),
            generation: before.map_or(0, |(generation, _)| *generation) + 1,
            created: before.is_none(),
            versions: PerVersion::from_fn(|version| VersionChange {
                before: weight_before(version),
                asked: service.weights().get(version),
                table: TableShare { slots: slots(service.weights().get(version)), total: SLOTS },
                observed: Observed::default(),
                backend_slots_moved: 0,
            }),
            sample_ratio: SampleRatio::default(),
            moves,
            steering: Steered {
                rules: u32::try_from(service.steering().len()).unwrap(),
                moved: before.map_or(0, |(_, old)| moved_rules(old, service)),
            },
            digest: "0123456789abcdef".into(),
            lease: self.leases.get(service.name()).copied(),
        }
    }

    fn delete(&mut self, delete: &Delete) -> Result<Commit, Error> {
        if let Some(missing) = delete.services.iter().find(|name| !self.services.contains_key(name))
        {
            return Err(Error::NotFound(missing.clone()));
        }
        for name in &delete.services {
            self.services.remove(name);
        }
        self.generation += 1;
        Ok(Commit {
            generation: self.generation,
            dry_run: false,
            duration: Duration::from_micros(900),
        })
    }

    fn get(&self, name: &ServiceName) -> Result<ServiceStatus, Error> {
        let (generation, service) =
            self.services.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        let version = |version: Version| {
            let weight = service.weights().get(version);
            let group = &service.versions()[version];
            let backend = |backend: &weir::model::Backend| BackendStatus {
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
    fn counters(&mut self, names: &[ServiceName]) -> Result<Counters, Error> {
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

    fn status(&self) -> NodeStatus {
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

/// Rules that one of the two has and the other has not.
fn moved_rules(old: &Service, new: &Service) -> u32 {
    let missing = |a: &Service, b: &Service| {
        a.steering().iter().filter(|rule| !b.steering().contains(rule)).count()
    };
    u32::try_from(missing(old, new) + missing(new, old)).unwrap()
}

/// An agent with a fake node, on a socket of its own.
pub(crate) struct FakeAgent {
    pub(crate) socket: PathBuf,
    planted: Arc<Mutex<Option<[u64; 3]>>>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    node: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl FakeAgent {
    /// Starts it; the socket is there when this returns.
    pub(crate) fn start() -> Self {
        Self::start_at(None)
    }

    /// The same, which listens at a port too.
    pub(crate) fn start_at(port: Option<Port>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let planted = Arc::default();
        let path = directory.path().join("weir.sock");
        let (handle, requests): (Handle, mpsc::Receiver<Request>) = channel();
        let node = tokio::spawn(run(requests, Arc::clone(&planted)));
        let (listener, guard) = socket::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            serve(Ends { socket: listener, guard: &guard, port }, handle, async {
                drop(stopped.await);
            })
            .await
            .unwrap();
        });
        Self { socket: path, planted, stop: Some(stop), server, node, _directory: directory }
    }

    /// From now on so many new connections of blue, green and canary are observed.
    pub(crate) fn plant(&self, connections: [u64; 3]) {
        *self.planted.lock().unwrap() = Some(connections);
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.socket).await.unwrap()
    }

    /// Stops serving, and waits until all has ended.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let ended = async {
            self.server.await.unwrap();
            // The node ends when the last who could ask it is gone.
            self.node.await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the agent stops");
    }
}

async fn run(mut requests: mpsc::Receiver<Request>, planted: Arc<Mutex<Option<[u64; 3]>>>) {
    let mut node = Node {
        services: BTreeMap::new(),
        generation: 0,
        done: HashMap::new(),
        reads: 0,
        events: Log::new(1),
        before: BTreeMap::new(),
        planted,
        leases: BTreeMap::new(),
    };
    while let Some(request) = requests.recv().await {
        node.handle(request);
    }
}
