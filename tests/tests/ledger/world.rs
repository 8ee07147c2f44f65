//! A place for a state, and short words for tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir::model::ServiceName;
use weir::rollout::ledger::{Change, Command, CommandId, Event, StateStore};
use weir_tests::ledger::Place;
use weir_tests::ledger::etcd::Etcd;

/// The lease in the tests; the shortest that etcd grants.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// A place for a state that goes when it is dropped.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) etcd: Option<Etcd>,
    _directory: Option<TempDir>,
}

impl World {
    pub(crate) fn files() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::File(directory.path().join("state"));
        Self { place, etcd: None, _directory: Some(directory) }
    }

    pub(crate) fn etcd() -> Self {
        let etcd = Etcd::start().unwrap();
        let place = Place::Etcd { endpoint: etcd.endpoint(), lease: LEASE };
        Self { place, etcd: Some(etcd), _directory: None }
    }

    pub(crate) fn store(&self, name: &str) -> Arc<dyn StateStore> {
        self.place.open(name).unwrap()
    }
}

/// The program that holds a leadership.
pub(crate) fn holder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_weir-holder"))
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) fn shop() -> ServiceName {
    service("shop")
}

/// A change that says only this.
pub(crate) fn says(document: Value) -> Change {
    Change { document, ..Change::default() }
}

pub(crate) fn event(verb: &str) -> Event {
    let [who, reason, before, after] = ["ann", "because", "a", "b"].map(str::to_owned);
    Event { at_ms: 7, who, verb: verb.to_owned(), reason, before, after }
}

pub(crate) fn id(id: &str) -> CommandId {
    CommandId::new(id).unwrap()
}

pub(crate) fn command(name: &str, at_ms: u64) -> Command {
    let request = json!({ "verb": "add" });
    Command { id: id(name), service: shop(), at_ms, who: "ann".to_owned(), request }
}
