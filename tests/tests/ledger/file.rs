//! What only files can do to a coordinator.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use weir::rollout::ledger::{Change, Error, StateStore, Version};
use weir_tests::ledger::Place;

use super::world::{World, command, event, says, shop};

fn file(world: &World, name: &str) -> PathBuf {
    let Place::File(directory) = &world.place else { panic!("not of files") };
    directory.join("services/shop").join(name)
}

/// Saves `count` documents, 1 and on, each with an event.
async fn saved(store: &dyn StateStore, fence: weir::rollout::ledger::Fence, count: u64) -> Version {
    let mut version = None;
    for number in 1..=count {
        let change = Change { events: vec![event(&format!("e{number}"))], ..says(json!(number)) };
        version = Some(store.save(fence, &shop(), version, change).await.unwrap());
    }
    version.unwrap()
}

#[tokio::test]
async fn a_torn_state_is_told_and_the_one_before_is_used() {
    let world = World::files();
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let fence = leadership.fence();
    saved(&*store, fence, 3).await;
    let path = file(&world, "state.json");
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let entry = store.load(&shop()).await.unwrap().unwrap();
        assert_eq!(entry.document, json!(2), "{length}");
        let warning = entry.warning.unwrap();
        assert!(warning.contains("state.json was damaged"), "{warning}");
        assert_eq!(fs::read(&path).unwrap().len(), length, "a reader changes nothing");
    }
    // It goes on from there, and the torn one is kept for people to look at.
    let entry = store.load(&shop()).await.unwrap().unwrap();
    let change = Change { events: vec![event("again")], ..says(json!("3b")) };
    store.save(fence, &shop(), Some(entry.version), change).await.unwrap();
    let entry = store.load(&shop()).await.unwrap().unwrap();
    assert_eq!((entry.document, entry.warning), (json!("3b"), None));
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let names: Vec<_> =
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("state.json.corrupt-")), "{names:?}");
}

#[tokio::test]
async fn without_any_good_state_nothing_is_done_and_the_remedy_is_said() {
    let world = World::files();
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let version = saved(&*store, leadership.fence(), 2).await;
    for name in ["state.json", "state.json.prev"] {
        fs::write(file(&world, name), "{}").unwrap();
    }
    let save = store.save(leadership.fence(), &shop(), Some(version), says(json!(3))).await;
    for error in [save.unwrap_err(), store.load(&shop()).await.unwrap_err()] {
        assert!(error.is_outage());
        let said = error.to_string();
        assert!(said.contains("state.json is not a state of weir"), "{said}");
        assert!(said.contains("put a copy of either back, or move both away"), "{said}");
    }
}

/// The log is written after the state; a crash in between, or a torn line, costs nothing.
#[tokio::test]
async fn a_lost_or_torn_end_of_the_log_is_made_up_for() {
    let world = World::files();
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let version = saved(&*store, leadership.fence(), 3).await;
    let path = file(&world, "events-0.log");
    let whole = fs::read(&path).unwrap();
    let second = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0;
    let events = store.events(&shop(), 0).await.unwrap();
    assert_eq!(events.len(), 3);
    for length in [second + 1, second + 9, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(store.events(&shop(), 0).await.unwrap(), events, "{length}");
    }
    fs::write(&path, &whole[..second + 9]).unwrap();
    let change = Change { events: vec![event("e4")], ..says(json!(4)) };
    store.save(leadership.fence(), &shop(), Some(version), change).await.unwrap();
    let now = store.events(&shop(), 0).await.unwrap();
    assert_eq!(now[..3], events);
    assert_eq!((now[3].number, now[3].item.verb.as_str()), (4, "e4"));
    assert!(fs::read(&path).unwrap().starts_with(&whole[..second + 9]), "only ever appended to");
}

#[tokio::test]
async fn a_damaged_command_is_put_aside() {
    let world = World::files();
    let store = world.store("one");
    store.submit(command("c1", 1)).await.unwrap();
    store.submit(command("c2", 2)).await.unwrap();
    let Place::File(directory) = &world.place else { panic!("not of files") };
    let path = directory.join("commands/shop/c1.json");
    fs::write(&path, "{").unwrap();
    assert_eq!(store.commands().await.unwrap(), [command("c2", 2)]);
    assert!(!path.exists() && path.with_extension("damaged").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_an_outage() {
    let world = World::files();
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let version = saved(&*store, leadership.fence(), 1).await;
    // Root may write everywhere; nobody can write a file where a directory is.
    fs::create_dir(file(&world, "state.json.new")).unwrap();
    let error =
        store.save(leadership.fence(), &shop(), Some(version), says(json!(2))).await.unwrap_err();
    assert!(error.is_outage() && error.to_string().contains("state.json.new"), "{error}");
    assert!(matches!(error, Error::File(_)));
    assert_eq!(store.load(&shop()).await.unwrap().unwrap().document, json!(1));
}
