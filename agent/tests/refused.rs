//! Bad spec files: each is refused with exactly the message that `refused.yaml` gives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use serde::Deserialize;
use weir::model::{SpecFile, parse_services};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    put: String,
    with: String,
    says: Vec<String>,
}

/// What `weir apply` says about a file: nothing if it is right.
fn answer(file: &str) -> Vec<String> {
    match SpecFile::parse(file) {
        Err(error) => vec![error.to_string()],
        Ok(spec) => match parse_services(&spec.services, false) {
            Err(violations) => violations.iter().map(ToString::to_string).collect(),
            Ok(_) => Vec::new(),
        },
    }
}

#[test]
fn each_bad_file_is_refused_with_its_message() {
    let table: Table =
        serde_saphyr::from_str(include_str!("refused.yaml")).expect("the table is YAML");
    assert_eq!(answer(&table.file), Vec::<String>::new(), "the file itself is valid");
    assert!(table.cases.len() >= 60, "only {} cases", table.cases.len());

    let mut wrong = Vec::new();
    for case in &table.cases {
        assert_eq!(
            table.file.matches(&case.put).count(),
            1,
            "{}: {:?} stands once",
            case.about,
            case.put
        );
        let says = answer(&table.file.replace(&case.put, &case.with));
        if says != case.says || says.is_empty() {
            wrong.push(format!("{}:\n  wanted {:#?}\n  got {says:#?}", case.about, case.says));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        table.cases.len(),
        wrong.join("\n")
    );
}
