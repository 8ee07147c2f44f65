//! What the log says of changes.

use Version::{Blue, Canary};

use super::*;
use crate::node::clock;
use crate::node::events::{EventQuery, Kind, Recorded};
use crate::node::owner::DEFAULT_IDLE;

impl Node {
    /// The events after one, or all.
    pub(super) fn events(&self, since: u64) -> Vec<Recorded> {
        let query = EventQuery { since, ..EventQuery::default() };
        self.owner.events.look(&query).events.events
    }

    /// Kinds and sentences of the events after one.
    pub(super) fn said(&self, since: u64) -> Vec<(Kind, String)> {
        self.events(since).into_iter().map(|one| (one.event.kind, one.event.text)).collect()
    }
}

#[test]
fn each_change_is_an_event_with_before_and_after() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1]), (Canary, 0, &[3])])]);
    let mut named = shift(&[("shop", Canary, 5)]);
    named.options.request_id = Some(id("release-7"));
    node.owner.shift(&named).unwrap();
    node.owner.shift(&named).unwrap();
    let mut dry = shift(&[("shop", Canary, 50)]);
    dry.options.dry_run = true;
    node.owner.shift(&dry).unwrap();
    node.shift(&[("none", Canary, 50)]).unwrap_err();
    node.apply(&[spec("shop", 1, &[(Blue, 95, &[1, 2]), (Canary, 5, &[3])])]).unwrap();
    node.delete("shop").unwrap();

    let events = node.events(0);
    assert_eq!(events.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(events.iter().all(|one| one.event.service == Some(name("shop"))));
    assert_eq!(events[1].event.request_id, Some(id("release-7")));
    assert_eq!(events[0].event.request_id, None);
    let said = node.said(0);
    let said: Vec<(Kind, &str)> = said.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
    let [created, shifted, (Kind::Applied, applied), deleted] = said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(created, (Kind::Created, "blue 0% → 100% (generation 1)"));
    let text = "blue 100% → 95%, canary 0% → 5% (generation 2)";
    assert_eq!(shifted, (Kind::Shifted, text));
    assert!(applied.ends_with(" backend slots moved within blue (generation 3)"), "{applied}");
    assert_eq!(deleted, (Kind::Deleted, "the service is gone"));
}

#[test]
fn what_the_node_does_by_itself_is_an_event() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1, 2]), (Canary, 0, &[3])])]);
    node.shift(&[("shop", Canary, 50)]).unwrap();
    node.apply(&[spec("shop", 1, &[(Blue, 50, &[1]), (Canary, 50, &[3])])]).unwrap();
    let later = clock::seconds() + DEFAULT_IDLE + 5;
    for round in 0..3 {
        node.owner.round(later + 5 * round).unwrap();
    }
    let kinds: Vec<Kind> = node.said(3).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Settled, Kind::Drained], "once each");
    assert!(node.said(4)[0].1.starts_with("blue 10.60.0.2:80: "), "{:?}", node.said(4));

    let again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    let text = "services: 1 applied as stored, 0 found in the data plane";
    assert_eq!(again.said(0), [(Kind::Restored, text.to_owned())]);
}

#[test]
fn a_store_that_fails_is_an_event() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1]), (Canary, 0, &[3])])]);
    node.store.fail_next(|| ());
    node.shift(&[("shop", Canary, 5)]).unwrap_err();
    let said = node.said(1);
    let [(Kind::StoreFailed, text)] = &said[..] else { panic!("{said:?}") };
    assert!(text.contains("the disk is full") && text.ends_with("nothing was changed"), "{text}");
}
