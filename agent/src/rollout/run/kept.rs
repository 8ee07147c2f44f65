//! The state of a service's rollout, as the store has it and as it is known here.

use std::sync::Arc;

use tokio::time::Instant;

use super::{court::Evidence, tell};
use crate::{
    model::ServiceName,
    rollout::{
        ledger::{
            Change, CommandId, Error, Event, Fence, Revision, StateStore, Version, entry::limits,
        },
        machine::{self, State},
    },
};

/// The most events that wait for the store, and that are saved at a time: the newest.
const MAX_OWED: usize = limits::EVENTS_A_SAVE;
// What one tick tells is saved whole.
const _: () = assert!(machine::MAX_NEWS <= MAX_OWED, "events of a tick would be lost");

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
    /// What the last save was about, if its outcome is not known.
    tried: Option<State>,
    /// What was told by states that could not be saved, oldest first, up to [`MAX_OWED`].
    owed: Vec<machine::Event>,
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
            tried: None,
            owed: Vec::new(),
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
        let state: State = serde_json::from_value(entry.document).map_err(unreadable)?;
        if self.ahead && self.tried.as_ref() == Some(&state) {
            // That was our own save, of which only the answer was lost. What came after it stands.
            self.owed.retain(|event| event.number > state.events);
            (self.version, self.stale) = (Some(entry.version), false);
            return Ok(None);
        }
        // Evidence that cannot be read is gathered again; that is safe, if slower.
        let evidence = serde_json::from_value(entry.evidence).unwrap_or_default();
        (self.version, self.state) = (Some(entry.version), Some(state));
        (self.stale, self.ahead) = (false, false);
        (self.tried, self.owed) = (None, Vec::new());
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
        let change = change((self.state.as_ref(), &self.owed), next, evidence, (who, handled));
        let outcome = match change {
            Ok(change) => self.store.save(fence, &self.service, self.version, change).await,
            Err(error) => Err(error),
        };
        let Some(version) = self.note(outcome) else {
            // It may have been saved all the same, or somebody else has saved.
            (self.stale, self.tried) = (true, Some(next.clone()));
            return false;
        };
        (self.version, self.state) = (Some(version), Some(next.clone()));
        (self.ahead, self.saved) = (false, Instant::now());
        (self.tried, self.owed) = (None, Vec::new());
        true
    }

    /// Takes a state that could not be saved.
    pub(super) fn run_ahead(&mut self, next: State) {
        self.owed.extend(news(self.state.as_ref(), &next).cloned());
        let surplus = self.owed.len().saturating_sub(MAX_OWED);
        self.owed.drain(..surplus);
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
    (before, owed): (Option<&State>, &[machine::Event]),
    next: &State,
    evidence: Option<&Evidence>,
    (who, handled): (&str, Vec<CommandId>),
) -> Result<Change, Error> {
    let unwritable = |what| {
        move |error: serde_json::Error| Error::Unwritable { what, reason: error.to_string() }
    };
    let mut events: Vec<Event> =
        owed.iter().chain(news(before, next)).map(|event| line(event, who)).collect();
    let surplus = events.len().saturating_sub(MAX_OWED);
    events.drain(..surplus);
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
        events,
        revision,
        handled,
    })
}

/// What a state tells that the one before has not told.
fn news<'a>(before: Option<&State>, next: &'a State) -> impl Iterator<Item = &'a machine::Event> {
    let told = before.map_or(0, |state| state.events);
    next.news.iter().filter(move |event| event.number > told)
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
