//! A trace says what `decide` does, over any tables and entries, and changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::cell::RefCell;
use std::sync::Arc;

use proptest::prelude::*;
use weir_ebpf::abi::{
    Address, Backend, BackendSlot, Endpoint, FlowEntry, FlowKey, GIVEN_UP, Line, Listener,
    NO_BACKEND, SEEN_FIN, Service, SteerSlot, TCP, UDP, UDP_TRACKED, VERSION_LINES, VersionSlot,
};
use weir_ebpf::decide::{Decision, Undecided, decide, decide_stateless, decide_udp, slots};

use super::walk::{Found, walk};
use crate::dataplane::Image;
use crate::dataplane::memory::{FlowTable, Memory, MemoryTables};
use crate::plan::steering::{Entry, Prefix, Steering};
use crate::plan::tables::ServiceTables;

const BACKENDS: u16 = 6;

/// A node with one service, as any bits have it.
#[derive(Debug, Clone)]
struct Case {
    record: Service,
    key: FlowKey,
    versions: Vec<u8>,
    backends: Vec<u32>,
    steer: Option<SteerSlot>,
    given_up: [bool; BACKENDS as usize],
    entry: Option<FlowEntry>,
    room: usize,
    flooded: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let version_slot = (0..3_u8, 0..3_u8, any::<bool>());
    let version_slot = version_slot.prop_map(|(cur, base, t)| VersionSlot::new(cur, base, t).0);
    let index = || prop_oneof![8 => 0..BACKENDS, 1 => Just(NO_BACKEND)];
    let backend_slot = (index(), index(), any::<bool>());
    let backend_slot = backend_slot.prop_map(|(cur, base, t)| BackendSlot::new(cur, base, t).0);
    let steer = (0..4_u8, 0..4_u8, any::<bool>());
    let steer = steer.prop_map(|(cur, base, t)| SteerSlot::new(cur, base, t));
    let entry = (0..BACKENDS + 2, any::<bool>()).prop_map(|(backend, fin)| {
        let client = if fin { SEEN_FIN } else { 0 };
        FlowEntry { backend, client, server: 0, seen: u32::MAX }
    });
    let service = (any::<[u64; 2]>(), 0..3_u8, 0..3_u8);
    let flow = (any::<[u8; 4]>(), any::<u16>(), any::<bool>());
    let tables = (
        prop::collection::vec(version_slot, 64),
        prop::collection::vec(backend_slot, 48),
        prop::option::of(steer),
    );
    let rest = (any::<[bool; 6]>(), prop::option::of(entry), 0..2_usize, any::<bool>());
    (service, flow, tables, rest).prop_map(|(service, flow, tables, rest)| {
        let ((seed, affinity, udp), (source, port, tcp)) = (service, flow);
        let (versions, backends, steer) = tables;
        let (given_up, entry, room, flooded) = rest;
        let key = FlowKey {
            source: Address::from_v4(source),
            destination: Address::from_v4([10, 50, 0, 1]),
            source_port: port,
            destination_port: 80_u16.to_be(),
            protocol: if tcp { TCP } else { UDP },
            pad: [0; 3],
        };
        let record = Service { seed, affinity, udp, udp_idle: 30, ..Service::default() };
        Case { record, key, versions, backends, steer, given_up, entry, room, flooded }
    })
}

/// The slots, again and again until a table is full.
fn tables(case: &Case) -> ServiceTables {
    let words: Vec<u32> =
        case.versions.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
    let version = Line { words: words.try_into().unwrap() };
    let lines: Vec<Vec<Line>> = case
        .backends
        .chunks(16)
        .map(|words| vec![Line { words: words.try_into().unwrap() }; 64])
        .collect();
    let lines: [&[Line]; 3] = [&lines[0], &lines[1], &lines[2]];
    ServiceTables::from_lines(&vec![version; VERSION_LINES as usize], lines).unwrap()
}

fn memory(case: &Case) -> Memory {
    let mut memory = Memory::new(case.room);
    let steering = case.steer.map(|slot| {
        let prefix = Prefix::new(case.key.source, 128);
        Steering::new(vec![Entry { prefix, slot }])
    });
    let image = Image {
        record: case.record,
        tables: Arc::new(tables(case)),
        steering: Arc::new(steering.unwrap_or_default()),
    };
    memory.services.insert(0, (1, image));
    let at = Endpoint {
        address: case.key.destination,
        port: case.key.destination_port,
        protocol: case.key.protocol,
        pad: 0,
    };
    memory.listeners.insert(at, Listener { service: 0 });
    for (index, given_up) in (0..).zip(case.given_up) {
        let flags = if given_up { GIVEN_UP } else { 0 };
        memory.backends.insert(index, Backend { flags, ..Backend::default() });
    }
    for flows in [&memory.flows, &memory.udp_flows] {
        let mut flows = flows.borrow_mut();
        flows.entries.extend(case.entry.map(|entry| (case.key, entry)));
        flows.flooded = case.flooded;
    }
    memory
}

/// What the program's rules give for a packet.
fn decided(case: &Case, memory: &Memory, opens: bool) -> Result<Decision, Undecided> {
    let (_, image) = &memory.services[&0];
    let tracked = case.key.protocol == UDP && case.record.udp == UDP_TRACKED;
    let mut flows = if tracked { &memory.udp_flows } else { &memory.flows }.borrow().clone();
    if tracked {
        // An LRU takes every flow.
        flows = FlowTable { capacity: usize::MAX, flooded: false, ..flows };
    }
    // One that was never written is not given up.
    let lost = |index| case.given_up.get(usize::from(index)) == Some(&true);
    let tables = MemoryTables {
        tables: &image.tables,
        steering: &image.steering,
        flows: &RefCell::new(flows),
        given_up: &lost,
        key: case.key,
    };
    let slots = slots(&case.record, &case.key);
    match case.record.udp {
        _ if case.key.protocol == TCP => decide(&tables, slots, opens),
        UDP_TRACKED => decide_udp(&tables, slots),
        1 => decide_stateless(&tables, slots),
        _ => decide(&tables, slots, opens),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_trace_says_what_the_program_does(case in case()) {
        let memory = memory(&case);
        let before = memory.clone();
        let Found::Service(traced) = walk(&memory, &case.key).unwrap() else {
            panic!("the listener is there");
        };
        prop_assert_eq!(&memory, &before, "a trace has changed something");
        prop_assert_eq!(traced.opens, decided(&case, &memory, true));
        prop_assert_eq!(traced.continues, decided(&case, &memory, false));
    }
}
