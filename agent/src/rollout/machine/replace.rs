//! The stages of backends that are replaced: out, another in its place, healthy, in again. The same
//! on the way back.

use std::net::SocketAddr;

use super::super::schedule::{Step, min_ready};
use super::super::spec::{Count, InFlightKind, Strategy};
use super::calls::Answer;
use super::turn::Turn;
use super::{BackendView, Phase, Position, Stage};
use crate::model::BackendState;

impl Turn<'_> {
    /// The backends of the step at a place, and whether it brings back.
    fn batch(&self, at: Position) -> (Vec<SocketAddr>, bool) {
        let steps = match self.state.phase {
            Phase::RollingBack(_) => &self.state.back,
            _ => &self.state.steps,
        };
        match steps.get(at.step) {
            Some(Step::Replace { backends, revert }) => (backends.clone(), *revert),
            _ => (Vec::new(), false),
        }
    }

    /// Goes to the next stage, or says that the replacement has failed.
    fn outcome(&mut self, at: Position, next: Result<Stage, String>) -> bool {
        match next {
            Ok(stage) => {
                let (backends, _) = self.batch(at);
                self.stage(at, stage, format!("{}: {}", names(&backends), word(stage)))
            }
            Err(reason) if matches!(self.state.phase, Phase::RollingBack(_)) => {
                self.scar(at, reason)
            }
            Err(reason) => self.fail(at, reason, false),
        }
    }

    /// They get no new connections, and those they have end.
    pub(super) fn empty(&mut self, at: Position) -> bool {
        let (backends, revert) = self.batch(at);
        let spent = self.state.clock.spent_ms;
        let deadline = self.state.rollout.progress_deadline;
        if !self.may_take_out(&backends, revert) {
            self.state.well_ms = None;
            let late = self.spent(deadline);
            let reason =
                format!("{} could not be taken out: too few others are ready", names(&backends));
            return late && self.outcome(at, Err(reason));
        }
        let since = *self.state.well_ms.get_or_insert(spent);
        let given_up = revert && self.state.rollout.rollback_in_flight == InFlightKind::Reset;
        let long = spent.saturating_sub(since) >= self.state.rollout.drain.timeout.millis();
        let out = self.everywhere(&backends, |one| one.state != BackendState::Active);
        let empty = self.everywhere(&backends, |one| one.may_stop);
        if !out && self.state.is_late() {
            let reason = format!("{} could not be taken out", names(&backends));
            return self.outcome(at, Err(reason));
        }
        (out && (empty || long || given_up)) && self.outcome(at, Ok(Stage::Replacing))
    }

    /// Whether so many may be out: with those that are not well, not more than `maxUnavailable`, and
    /// never all. On the way back what is to be replaced serves badly, so only the latter counts.
    pub(super) fn may_take_out(&self, backends: &[SocketAddr], revert: bool) -> bool {
        let Some(roles) = self.roles() else { return false };
        let limit = match &self.state.rollout.strategy {
            Strategy::Rolling(rolling) => rolling.max_unavailable,
            _ => Count::default(),
        };
        self.reachable().all(|(.., view)| {
            let of = |one: &&BackendView| one.version == roles.stable;
            let total = view.backends.iter().filter(of).count();
            let others =
                view.backends.iter().filter(of).filter(|one| !backends.contains(&one.address));
            let (well, ill): (Vec<_>, Vec<_>) = others.partition(|one| serves(one));
            let within = ill.len() + backends.len() <= limit.of(total).max(backends.len());
            !well.is_empty() && (within || revert)
        })
    }

    /// A hook replaces them.
    pub(super) fn replace(&mut self, at: Position) -> bool {
        let (backends, _) = self.batch(at);
        match self.replaced(&backends) {
            Answer::Done => self.outcome(at, Ok(Stage::Readying)),
            Answer::Waiting => false,
            Answer::Failed(reason) => self.outcome(at, Err(reason)),
        }
    }

    /// They are healthy, for `minReadySeconds` without a break.
    pub(super) fn ready(&mut self, at: Position) -> bool {
        let (backends, _) = self.batch(at);
        let spent = self.state.clock.spent_ms;
        if self.everywhere(&backends, |one| one.healthy) {
            let since = *self.state.well_ms.get_or_insert(spent);
            let least = min_ready(&self.state.rollout).millis();
            if spent.saturating_sub(since) >= least {
                return self.outcome(at, Ok(Stage::Applying));
            }
        } else {
            self.state.well_ms = None;
        }
        let reason = format!("{} did not become healthy in time", names(&backends));
        self.state.is_late() && self.outcome(at, Err(reason))
    }

    /// They get connections again.
    pub(super) fn return_backends(&mut self, at: Position) -> bool {
        let (backends, _) = self.batch(at);
        if self.everywhere(&backends, serves) {
            return match self.state.phase {
                Phase::RollingBack(_) => self.next_back(at, "it is back"),
                _ => self.next(at, "replaced"),
            };
        }
        let reason = format!("{} could not be returned", names(&backends));
        self.state.is_late() && self.outcome(at, Err(reason))
    }

    /// Whether something holds for all of some backends on every agent that answers and knows them.
    pub(super) fn everywhere(
        &self,
        backends: &[SocketAddr],
        holds: impl Fn(&BackendView) -> bool,
    ) -> bool {
        let mut views = self.reachable().map(|(.., view)| &view.backends).peekable();
        views.peek().is_some()
            && views.all(|all| all.iter().filter(|one| backends.contains(&one.address)).all(&holds))
    }
}

/// Whether a backend takes new connections.
fn serves(backend: &BackendView) -> bool {
    backend.healthy && backend.state == BackendState::Active
}

fn names(backends: &[SocketAddr]) -> String {
    let names: Vec<String> = backends.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Replacing => "empty, to be replaced",
        Stage::Readying => "replaced, to become healthy",
        _ => "healthy, to be returned",
    }
}
