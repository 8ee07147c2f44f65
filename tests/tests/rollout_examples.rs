//! What the documentation shows of rollouts can be run: the examples, in the lab as the guides have it, and
//! every document in a text.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use weir::rollout::spec;
use weir_tests::agent::{binary, socket};
use weir_tests::fleet::Fleet;
use weir_tests::fleet::release::{SERVICE, at, small_lab};
use weir_tests::lab::spec::Protocol;

/// The files with an extension in a directory of the repository.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|one| one == extension)).collect()
}

#[test]
fn the_lab_would_run_each_example() {
    let fleet = Fleet::start(1, small_lab().backends(6), &[]).unwrap();
    fleet.apply(&[fleet.lab().service(SERVICE, at(0), Protocol::Tcp)]).unwrap();
    let examples = files("docs/examples", "yaml");
    assert!(examples.len() >= 3, "{examples:?}");
    for path in examples {
        let weir = |arguments: &[&str]| {
            let mut command = Command::new(binary().unwrap());
            command.arg("--socket").arg(socket(fleet.lab())).arg("rollout").args(arguments);
            command.env("WEIR_COORDINATOR", fleet.directory().join("none.sock"));
            let output = command.arg(&path).stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{arguments:?} {}: {said}", path.display());
            output.stdout
        };
        weir(&["lint"]);
        let plan: Value = serde_json::from_slice(&weir(&["plan", "-o", "json"])).unwrap();
        println!("{}: {plan:#}", path.display());
        assert_eq!(plan["service"], SERVICE);
        assert_eq!(plan["warnings"].as_array().map(Vec::len), Some(0), "{plan:#}");
        assert!(!plan["steps"].as_array().unwrap().is_empty(), "{plan:#}");
    }
}

#[test]
fn every_document_in_a_text_is_one() {
    let mut count = 0;
    for path in files("docs", "md") {
        let text = fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let document = block.split("```").next().unwrap();
            if !document.starts_with("kind: Rollout") {
                continue;
            }
            let problems = spec::parse(document).err().unwrap_or_default();
            assert!(problems.is_empty(), "{}: {problems:?}\n{document}", path.display());
            count += 1;
        }
    }
    assert!(count > 0, "no document was found");
}
