//! The commit that leads a data plane from one state to another. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use weir_ebpf::abi::{self, Endpoint, FlowEntry, FlowKey, NO_SERVICE, Return, ServerKey};
use weir_ebpf::packet;

use super::directory::{Directory, Place, address};
use super::state::{Changed, Entry, State};
use crate::dataplane::{Commit, Image};
use crate::model::{
    Affinity, BackendState, Forwarding, Protocol, Quic, Service, ServiceName, Signals, Udp, Version,
};

/// What differs between `before` and `after`.
pub(super) fn difference(before: &State, after: &State, generation: u32) -> Commit {
    let mut commit = Commit { generation, ..Commit::default() };
    let (mut old, mut new) = (Paths::default(), Paths::default());
    let changes = after.changes_from(before);
    let ways_change = ways_change(before, after, &changes);
    if ways_change {
        for (name, was) in &before.services {
            if after.services.get(name).is_some_and(|is| Arc::ptr_eq(is, was)) {
                // Another service may come to the same addresses, or leave them.
                old.add_addresses(was);
                new.add_addresses(was);
            }
        }
    }
    for was in changes.iter().filter_map(|(was, _)| *was) {
        if ways_change {
            old.add(was, &before.directory);
        }
    }
    let gone = changes.iter().filter(|(_, is)| is.is_none()).filter_map(|(was, _)| *was);
    commit.services.extend(gone.map(|was| (was.index, None)));
    for is in changes.iter().filter_map(|(_, is)| *is) {
        let name = is.service.name();
        if ways_change {
            new.add(is, &after.directory);
        }
        // Last, so that an index that one service gives up and another takes is set, not removed.
        commit.services.retain(|(index, _)| *index != is.index);
        commit.services.push((is.index, Some(image(is))));
        if !Arc::ptr_eq(&before.directory, &after.directory) {
            commit.backends.extend(new_backends(name, before, after));
        }
        commit.flags.extend(new_flags(name, before, after));
    }
    commit.closed =
        old.listeners.keys().filter(|e| !new.listeners.contains_key(e)).copied().collect();
    commit.severed = old.returns.keys().filter(|e| !new.returns.contains_key(e)).copied().collect();
    commit.listeners = new
        .listeners
        .into_iter()
        .filter(|(e, index)| old.listeners.get(e) != Some(index))
        .collect();
    commit.retired_ids =
        old.server_ids.keys().filter(|id| !new.server_ids.contains_key(id)).copied().collect();
    commit.server_ids = new
        .server_ids
        .into_iter()
        .filter(|(id, backend)| old.server_ids.get(id) != Some(backend))
        .collect();
    commit.returns =
        new.returns.into_iter().filter(|(e, back)| old.returns.get(e) != Some(back)).collect();
    commit
}

/// Whether packets may come in another way after this step: from clients, or from backends. A shift
/// of weights leaves all ways as they are, and there are as many as backends.
fn ways_change(before: &State, after: &State, changes: &[Changed<'_>]) -> bool {
    let same = |(was, is): &Changed<'_>| {
        let (Some(was), Some(is)) = (was, is) else { return false };
        let (is, was) = (&is.service, &was.service);
        is.listeners() == was.listeners()
            && is.forwarding() == was.forwarding()
            && is.quic() == was.quic()
    };
    !Arc::ptr_eq(&before.directory, &after.directory) || !changes.iter().all(same)
}

/// Which remembered flows belong to nothing any more: the service that has their listener is not
/// the one that has their backend. Nothing, if every listener of `before` is where it was.
pub(super) fn lost_flows<'a>(
    before: &State,
    after: &'a State,
) -> Option<impl Fn(&FlowKey, &FlowEntry) -> bool + use<'a>> {
    let (old, new) = (listeners(before), listeners(after));
    if old.iter().all(|(at, name)| new.get(at) == Some(name)) {
        return None;
    }
    let backends: HashMap<u16, &ServiceName> =
        after.directory.all().map(|(name, _, place)| (place.index, name)).collect();
    Some(move |key: &FlowKey, flow: &FlowEntry| {
        let at = |port| Endpoint { address: key.destination, port, protocol: key.protocol, pad: 0 };
        let service = new.get(&at(key.destination_port)).or_else(|| new.get(&at(0)));
        let backend = backends.get(&flow.backend);
        service.is_none() || service != backend
    })
}

fn listeners(state: &State) -> HashMap<Endpoint, &ServiceName> {
    let of = |(name, entry)| {
        let entry: &Arc<Entry> = entry;
        entry
            .service
            .listeners()
            .iter()
            .map(move |l| (endpoint(l.address, l.port, l.protocol), name))
    };
    state.services.iter().flat_map(of).collect()
}

/// Records of the backends of a service that have got their index in this step.
fn new_backends(name: &ServiceName, before: &State, after: &State) -> Vec<(u16, abi::Backend)> {
    let is_new = |key| before.directory.get(name, key).is_none();
    after
        .directory
        .of(name)
        .filter(|(key, _)| is_new(key))
        .map(|(key, place)| {
            let record = abi::Backend {
                address: address(key.address),
                port: key.port.to_be(),
                flags: after.services.get(name).map_or(0, |entry| flags(entry, place)),
                of: after.services.get(name).map_or(0, |entry| owner(entry, key.version)),
                ..abi::Backend::default()
            };
            (place.index, record)
        })
        .collect()
}

/// Flags of the backends of a service that become others in this step.
fn new_flags(name: &ServiceName, before: &State, after: &State) -> Vec<(u16, u32)> {
    let (Some(was), Some(is)) = (before.services.get(name), after.services.get(name)) else {
        return Vec::new();
    };
    if Arc::ptr_eq(&before.directory, &after.directory) && was.given_up == is.given_up {
        return Vec::new();
    }
    let changed = |(key, place): (&_, Place)| {
        let new = flags(is, place);
        let old = flags(was, before.directory.get(name, key)?);
        (new != old).then_some((place.index, new))
    };
    after.directory.of(name).filter_map(changed).collect()
}

/// What says that a backend is of this version.
fn owner(entry: &Entry, version: Version) -> u16 {
    let version = u8::try_from(version.index()).unwrap_or(abi::BLUE);
    abi::Backend::owner(entry.index, version)
}

/// What the program shall know of a backend.
fn flags(entry: &Entry, place: Place) -> u32 {
    let down = if place.state() == BackendState::Down { abi::DOWN } else { 0 };
    let given_up = if entry.given_up.contains(&place.index) { abi::GIVEN_UP } else { 0 };
    down | given_up
}

/// Where packets of some services come in: from clients, and from backends.
#[derive(Default)]
struct Paths {
    listeners: HashMap<Endpoint, u32>,
    returns: HashMap<Endpoint, Return>,
    server_ids: HashMap<ServerKey, u16>,
}

impl Paths {
    /// The addresses of a service's listeners: by them errors and echoes come in.
    fn add_addresses(&mut self, entry: &Entry) {
        for listener in entry.service.listeners() {
            let at = Endpoint { address: address(listener.address), port: 0, protocol: 0, pad: 0 };
            self.listeners.insert(at, NO_SERVICE);
        }
    }

    fn add(&mut self, entry: &Entry, directory: &Directory) {
        // Those that drain first: where another one has got what was theirs, the active one counts.
        let mut backends: Vec<_> = directory.of(entry.service.name()).collect();
        backends.sort_by_key(|(_, place)| !place.drains);
        if let Some(quic) = entry.service.quic() {
            for (_, place) in &backends {
                if let Some(id) = place.server_id.filter(|id| id.length() == quic.id_length()) {
                    let (service, length) = (entry.index, u32::from(id.length()));
                    let key = ServerKey { service, length, id: id.number() };
                    self.server_ids.insert(key, place.index);
                }
            }
        }
        self.add_addresses(entry);
        for listener in entry.service.listeners() {
            let at = endpoint(listener.address, listener.port, listener.protocol);
            let version = listener.version.and_then(|version| u8::try_from(version.index()).ok());
            self.listeners.insert(at, abi::Listener::of(entry.index, version).service);
            if entry.service.forwarding() != Forwarding::Nat {
                continue; // answers do not come back this way
            }
            for (key, place) in &backends {
                let back = Return { address: at.address, port: at.port, backend: place.index };
                self.returns.insert(endpoint(key.address, key.port, listener.protocol), back);
            }
        }
    }
}

pub(super) fn endpoint(at: IpAddr, port: u16, protocol: Protocol) -> Endpoint {
    let protocol = match protocol {
        Protocol::Tcp => abi::TCP,
        Protocol::Udp => abi::UDP,
    };
    Endpoint { address: address(at), port: port.to_be(), protocol, pad: 0 }
}

/// TCP flags of clients' packets that tell a signal. In the direct modes the first packet after the
/// SYN tells that the server has answered.
fn watch(service: &Service) -> u8 {
    let ends = packet::SYN | packet::FIN | packet::RST;
    match (service.signals(), service.forwarding()) {
        (Signals::Off, _) => 0,
        (Signals::Full, mode) if mode != Forwarding::Nat => ends | packet::ACK,
        _ => ends,
    }
}

/// A service as the program shall see it.
pub(super) fn image(entry: &Entry) -> Image {
    let seed = entry.service.seed().0;
    let (halves, _) = seed.as_chunks::<8>();
    let record = abi::Service {
        seed: [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])],
        affinity: match entry.service.affinity() {
            Affinity::Connection => abi::AFFINITY_CONNECTION,
            Affinity::Client => abi::AFFINITY_CLIENT,
            Affinity::ClientBackend => abi::AFFINITY_CLIENT_BACKEND,
        },
        forwarding: match entry.service.forwarding() {
            Forwarding::Nat => abi::FORWARD_NAT,
            Forwarding::DsrL2 => abi::FORWARD_DSR_L2,
            Forwarding::DsrIpip => abi::FORWARD_IPIP,
            Forwarding::DsrGue => abi::FORWARD_GUE,
        },
        gue_port: entry.service.gue_port().to_be(),
        udp: match entry.service.udp() {
            Udp::Tracked => abi::UDP_TRACKED,
            Udp::Stateless => abi::UDP_STATELESS,
            Udp::Quic => abi::UDP_QUIC,
        },
        udp_idle: entry.service.udp_idle(),
        watch: watch(&entry.service),
        signals: match entry.service.signals() {
            Signals::Off => abi::SIGNALS_OFF,
            Signals::Basic => abi::SIGNALS_BASIC,
            Signals::Full => abi::SIGNALS_FULL,
        },
        quic_config: entry.service.quic().map_or(0, |quic| quic.config() << 5),
        quic_id_length: entry.service.quic().map_or(0, Quic::id_length),
        ..abi::Service::default()
    };
    let (tables, steering) = (Arc::clone(&entry.tables), Arc::clone(&entry.steering));
    Image { record, tables, steering }
}
