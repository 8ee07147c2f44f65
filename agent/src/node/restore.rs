//! From what is stored and what the data plane still holds to a state: how an agent starts. Pure.
//!
//! The stored spec says what shall be; the tables in the kernel, if an earlier agent left them, say
//! which flows are where. So each service is led from its tables to its spec by a transition, which
//! moves nothing where the two agree, and keeps every flow where they do not (a crash between
//! commit and store).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weir_ebpf::abi::{self, NO_BACKEND};

use super::directory::{Key, Place};
use super::error::Error;
use super::state::{Next, State};
use crate::dataplane::DataPlane;
use crate::model::{Service, Version};
use crate::plan::tables::ServiceTables;
use crate::store::{StoredBackend, StoredService};

/// The state that `stored` asks for, with the flows that `plane` still serves.
pub(super) fn restore(
    services: &[Service],
    stored: &[StoredService],
    plane: &impl DataPlane,
    now: u32,
) -> Result<State, Error> {
    let mut next = Next::new(State::default(), now);
    for (service, kept) in services.iter().zip(stored) {
        let name = service.name();
        let tables = plane.tables(kept.index).map_err(|e| Error::DataPlane(e.to_string()))?;
        let directory = Arc::make_mut(&mut next.state.directory);
        for backend in &kept.backends {
            let StoredBackend { index, version, address, port } = *backend;
            directory.adopt(name, Key { version, address, port }, Place { index, drains: true });
        }
        // A commit that was not stored may have brought backends that only the kernel knows.
        for (version, index) in tables.iter().flat_map(named) {
            if !directory.indices().contains(&index) {
                let record = plane.backend(index);
                let (address, port) = (ip(record.address), u16::from_be(record.port));
                directory.adopt(
                    name,
                    Key { version, address, port },
                    Place { index, drains: true },
                );
            }
        }
        next.put_restored(service, kept.index, kept.generation, tables.as_ref())?;
    }
    Ok(next.state)
}

/// The backends that tables name, each with its version.
pub(super) fn named(tables: &ServiceTables) -> Vec<(Version, u16)> {
    let mut named: Vec<(Version, u16)> = Version::ALL
        .into_iter()
        .flat_map(|version| {
            let slots = tables.backends()[version.index()].slots();
            slots.iter().flat_map(move |slot| [(version, slot.cur()), (version, slot.base())])
        })
        .filter(|(_, index)| *index != NO_BACKEND)
        .collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// An address as the kernel's program has it, back as people write it.
fn ip(address: abi::Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (four, word) in bytes.chunks_exact_mut(4).zip(address.0) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    if address.is_v4() {
        let [.., a, b, c, d] = bytes;
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    IpAddr::V6(Ipv6Addr::from(bytes))
}
