//! All packet cases hold, and independent eyes find nothing wrong in what goes in and comes out.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashSet;
use std::io::Write as _;

use weir_ebpf::abi::Reason;
use weir_tests::cases::nodes::PLAIN;
use weir_tests::cases::{self, case, goes, pcapng, run, tshark};
use weir_tests::packet::{ACK, ip};

/// As many cases there are at least.
const CASES: usize = 950;

#[test]
fn every_case_holds() {
    let cases = cases::all();
    let reports = run::run(&cases, false).unwrap();
    assert_eq!(reports.len(), cases.len());
    let wrong: Vec<String> =
        reports.iter().filter(|r| !r.is_well()).map(|r| r.complaint(&cases)).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn there_are_enough_and_each_has_its_name() {
    let cases = cases::all();
    assert!(cases.len() >= CASES, "there are {}", cases.len());
    let mut names = HashSet::new();
    for case in &cases {
        assert!(names.insert(&case.name), "{} is there twice", case.name);
    }
}

/// A case that does not hold is told in words: where, which field, which counter.
#[test]
fn what_does_not_hold_is_told() {
    let input = ip("192.0.2.7", "198.51.100.1").tcp(40_000, 80, ACK).payload(4);
    let forgets_the_hop = input.clone().to("10.0.0.1:8080");
    let hop = weir_tests::cases::nodes::AWAY;
    let cases = [
        case("told/hop", &PLAIN, input.clone()).to_backend(
            forgets_the_hop,
            &hop,
            goes("10.0.0.2:8080"),
        ),
        case("told/verdict", &PLAIN, input).drops(Reason::NoRoute),
    ];
    let reports = run::run(&cases, false).unwrap();
    let [hop, verdict] = [&reports[0], &reports[1]].map(|report| report.complaint(&cases));
    for part in [
        "told/hop on node plain, Xdp:",
        "told/hop on node plain, Tc:",
        "packet 1 of 3",
        "ipv4 ttl (byte 22): expected 40, got 3f",
        "ipv4 checksum (byte 24): expected",
        "counter packets_in of 10.0.0.1:8080: expected +0, got +1",
        "counter bytes_in of 10.0.0.2:8080: expected +58, got +0",
    ] {
        assert!(hop.contains(part), "{part:?} is not in:\n{hop}");
    }
    for part in [
        "verdict: expected Drop, got Redirect",
        "ipv4 destination (byte 30): expected c6 33 64 01, got 0a 00 00 01",
        "counter NoRoute at Tc: expected +1, got +0",
    ] {
        assert!(verdict.contains(part), "{part:?} is not in:\n{verdict}");
    }
}

/// tshark finds no malformed packet and no wrong checksum, but in what is wrong on purpose.
#[test]
fn tshark_finds_nothing_wrong() {
    if !tshark::is_there() {
        // Not by `println`, which a test that passes keeps to itself.
        let said = b"\nSKIPPED: there is no tshark; `cargo xtask cases --tshark` installs it\n";
        std::io::stderr().write_all(said).unwrap();
        return;
    }
    let cases = cases::all();
    let reports = run::run(&cases, false).unwrap();
    let found = tshark::look(&pcapng::file(&cases, &reports, None)).unwrap();
    let broken = cases.iter().filter(|case| case.input.broken).count() as u64;
    assert!(found.wrong.is_empty(), "{found}");
    assert!(found.frames > cases.len() as u64, "{found}");
    // It has eyes: most of what is wrong on purpose it notices.
    assert!(found.broken >= broken && found.noticed * 2 > broken, "{found}");
}
