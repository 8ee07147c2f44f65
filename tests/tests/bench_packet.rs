//! The benchmark of packets measures what it says: the harness puts every frame back, the programs to
//! compare with do their work, and weir's is called.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use etherparse::{Ipv4HeaderSlice, Ipv4Slice};
use weir_ebpf::bench::{FRAME_LEN, FRAME_SKIPS};
use weir_tests::bench::packet::flows::{Flows, Headers, Kind, listener_v4};
use weir_tests::bench::packet::harness::{Harness, Reference};
use weir_tests::bench::packet::{self, Plan};

const XDP_TX: u32 = 3;
const PLAIN: Flows = Flows { v6: false, kind: Kind::Established, first: 7, services: 1 };

fn bytes(headers: Headers) -> Vec<u8> {
    headers.into_iter().flat_map(u64::to_ne_bytes).skip(FRAME_SKIPS).collect()
}

fn harness(reference: Reference) -> Harness {
    let mut harness = Harness::load(8).unwrap();
    harness.write(0, PLAIN.headers(8)).unwrap();
    harness.call_reference(reference).unwrap();
    harness
}

#[test]
fn each_run_has_the_next_flow_whole() {
    let flows: Vec<Headers> = PLAIN.headers(8).collect();
    assert_eq!(flows.iter().collect::<BTreeSet<_>>().len(), 8, "flows differ");
    let mut harness = harness(Reference::Nothing);
    for (first, count, packets, last) in [(0, 8, 1, 0), (0, 8, 8, 7), (0, 8, 9, 0), (4, 2, 4, 5)] {
        harness.use_flows(first, count).unwrap();
        let (verdict, frame) = harness.last_of(packets).unwrap();
        assert_eq!((verdict, frame.len()), (XDP_TX, FRAME_LEN));
        let sent = bytes(flows[last]);
        assert_eq!(frame[..sent.len()], sent, "{packets} packets");
    }
}

#[test]
fn the_floor_swaps_addresses() {
    let sent = bytes(PLAIN.headers(1).next().unwrap());
    let mut harness = harness(Reference::Floor);
    harness.use_flows(0, 1).unwrap();
    let (verdict, frame) = harness.last_of(3).unwrap();
    assert_eq!((verdict, frame.len()), (XDP_TX, FRAME_LEN));
    assert_eq!((&frame[..6], &frame[6..12]), (&sent[6..12], &sent[..6]));
    assert_eq!((&frame[26..30], &frame[30..34]), (&sent[30..34], &sent[26..30]));
}

#[test]
fn the_textbook_program_balances_and_wraps() {
    let mut harness = harness(Reference::Textbook);
    let mut backends = BTreeSet::new();
    for (flow, headers) in PLAIN.headers(8).enumerate() {
        let sent = bytes(headers);
        harness.use_flows(flow, 1).unwrap();
        let (verdict, once) = harness.last_of(1).unwrap();
        // The frame goes back to its length in between, or it would be wrapped again and again.
        let (_, frame) = harness.last_of(3).unwrap();
        assert_eq!((verdict, once), (XDP_TX, frame.clone()), "a flow keeps its backend");
        assert_eq!(frame.len(), FRAME_LEN + 20);
        let outer = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
        assert_eq!(outer.header_checksum, outer.calc_header_checksum());
        assert_eq!(Ipv4Addr::from(outer.source), listener_v4(7));
        backends.insert(outer.destination);
        let inner = Ipv4Slice::from_slice(&frame[34..]).unwrap();
        assert_eq!(inner.header().slice(), &sent[14..34]);
    }
    assert!(backends.len() > 1, "{backends:?}");
}

#[test]
fn weir_is_measured_beside_them() {
    let plan = Plan {
        flows: vec![1, 64],
        rounds: 3,
        packets: 20_000,
        quick: false,
        only: vec!["dsr-ipip v4 tcp, 5% moved".to_owned(), "nat v6 udp tracked".to_owned()],
    };
    let report = packet::measure(&plan, &|_| {}).unwrap();
    let names: Vec<&str> = report.rows.iter().map(|row| row.case.as_str()).collect();
    let wanted = ["floor", "textbook", "nat v6 udp tracked", "dsr-ipip v4 tcp, 5% moved"];
    assert_eq!(names, wanted);
    for row in &report.rows {
        assert_eq!(row.cells.iter().map(|cell| cell.flows).collect::<Vec<_>>(), [1, 64]);
        // The floor is so near to nothing that it may seem to be less.
        let is_above = |cell: &packet::report::Cell| cell.nanoseconds.median > 0.0;
        assert!(row.case == "floor" || row.cells.iter().all(is_above), "{row:?}");
    }
    let programs: Vec<&str> = report.programs.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(programs, ["bench_floor", "bench_textbook", "weir_xdp"]);
    assert!(report.to_string().contains("5% moved"));
    assert!(serde_json::to_string(&report).unwrap().contains("\"flows\":64"));
}
