//! The state of a service's rollout, as the store has it and as it is known here.

use std::sync::Arc;

use tokio::time::Instant;

use super::{court::Evidence, tell};
use crate::{
    model::ServiceName,
    rollout::{
        ledger::{Change, CommandId, Error, Event, Fence, Revision, StateStore, Version},
        machine::{self, State},
    },
};

/// The state, and what the store is known to have.
#[derive(Debug)]
pub(super) struct Kept {
    store: Arc<dyn StateStore>,
    service: ServiceName,
    /// What was loaded or saved last.
    version: Option<Version>,
    /// Nothing: there was no rollout yet.
    pub(super) state: Option<State>,
    /// The store may have something else: load before the next save.
    pub(super) stale: bool,
    /// The state is ahead of the store.
    pub(super) ahead: bool,
    /// Why the store could not be asked last time; nothing: it could.
    pub(super) failing: Option<String>,
    /// The last save.
    pub(super) saved: Instant,
}

impl Kept {
    /// Nothing is known yet.
    pub(super) fn new(store: Arc<dyn StateStore>, service: ServiceName) -> Self {
        Self {
            store,
            service,
            version: None,
            state: None,
            stale: true,
            ahead: false,
            failing: None,
            saved: Instant::now(),
        }
    }

    /// Loads what the store has, if that is something else; gives the evidence with it.
    pub(super) async fn refresh(&mut self) -> Option<Option<Evidence>> {
        let outcome = self.load().await;
        self.note(outcome).flatten()
    }

    async fn load(&mut self) -> Result<Option<Option<Evidence>>, Error> {
        let version = self.store.version(&self.service).await?;
        if version == self.version {
            self.stale = false;
            return Ok(None);
        }
        let Some(entry) = self.store.load(&self.service).await? else { return Ok(None) };
        if let Some(warning) = &entry.warning {
            tracing::warn!(service = %self.service, warning, "loaded");
        }
        let unreadable = |error: serde_json::Error| Error::Damaged {
            at: format!("the entry of {}", self.service),
            reason: error.to_string(),
        };
        let state = serde_json::from_value(entry.document).map_err(unreadable)?;
        // Evidence that cannot be read is gathered again; that is safe, if slower.
        let evidence = serde_json::from_value(entry.evidence).unwrap_or_default();
        (self.version, self.state) = (Some(entry.version), Some(state));
        (self.stale, self.ahead) = (false, false);
        Ok(Some(evidence))
    }

    /// Saves the next state with its evidence, news, and the commands that it answers; then that is
    /// the state. Says whether it was saved.
    pub(super) async fn save(
        &mut self,
        fence: Fence,
        next: &State,
        evidence: Option<&Evidence>,
        (who, handled): (&str, Vec<CommandId>),
    ) -> bool {
        let change = change(self.state.as_ref(), next, evidence, (who, handled));
        let outcome = match change {
            Ok(change) => self.store.save(fence, &self.service, self.version, change).await,
            Err(error) => Err(error),
        };
        let Some(version) = self.note(outcome) else {
            // It may have been saved all the same, or somebody else has saved.
            self.stale = true;
            return false;
        };
        (self.version, self.state) = (Some(version), Some(next.clone()));
        (self.ahead, self.saved) = (false, Instant::now());
        true
    }

    /// Takes a state that could not be saved.
    pub(super) fn run_ahead(&mut self, next: State) {
        (self.state, self.ahead) = (Some(next), true);
    }

    /// Notes whether the store works.
    fn note<T>(&mut self, outcome: Result<T, Error>) -> Option<T> {
        match outcome {
            Ok(good) => {
                self.failing = None;
                Some(good)
            }
            Err(error) => {
                let text = error.to_string();
                if self.failing.as_ref() != Some(&text) {
                    tracing::warn!(service = %self.service, error = text, "the state store");
                }
                self.failing = Some(text);
                None
            }
        }
    }
}

/// What is to be saved.
fn change(
    before: Option<&State>,
    next: &State,
    evidence: Option<&Evidence>,
    (who, handled): (&str, Vec<CommandId>),
) -> Result<Change, Error> {
    let unwritable = |what| {
        move |error: serde_json::Error| Error::Unwritable { what, reason: error.to_string() }
    };
    let told = before.map_or(0, |state| state.events);
    let news = next.news.iter().filter(|event| event.number > told);
    let over = next.is_at_rest() && before.is_none_or(|state| !state.is_at_rest());
    let revision = over.then(|| Revision {
        at_ms: next.since.0,
        name: next.rollout.revision.clone(),
        document: serde_json::json!({
            "phase": tell::word(next.status()),
            "reason": next.reason,
            "strategy": next.rollout.strategy.name(),
        }),
    });
    Ok(Change {
        document: serde_json::to_value(next).map_err(unwritable("the state"))?,
        evidence: serde_json::to_value(evidence).map_err(unwritable("the evidence"))?,
        events: news.map(|event| line(event, who)).collect(),
        revision,
        handled,
    })
}

/// An event as a line of the log.
fn line(event: &machine::Event, who: &str) -> Event {
    Event {
        at_ms: event.at.0,
        who: event.by.clone().unwrap_or_else(|| who.to_owned()),
        verb: tell::kind(event.kind).to_owned(),
        reason: event.reason.clone(),
        before: tell::word(event.before).to_owned(),
        after: tell::word(event.after).to_owned(),
    }
}
