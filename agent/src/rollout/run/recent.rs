//! What happened to a rollout last: more than its state tells at once.

use std::collections::VecDeque;

use weir_proto::rollout::v1;

use super::tell;
use crate::rollout::{
    ledger::{Event, Numbered},
    machine::State,
};

/// Events that are remembered.
const KEPT: usize = 20;

/// The newest events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: VecDeque<v1::Event>,
    /// When the rollout began.
    began_ms: Option<i64>,
}

impl Recent {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What a log says of the time before.
    pub(super) fn recall(&mut self, log: &[Numbered<Event>]) {
        for one in log {
            self.add(tell::event(one.number, one.item.clone()));
        }
    }

    /// What a state tells.
    pub(super) fn see(&mut self, state: &State) {
        for event in &state.news {
            let event = tell::of_state(event);
            let known = self.events.iter().rev().any(|one| {
                (one.at_ms, &one.verb, &one.reason) == (event.at_ms, &event.verb, &event.reason)
            });
            if !known {
                self.add(event);
            }
        }
    }

    fn add(&mut self, event: v1::Event) {
        if event.after == tell::BEGIN && event.before != tell::BEGIN {
            self.began_ms = Some(event.at_ms);
        }
        self.events.push_back(event);
        let old = self.events.len().saturating_sub(KEPT);
        self.events.drain(..old);
    }

    /// The events.
    pub(super) fn events(&self) -> Vec<v1::Event> {
        self.events.iter().cloned().collect()
    }

    /// When the rollout began, if that was seen.
    pub(super) fn began_ms(&self) -> Option<i64> {
        self.began_ms
    }
}
