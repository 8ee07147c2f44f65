//! The page of promises names tests that are there.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_a_promise_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let mut named = 0;
    for file in
        page.split('`').filter(|text| Path::new(text).extension().is_some_and(|end| end == "rs"))
    {
        let place =
            if file.contains('/') { root.join(file) } else { root.join("tests/tests").join(file) };
        let text = fs::read_to_string(&place);
        assert!(text.is_ok_and(|text| text.contains("test]\n")), "{}", place.display());
        named += 1;
    }
    let promises = page.lines().filter(|line| line.starts_with("## ")).count();
    let guarded = page.lines().filter(|line| line.contains("*Guarded by*")).count();
    assert_eq!(promises, guarded);
    assert!(named > 15);
}
