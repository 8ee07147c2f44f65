#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn state(generation: u32) -> Stored {
    Stored { generation, epoch: 1, services: Vec::new() }
}

fn store(directory: &Path) -> Directory {
    Directory::open(directory).unwrap()
}

/// A store in which this state was kept, after others.
fn with(directory: &Path, generation: u32) -> Directory {
    let mut store = store(directory);
    for generation in 1..=generation {
        assert_eq!(store.save(&state(generation)).unwrap(), Kept::Durably);
    }
    store
}

fn loaded(store: &mut Directory) -> (u32, Option<String>) {
    let Loaded { state, warning } = store.load().unwrap();
    (state.unwrap().generation, warning)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(&dir.path().join("deep/state"));
    assert_eq!(store.load().unwrap(), Loaded::default());
    store.save(&state(7)).unwrap();
    assert_eq!(loaded(&mut store), (7, None));
    store.save(&state(8)).unwrap();
    assert_eq!(loaded(&mut store), (8, None));
    // It is JSON for those who look.
    let text = fs::read(store.0.path()).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&file["form"], &file["state"]["generation"]), (&2.into(), &8.into()));
}

#[test]
fn a_damaged_state_is_put_aside_and_the_one_before_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with(dir.path(), 7);
    let whole = fs::read(store.0.path()).unwrap();
    fs::write(store.0.path(), &whole[..whole.len() / 2]).unwrap();
    let (generation, warning) = loaded(&mut store);
    let warning = warning.unwrap();
    assert_eq!(generation, 6);
    assert!(warning.contains("state.json was damaged"), "{warning}");
    let names = names(dir.path());
    let aside = names.iter().find(|name| name.starts_with("state.json.corrupt-20")).unwrap();
    assert!(warning.contains(aside), "{warning}");
    assert_eq!(fs::read(dir.path().join(aside)).unwrap(), whole[..whole.len() / 2]);

    // If the agent is killed before it has kept the state again, the next one finds the same.
    let (generation, warning) = loaded(&mut store);
    assert_eq!(generation, 6);
    assert!(warning.unwrap().contains("there was no"));
    store.save(&state(9)).unwrap();
    assert_eq!(loaded(&mut store), (9, None));
    // The good one was not lost by this.
    fs::write(store.0.path(), "").unwrap();
    assert_eq!(loaded(&mut store).0, 6);
}

#[test]
fn without_any_good_state_nothing_is_touched_and_the_remedy_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with(dir.path(), 1);
    let refused = |store: &mut Directory, also: &str| {
        let before = names(dir.path());
        let said = store.load().unwrap_err().to_string();
        assert!(said.contains("state.json is not a state of weir"), "{said}");
        assert!(said.contains("move both away to start empty"), "{said}");
        assert!(said.contains(also), "{said}");
        assert_eq!(names(dir.path()), before);
    };
    fs::write(store.0.path(), "{ not a state").unwrap();
    refused(&mut store, "state.json.prev to go back to:");
    fs::write(store.0.previous(), "neither").unwrap();
    refused(&mut store, "state.json.prev to go back to (expected");
    fs::remove_file(store.0.path()).unwrap();
    refused(&mut store, "it is not there");
    fs::remove_file(store.0.previous()).unwrap();
    assert_eq!(store.load().unwrap(), Loaded::default());
}

#[test]
fn a_state_of_the_first_form_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let old = r#"{ "form": 1, "generation": 5, "epoch": 1, "services": [] }"#;
    fs::write(store.0.path(), old).unwrap();
    assert_eq!(loaded(&mut store), (5, None));
    store.save(&state(6)).unwrap();
    assert_eq!(loaded(&mut store), (6, None));
    assert_eq!(fs::read_to_string(store.0.previous()).unwrap(), old);
}

/// Falling back behind a newer agent's state would undo what was asked of it.
#[test]
fn a_newer_form_is_refused_though_there_is_an_older_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with(dir.path(), 3);
    fs::write(store.0.path(), seal::sealed(3, b"{ \"what\": \"ever\" }")).unwrap();
    let said = store.load().unwrap_err().to_string();
    assert!(said.contains("has form 3, this agent knows 2"), "{said}");
}

#[test]
fn a_failed_save_keeps_both_states() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with(dir.path(), 7);
    let before = (fs::read(store.0.path()).unwrap(), fs::read(store.0.previous()).unwrap());
    fs::create_dir(dir.path().join("state.json.new")).unwrap();
    assert!(store.save(&state(8)).is_err());
    assert_eq!(loaded(&mut store), (7, None));
    assert_eq!((fs::read(store.0.path()).unwrap(), fs::read(store.0.previous()).unwrap()), before);
}

/// A state with something in it.
fn full() -> Vec<u8> {
    let traffic = Traffic { connections: 70, ..Traffic::default() };
    let counts = StoredCounts { traffic, handshakes: vec![0, 3], handshake_ns: 4_500 };
    let spec = r"{ name: shop, listeners: [{ address: 10.50.0.1, port: 80, protocol: tcp }],
        versions: { blue: { weight: 100%, backends: [{ address: 10.60.0.1, port: 80 }] } } }";
    let file = crate::model::SpecFile::parse(&format!("services: [{spec}]")).unwrap();
    let services = vec![StoredService {
        generation: 3,
        index: 0,
        spec: file.services.into_iter().next().unwrap(),
        backends: Vec::new(),
        settled: None,
        lease: None,
        fence: None,
        guard: None,
        draining: [None; 3],
        retired: [(Version::Blue, counts)].into(),
    }];
    let state = Stored { services, ..state(5) };
    let text = seal::sealed(FORM, &serde_json::to_vec_pretty(&state).unwrap());
    assert_eq!(state_of(&text), Ok(state));
    text
}

/// Every single one, not a sample.
#[test]
fn every_truncation_is_found() {
    let text = full();
    for length in 0..text.len() {
        assert!(matches!(state_of(&text[..length]), Err(Unreadable::Damaged(_))), "{length}");
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let text = full();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(state_of(&flipped), Err(Unreadable::Damaged(_))), "bit {bit}");
    }
}

proptest! {
    /// Bytes written over, cut off, repeated or added: whatever is not the file is damaged, and
    /// the state before is used.
    #[test]
    fn whatever_was_not_written_is_never_read(
        at in any::<proptest::sample::Index>(),
        len in 0_usize..200,
        put in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let text = full();
        let start = at.index(text.len());
        let end = (start + len).min(text.len());
        let mut other = text.clone();
        other.splice(start..end, put);
        prop_assume!(other != text);
        prop_assert!(matches!(state_of(&other), Err(Unreadable::Damaged(_))));

        let dir = tempfile::tempdir().unwrap();
        let mut store = with(dir.path(), 2);
        fs::write(store.0.path(), &other).unwrap();
        let (generation, warning) = loaded(&mut store);
        prop_assert_eq!(generation, 1);
        prop_assert!(warning.is_some());
    }
}
