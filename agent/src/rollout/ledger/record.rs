//! What a store keeps beside a document to number what comes next. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::limits;
use super::{Change, CommandId, Event, Numbered, Revision};

/// A document, and what a store must know to go on from it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The number of the last event.
    pub(super) last_event: u64,
    /// The number of the last revision.
    pub(super) last_revision: u64,
    /// Ids of commands that were answered last, oldest first.
    pub(super) handled: VecDeque<CommandId>,
    /// The state of the rollout.
    pub(super) document: Value,
}

/// What a save adds to the logs.
#[derive(Debug, PartialEq)]
pub(super) struct Added {
    pub(super) events: Vec<Numbered<Event>>,
    pub(super) revision: Option<Numbered<Revision>>,
}

impl Record {
    /// The record after a change, what it adds, and the evidence.
    pub(super) fn after(self, change: Change) -> (Self, Added, Value) {
        let Self { mut last_event, mut last_revision, mut handled, document: _ } = self;
        let Change { document, evidence, events, revision, handled: now } = change;
        let events = events.into_iter().map(|item| {
            last_event += 1;
            Numbered { number: last_event, item }
        });
        let events = events.collect();
        let revision = revision.map(|item| {
            last_revision += 1;
            Numbered { number: last_revision, item }
        });
        for id in now {
            if !handled.contains(&id) {
                handled.push_back(id);
            }
        }
        handled.drain(..handled.len().saturating_sub(limits::HANDLED));
        let record = Self { last_event, last_revision, handled, document };
        (record, Added { events, revision }, evidence)
    }

    /// The number of the oldest event that is kept.
    pub(super) fn first_event(&self) -> u64 {
        first(self.last_event, limits::EVENTS)
    }

    /// The number of the oldest revision that is kept.
    pub(super) fn first_revision(&self) -> u64 {
        first(self.last_revision, limits::REVISIONS)
    }
}

fn first(last: u64, kept: u64) -> u64 {
    last.saturating_sub(kept) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(verb: &str) -> Event {
        let [who, reason, before, after] = ["ann", "", "", ""].map(str::to_owned);
        Event { at_ms: 1, who, verb: verb.to_owned(), reason, before, after }
    }

    fn id(number: usize) -> CommandId {
        CommandId::new(&format!("c{number}")).unwrap_or_else(|wrong| unreachable!("{wrong}"))
    }

    #[test]
    fn numbers_go_on_and_the_oldest_go() {
        let mut record = Record::default();
        assert_eq!((record.first_event(), record.first_revision()), (1, 1));
        let mut last = 0;
        for round in 0..600 {
            let revision = Revision { at_ms: 1, name: "v1".to_owned(), document: Value::Null };
            let change = Change {
                events: vec![event("a"), event("b")],
                revision: (round % 10 == 0).then_some(revision),
                ..Change::default()
            };
            let (next, added, _) = record.after(change);
            for event in added.events {
                assert_eq!(event.number, last + 1);
                last = event.number;
            }
            record = next;
        }
        assert_eq!((last, record.first_event()), (1200, 201));
        assert_eq!((record.last_revision, record.first_revision()), (60, 41));
    }

    #[test]
    fn answered_commands_are_remembered_for_a_while_and_once() {
        let handled = (0..limits::HANDLED + 10).map(id);
        let mut record = Record::default();
        for id in handled {
            let change = Change { handled: vec![id.clone(), id], ..Change::default() };
            record = record.after(change).0;
        }
        assert_eq!(record.handled.len(), limits::HANDLED);
        assert_eq!(record.handled.front(), Some(&id(10)));
    }
}
