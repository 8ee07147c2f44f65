//! Why a packet goes where it goes.
//!
//! - [`answer`]: what is said of it
//! - [`live`]: what the program tells of packets as they come
//! - [`told`]: from the program's numbers to names
//! - `walk`: the way through the tables, as the program goes it
//! - `words`: the reasons, as sentences

pub mod answer;
pub mod live;
#[cfg(test)]
mod tests;
pub mod told;
mod walk;
mod words;

use std::net::{IpAddr, SocketAddr};

use weir_ebpf::abi::{
    Address, BY_TABLE, FlowEntry, FlowKey, NO_BACKEND, NextHop, SEEN_DATA, SEEN_FIN, SEEN_RST,
    SEEN_SYN, SteerSlot, VERSION_SLOTS, VersionSlot,
};
use weir_ebpf::decide::{Decision, Undecided};

use self::answer::{
    FlowTrace, Goes, Hop, RememberedFlow, Room, SteeredBy, TraceFlow, TracedBackend,
    TracedBackendSlot, TracedVersionSlot, Walked, Way,
};
use self::walk::{Found, Holds, Place, Walk, walk};
use super::difference::endpoint;
use super::directory::Key;
use super::state::Entry;
use super::{Error, Owner, clock};
use crate::dataplane::DataPlane;
use crate::model::{Protocol, Service, ServiceName, Version, Violation};
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Why the packets of a flow go where they go. Changes nothing.
    ///
    /// # Errors
    ///
    /// The request is wrong, or the data plane cannot be read.
    pub fn trace_flow(&self, asked: &TraceFlow) -> Result<FlowTrace, Error> {
        let to = self.traced_to(asked)?;
        let end = |at: SocketAddr| endpoint(at.ip(), at.port(), asked.protocol);
        let (client, listener) = (end(asked.from), end(to));
        let key = FlowKey {
            source: client.address,
            destination: listener.address,
            source_port: client.port,
            destination_port: listener.port,
            protocol: client.protocol,
            pad: [0; 3],
        };
        let found = walk(&self.plane, &key).map_err(|error| Error::DataPlane(error.to_string()))?;
        let (not_taken, walk) = match found {
            Found::Service(walk) => (None, Some(self.walked(asked, &key, &walk)?)),
            Found::Answer(back) => {
                let of = self.backend_of(back.backend).map(|(name, _)| name.as_str());
                let port = if back.port == 0 { asked.from.port() } else { u16::from_be(back.port) };
                let listener = SocketAddr::new(ip(back.address), port);
                (Some(words::answer(asked.from, of, listener)), None)
            }
            Found::Nobody => (Some(self.why_nobody(to, asked.protocol)), None),
        };
        if let (Some(wanted), None) = (&asked.service, &walk) {
            self.state.get(wanted)?;
        }
        Ok(FlowTrace {
            from: asked.from,
            to,
            protocol: asked.protocol,
            generation: u64::from(self.generation),
            not_taken,
            walk,
        })
    }

    /// Where the flow goes to: as asked, or the only listener of the service.
    fn traced_to(&self, asked: &TraceFlow) -> Result<SocketAddr, Error> {
        let refuse = |message: String| {
            Err(Error::Invalid(vec![Violation { field: "to".to_owned(), message }]))
        };
        let to = match (asked.to, &asked.service) {
            (Some(to), _) => to,
            (None, None) => return refuse("is empty; name it, or the service".to_owned()),
            (None, Some(name)) => {
                let listeners = self.state.get(name)?.service.listeners();
                let mut of = listeners.iter().filter(|one| one.protocol == asked.protocol);
                match (of.next(), of.next()) {
                    (Some(only), None) if only.port != 0 => {
                        SocketAddr::new(only.address, only.port)
                    }
                    _ => {
                        let all = listeners.iter().map(ToString::to_string).collect::<Vec<_>>();
                        let all = all.join(", ");
                        return refuse(format!("is empty; choose of the listeners {all}"));
                    }
                }
            }
        };
        if to.is_ipv4() == asked.from.is_ipv4() {
            return Ok(to);
        }
        refuse(format!("{} and {} are not of one family", asked.from, to))
    }

    fn walked(&self, asked: &TraceFlow, key: &FlowKey, walk: &Walk) -> Result<Walked, Error> {
        let entry = self.traced_service(asked, walk)?;
        let service = &entry.service;
        let steering = walk.steer.map(|slot| {
            let steered = self.steered(entry, key.source, slot);
            if !walk.by_listener {
                return steered;
            }
            SteeredBy { prefix: "every client of this listener".to_owned(), ..steered }
        });
        let way = |decided, opens| self.way(walk, key, decided, opens);
        Ok(Walked {
            service: service.name().clone(),
            listener: words::endpoint(ip(walk.listener.address), walk.listener.port),
            generation: u64::from(walk.record.generation),
            forwarding: service.forwarding().to_string(),
            affinity: service.affinity().to_string(),
            udp: (asked.protocol == Protocol::Udp).then(|| service.udp().to_string()),
            slot: walk.slots.version,
            slots: VERSION_SLOTS,
            hash: walk.slots.backend,
            table: version_slot(walk.table),
            steering,
            version: version_slot(walk.version),
            backend: self.backend_slot(walk.version.cur(), walk.backend),
            base: walk.base.map(|place| self.backend_slot(walk.version.base(), place)),
            remembered: walk.entry.map(|(entry, holds)| self.flow(entry, holds)),
            room: walk.room.map(|room| Room {
                used: room.used,
                capacity: room.capacity,
                refusing: u32::try_from(room.refusing).unwrap_or(u32::MAX),
                processors: u32::try_from(room.processors).unwrap_or(u32::MAX),
            }),
            opens: way(walk.opens, true),
            continues: way(walk.continues, false),
        })
    }

    /// The service that the listener belongs to, which must be the one that was asked for.
    fn traced_service(&self, asked: &TraceFlow, walk: &Walk) -> Result<&Entry, Error> {
        let index = self.plane.listener(&walk.listener);
        let index = index.map_err(|error| Error::DataPlane(error.to_string()))?;
        let mut entries = self.state.services.values();
        let entry = entries.find(|entry| Some(entry.index) == index).ok_or_else(|| {
            Error::DataPlane("a listener in the kernel belongs to no service".to_owned())
        })?;
        let name = entry.service.name();
        match &asked.service {
            Some(wanted) if wanted != name => {
                self.state.get(wanted)?;
                let message = format!("the listener belongs to {name}, not to {wanted}");
                Err(Error::Invalid(vec![Violation { field: "service".to_owned(), message }]))
            }
            _ => Ok(entry),
        }
    }

    fn steered(&self, entry: &Entry, client: Address, slot: SteerSlot) -> SteeredBy {
        let steering = self.plane.steering(entry.index);
        let prefix = steering.find(client).map(|index| steering.entries()[index].prefix);
        SteeredBy {
            prefix: prefix.map(words::prefix).unwrap_or_default(),
            cur: version(slot.cur()),
            base: version(slot.base()),
            tracked: slot.tracked(),
        }
    }

    fn backend_slot(&self, of: u8, place: Place) -> TracedBackendSlot {
        let named = |index| (index != NO_BACKEND).then(|| self.traced_backend(index));
        TracedBackendSlot {
            version: version(of).unwrap_or(Version::Blue),
            slot: place.index,
            slots: place.of,
            cur: named(place.slot.cur()),
            base: named(place.slot.base()),
            tracked: place.slot.tracked(),
        }
    }

    fn flow(&self, entry: FlowEntry, holds: Holds) -> RememberedFlow {
        RememberedFlow {
            backend: self.traced_backend(entry.backend),
            client: seen(entry.client),
            server: seen(entry.server),
            seen_s: clock::seconds().saturating_sub(entry.seen),
            void: words::void(holds),
        }
    }

    /// What becomes of a packet.
    fn way(
        &self,
        walk: &Walk,
        key: &FlowKey,
        decided: Result<Decision, Undecided>,
        opens: bool,
    ) -> Way {
        let goes = decided.ok().map(|decision| {
            let record = self.plane.backend(decision.backend);
            Goes { backend: self.traced_backend(decision.backend), hop: self.hop(record.next_hop) }
        });
        let why = match decided {
            Ok(decision) => words::why(decision.why),
            Err(Undecided::NoBackend) => "drop-no-backend",
            Err(Undecided::NoTable) => "drop-no-table",
        };
        let because = words::because(walk, key.protocol, decided, opens);
        Way { goes, why: why.to_owned(), because }
    }

    fn hop(&self, word: u64) -> Option<Hop> {
        let hop = NextHop(word);
        let link = self.plane.link(hop.link());
        if hop.link() == 0 || link.ifindex == 0 {
            return None;
        }
        let name = nix::net::if_::if_indextoname(link.ifindex).ok();
        let name = name.and_then(|name| name.into_string().ok());
        Some(Hop {
            interface: name.unwrap_or_else(|| link.ifindex.to_string()),
            mac: words::mac(hop.mac()),
        })
    }

    fn traced_backend(&self, index: u16) -> TracedBackend {
        if let Some((_, key)) = self.backend_of(index) {
            let address = SocketAddr::new(key.address, key.port);
            return TracedBackend { version: Some(key.version), address };
        }
        let record = self.plane.backend(index);
        let address = SocketAddr::new(ip(record.address), u16::from_be(record.port));
        TracedBackend { version: None, address }
    }

    /// Whose backend has this index.
    fn backend_of(&self, index: u16) -> Option<(&ServiceName, &Key)> {
        let mut all = self.state.directory.all();
        all.find(|(_, _, place)| place.index == index).map(|(name, key, _)| (name, key))
    }

    /// Why no service takes packets to this endpoint.
    fn why_nobody(&self, to: SocketAddr, protocol: Protocol) -> String {
        let services = || self.state.services.values().map(|entry| &entry.service);
        let there = services().flat_map(|service| {
            let here = service.listeners().iter().filter(|one| one.address == to.ip());
            here.map(move |listener| format!("{listener} ({})", service.name()))
        });
        let there: Vec<String> = there.collect();
        if !there.is_empty() {
            return words::other_port(to, protocol, &there);
        }
        let mut backends = self.state.directory.all();
        if let Some((service, ..)) = backends
            .find(|(_, key, _)| key.address == to.ip() && (key.port == to.port() || key.port == 0))
        {
            return words::to_backend(to, service);
        }
        let mut addresses: Vec<IpAddr> =
            services().flat_map(Service::listeners).map(|listener| listener.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        words::no_address(to.ip(), &addresses)
    }
}

fn version(number: u8) -> Option<Version> {
    debug_assert!(number <= BY_TABLE, "two bits");
    Version::ALL.get(usize::from(number)).copied()
}

fn version_slot(slot: VersionSlot) -> TracedVersionSlot {
    TracedVersionSlot {
        cur: version(slot.cur()).unwrap_or(Version::Blue),
        base: version(slot.base()).unwrap_or(Version::Blue),
        tracked: slot.tracked(),
    }
}

/// What a side has shown, in words.
fn seen(bits: u8) -> Vec<String> {
    let all = [(SEEN_SYN, "syn"), (SEEN_DATA, "data"), (SEEN_FIN, "fin"), (SEEN_RST, "rst")];
    let seen = all.iter().filter(|(bit, _)| bits & bit != 0);
    seen.map(|(_, word)| (*word).to_owned()).collect()
}

/// An address of the program's as the rest of the world has it.
pub(super) fn ip(address: Address) -> IpAddr {
    let mut octets = [0; 16];
    for (four, word) in octets.chunks_exact_mut(4).zip(address.0) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(octets).to_canonical()
}
