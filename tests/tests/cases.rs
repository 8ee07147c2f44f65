//! All packet cases hold, and independent eyes find nothing wrong in what goes in and comes out.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::HashSet;

use weir_tests::cases::{self, run};

/// As many cases there are at least.
const CASES: usize = 300;

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
