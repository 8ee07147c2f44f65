//! Requests that were carried out, by their id, so that repeating one is harmless. Pure.

use std::collections::{HashMap, VecDeque};

use super::error::Error;
use super::messages::{Apply, Changed, Commit, Delete, RequestId, Shift};

/// Ids that are kept. The oldest is forgotten.
const KEPT: usize = 1024;

/// A request that changes something.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Apply(Apply),
    Shift(Shift),
    Delete(Delete),
}

/// What it was answered.
#[derive(Debug, Clone)]
pub(super) enum Answered {
    Changed(Changed),
    Commit(Commit),
}

/// The requests carried out of late.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    answers: HashMap<RequestId, (Asked, Answered)>,
    order: VecDeque<RequestId>,
}

impl Repeats {
    /// The answer that this very request got before.
    pub(super) fn find(
        &self,
        id: Option<&RequestId>,
        asked: &Asked,
    ) -> Result<Option<Answered>, Error> {
        match id.and_then(|id| Some((id, self.answers.get(id)?))) {
            None => Ok(None),
            Some((_, (before, answer))) if before == asked => Ok(Some(answer.clone())),
            Some((id, _)) => Err(Error::RequestIdReused(id.as_str().to_owned())),
        }
    }

    /// Keeps an answer.
    pub(super) fn keep(&mut self, id: Option<&RequestId>, asked: Asked, answer: Answered) {
        let Some(id) = id else { return };
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.answers.insert(id.clone(), (asked, answer));
    }
}
