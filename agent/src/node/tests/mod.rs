//! Tests of the owner over a data plane in memory, with parts that fail when told to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod backends;
mod changes;
mod chaos;
mod drain;
mod events;
mod failures;
mod fence;
mod guard;
mod health;
mod host;
mod indices;
mod leases;
mod preview;
mod quic;
mod requests;
mod restart;
mod rollback;
mod settle;
mod steering;
mod unreliable;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use weir_ebpf::abi::{Address, FlowKey, TCP};

use self::chaos::{Call, Chaos};
use super::Error;
use super::directory::Place;
use super::messages::{
    Apply, ChangeOptions, Changed, Commit, Delete, InFlight, RequestId, ServiceShift, Shift,
    Traffic,
};
use super::owner::Owner;
use crate::dataplane::memory::Memory;
use crate::dataplane::next_hop::NextHop;
use crate::dataplane::shared::Shared;
use crate::model::{PerVersion, Service, ServiceName, SpecFile, Version, Weight, parse_services};
use crate::plan::digest::Digest;
use crate::plan::tables::ServiceTables;
use crate::store::{Error as StoreError, Kept, Loaded, Store, Stored};

type TestOwner = Owner<Chaos<Shared<Memory>>, TestStore>;

/// Run once within the next save, which then fails.
type Failure = Box<dyn FnOnce() + Send>;

/// A store in memory.
#[derive(Clone, Default)]
struct TestStore {
    /// By chance saves fail as calls of the data plane do.
    chance: chaos::Plan,
    kept: Arc<Mutex<Option<Stored>>>,
    failure: Arc<Mutex<Option<Failure>>>,
    /// What the next load warns of, and why the next save cannot flush.
    warning: Arc<Mutex<Option<String>>>,
    unflushed: Arc<Mutex<Option<String>>>,
}

impl TestStore {
    fn fail_next(&self, meanwhile: impl FnOnce() + Send + 'static) {
        *self.failure.lock().unwrap() = Some(Box::new(meanwhile));
    }

    fn kept(&self) -> Option<Stored> {
        self.kept.lock().unwrap().clone()
    }
}

impl Store for TestStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded { state: self.kept(), warning: self.warning.lock().unwrap().take() })
    }

    fn save(&mut self, state: &Stored) -> Result<Kept, StoreError> {
        if let Some(meanwhile) = self.failure.lock().unwrap().take() {
            meanwhile();
            return Err(StoreError::Unwritable("the disk is full".to_owned()));
        }
        if self.chance.fails_by_chance() {
            return Err(StoreError::Unwritable("chance has it so".to_owned()));
        }
        *self.kept.lock().unwrap() = Some(state.clone());
        Ok(match self.unflushed.lock().unwrap().take() {
            Some(why) => Kept::Unflushed(why),
            None => Kept::Durably,
        })
    }
}

/// A node in memory: its owner, and a hand on what it owns.
struct Node {
    owner: TestOwner,
    plane: Shared<Memory>,
    calls: chaos::Plan,
    store: TestStore,
}

/// All that a node holds.
#[derive(Clone, PartialEq, Debug)]
struct Held {
    services: BTreeMap<ServiceName, (Service, u32, u64, Digest, ServiceTables)>,
    places: BTreeMap<(ServiceName, Version, IpAddr, u16), Place>,
    generation: u32,
    marks: BTreeMap<ServiceName, PerVersion<Traffic>>,
    plane: Memory,
    kept: Option<Stored>,
}

impl Node {
    fn new() -> Self {
        Self::start(TestStore::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn start(store: TestStore) -> Result<Self, Error> {
        let plane = Shared::new(Memory::new(1_000));
        let calls = chaos::Plan::default();
        let owner = Owner::start(Chaos::new(plane.clone(), calls.clone()), store.clone())?;
        Ok(Self { owner, plane, calls, store })
    }

    /// The next agent, on what this one has left in its data plane and its store.
    fn restart(self) -> Self {
        let Self { plane, calls, store, .. } = self;
        let owner = Owner::start(Chaos::new(plane.clone(), calls.clone()), store.clone());
        Self { owner: owner.unwrap_or_else(|error| panic!("{error}")), plane, calls, store }
    }

    /// A node with these services, given as [`spec`]s.
    fn with(specs: &[String]) -> Self {
        let mut node = Self::new();
        node.apply(specs).unwrap();
        node
    }

    fn apply(&mut self, specs: &[String]) -> Result<Changed, Error> {
        self.owner.apply(&apply(specs))
    }

    fn shift(&mut self, shifts: &[(&str, Version, u32)]) -> Result<Changed, Error> {
        self.owner.shift(&shift(shifts))
    }

    fn delete(&mut self, name_: &str) -> Result<Commit, Error> {
        self.owner.delete(&Delete { services: vec![name(name_)], request_id: None, fence: None })
    }

    fn held(&self) -> Held {
        let state = &self.owner.state;
        let entries = state.services.iter().map(|(name, entry)| {
            let tables = ServiceTables::clone(&entry.tables);
            let held =
                (entry.service.clone(), entry.index, entry.generation, entry.digest(), tables);
            (name.clone(), held)
        });
        Held {
            services: entries.collect(),
            places: self.places(),
            generation: self.owner.generation,
            marks: self.owner.marks.clone(),
            plane: self.plane.lock().clone(),
            kept: self.store.kept(),
        }
    }

    fn places(&self) -> BTreeMap<(ServiceName, Version, IpAddr, u16), Place> {
        let all = self.owner.state.directory.all();
        all.map(|(name, key, place)| ((name.clone(), key.version, key.address, key.port), place))
            .collect()
    }

    /// The place of the backend `10.60.0.last` in a version of a service.
    fn place(&self, service: &str, version: Version, last: u8) -> Option<Place> {
        self.places().get(&(name(service), version, backend(last), 80)).copied()
    }

    /// Where a packet of a client of the listener `10.50.0.listener` goes: the last byte of the
    /// backend's address.
    fn packet(&self, listener: u8, client: u16, opens: bool) -> Option<u8> {
        packet(&self.plane, listener, client, opens)
    }

    /// Opens flows of so many clients, and gives where each went.
    fn open(&self, listener: u8, clients: std::ops::Range<u16>) -> Vec<Option<u8>> {
        open(&self.plane, listener, clients)
    }

    /// Where the next packets of these flows go.
    fn go_on(&self, listener: u8, clients: std::ops::Range<u16>) -> Vec<Option<u8>> {
        clients.map(|client| self.packet(listener, client, false)).collect()
    }

    /// What each table does with new flows, in words that hold on every node.
    fn digest_in_plane(&self, service: &str) -> Digest {
        let entry = self.owner.state.get(&name(service)).unwrap();
        let plane = self.plane.lock();
        let identity = |index| {
            let record = plane.backends.get(&index)?;
            Some(crate::plan::identity::Identity {
                address: record.address,
                port: u16::from_be(record.port),
            })
        };
        let (_, image) = &plane.services[&entry.index];
        Digest::of_tables(&image.tables, &image.steering, &identity)
    }
}

fn packet(plane: &Shared<Memory>, listener: u8, client: u16, opens: bool) -> Option<u8> {
    let [high, low] = client.to_be_bytes();
    let key = FlowKey {
        source: Address::from_v4([10, 9, high, low]),
        destination: Address::from_v4([10, 50, 0, listener]),
        source_port: 40_000_u16.to_be(),
        destination_port: 80_u16.to_be(),
        protocol: TCP,
        pad: [0; 3],
    };
    let mut plane = plane.lock();
    let index = plane.packet(key, opens)?.ok()?.backend;
    Some(plane.backends[&index].address.0[3].to_ne_bytes()[3])
}

fn open(plane: &Shared<Memory>, listener: u8, clients: std::ops::Range<u16>) -> Vec<Option<u8>> {
    clients.map(|client| packet(plane, listener, client, true)).collect()
}

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn backend(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 60, 0, last).into()
}

fn hop(interface: u32) -> NextHop {
    NextHop::plain(interface, [2; 6], [4; 6])
}

/// A service on `10.50.0.listener:80/tcp` in the form of a spec file. `versions`: name, percent,
/// last bytes of the backends `10.60.0.x:80`.
fn spec(name: &str, listener: u8, versions: &[(Version, u32, &[u8])]) -> String {
    let mut text = format!("  - name: {name}\n    listeners:\n");
    writeln!(text, "      - {{ address: 10.50.0.{listener}, port: 80, protocol: tcp }}").unwrap();
    text += "    versions:\n";
    for (version, percent, backends) in versions {
        let list: Vec<String> = backends
            .iter()
            .map(|last| format!("{{ address: 10.60.0.{last}, port: 80 }}"))
            .collect();
        writeln!(
            text,
            "      {version}: {{ weight: {percent}%, backends: [{}] }}",
            list.join(", ")
        )
        .unwrap();
    }
    text
}

fn apply(specs: &[String]) -> Apply {
    let file = SpecFile::parse(&format!("services:\n{}", specs.concat())).unwrap();
    let services = parse_services(&file.services, false).unwrap();
    Apply { services, options: ChangeOptions::default() }
}

/// Each service's version gets so many percent; blue gives or takes the rest.
fn shift(shifts: &[(&str, Version, u32)]) -> Shift {
    let one = |(service, version, percent): &(&str, Version, u32)| ServiceShift {
        service: name(service),
        set: vec![(*version, Weight::from_bp(percent * 100).unwrap())],
        remainder: Version::Blue,
        expected_generation: None,
    };
    let shifts = shifts.iter().map(one).collect();
    let (in_flight, options) = (InFlight::default(), ChangeOptions::default());
    Shift { shifts, in_flight, lease: None, options }
}

fn id(id: &str) -> RequestId {
    RequestId::new(id).unwrap()
}
