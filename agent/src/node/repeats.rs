//! Requests that were carried out, by their id, so that repeating one is harmless. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use std::net::SocketAddr;

use super::error::Error;
use super::events::Kind;
use super::messages::{
    Apply, Changed, Commit, Delete, RequestId, RollBack, SetBackend, Shift, Steer,
};
use crate::model::{BackendState, Fence, Service, ServiceName};

/// Ids that are kept. The oldest is forgotten.
const KEPT: usize = 1024;

/// A request that changes something.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) enum Asked<'a> {
    Apply(&'a Apply),
    Shift(&'a Shift),
    Steer(&'a Steer),
    SetBackend(&'a SetBackend),
    RollBack(&'a RollBack),
    Delete(&'a Delete),
}

impl<'a> Asked<'a> {
    /// The kind of event that carrying it out is.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Apply(_) => Kind::Applied,
            Self::Shift(_) => Kind::Shifted,
            Self::Steer(_) => Kind::Steered,
            Self::SetBackend(_) => Kind::BackendSet,
            Self::RollBack(_) => Kind::RolledBack,
            Self::Delete(_) => Kind::Deleted,
        }
    }

    /// The services that it changes.
    pub(super) fn services(self) -> Vec<&'a ServiceName> {
        match self {
            Self::Apply(apply) => apply.services.iter().map(Service::name).collect(),
            Self::Shift(shift) => shift.shifts.iter().map(|one| &one.service).collect(),
            Self::Steer(steer) => vec![&steer.service],
            Self::SetBackend(set) => vec![&set.service],
            Self::RollBack(roll_back) => vec![&roll_back.service],
            Self::Delete(delete) => delete.services.iter().collect(),
        }
    }

    /// Whose change it is.
    pub(super) fn fence(self) -> Option<&'a Fence> {
        match self {
            Self::Apply(apply) => apply.options.fence.as_ref(),
            Self::Shift(shift) => shift.options.fence.as_ref(),
            Self::Steer(steer) => steer.options.fence.as_ref(),
            Self::SetBackend(set) => set.options.fence.as_ref(),
            Self::RollBack(roll_back) => roll_back.options.fence.as_ref(),
            Self::Delete(delete) => delete.fence.as_ref(),
        }
    }

    /// What it is about, where the change does not say it.
    pub(super) fn about(self) -> String {
        let Self::SetBackend(set) = self else { return String::new() };
        let state = match set.state {
            BackendState::Active => "active",
            BackendState::Draining => "draining",
            BackendState::Down => "down",
        };
        format!("{} {state} by hand: ", SocketAddr::new(set.address, set.port))
    }

    /// Tells two requests apart well enough to find a mistake; a request may be megabytes long.
    fn fingerprint(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
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
    answers: HashMap<RequestId, (u64, Answered)>,
    order: VecDeque<RequestId>,
}

impl Repeats {
    /// The answer that this very request got before.
    pub(super) fn find(
        &self,
        id: Option<&RequestId>,
        asked: Asked<'_>,
    ) -> Result<Option<Answered>, Error> {
        match id.and_then(|id| Some((id, self.answers.get(id)?))) {
            None => Ok(None),
            Some((_, (before, answer))) if *before == asked.fingerprint() => {
                Ok(Some(answer.clone()))
            }
            Some((id, _)) => Err(Error::RequestIdReused(id.as_str().to_owned())),
        }
    }

    /// Keeps an answer.
    pub(super) fn keep(&mut self, id: Option<&RequestId>, asked: Asked<'_>, answer: Answered) {
        let Some(id) = id else { return };
        if self.order.len() == KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.answers.insert(id.clone(), (asked.fingerprint(), answer));
    }
}
