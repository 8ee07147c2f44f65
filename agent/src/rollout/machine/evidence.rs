//! What verdicts lead to.

use std::net::SocketAddr;

use super::super::judge::{OnInsufficient, Role, Verdict};
use super::super::schedule::Step;
use super::super::spec::OnFailure;
use super::deadline::MOST_EXTENSIONS;
use super::turn::Turn;
use super::{Cause, EventKind, Phase, Position, Stage};

impl Turn<'_> {
    /// The verdict on the evidence that is being gathered, if there is one.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        let start = self.state.evidence?;
        self.seen.verdict.as_ref().filter(|judged| judged.start == start).map(|it| &it.verdict)
    }

    /// What speaks against going on leads somewhere, whatever is waited for.
    pub(super) fn judged(&mut self, at: Position) -> bool {
        let Some(verdict) = self.verdict().cloned() else { return false };
        let reason = verdict.reason().to_owned();
        match verdict {
            Verdict::Fail { .. } => self.fail(at, reason, true),
            Verdict::Incident { .. } => self.pause(at, Cause::Incident, reason),
            // While that is verified, `verify` says what follows.
            Verdict::Mismatch { .. } if at.stage == Stage::Verifying => false,
            Verdict::Mismatch { .. } => self.pause(at, Cause::Mismatch, reason),
            Verdict::BadBackend { backend, role, .. } => self.eject(at, backend, role, reason),
            Verdict::Undecided { .. } | Verdict::Pass { .. } | Verdict::Insufficient { .. } => {
                false
            }
        }
    }

    /// One backend fails alone: without it, the evidence begins anew. Unless it is the last, or still
    /// speaks against its version although it was taken out.
    fn eject(&mut self, at: Position, backend: SocketAddr, role: Role, reason: String) -> bool {
        let Some(roles) = self.roles() else { return false };
        let rolling = roles.candidate == roles.stable;
        let version = match role {
            Role::Candidate => roles.candidate,
            Role::Baseline => roles.stable,
        };
        let last = self.reachable().any(|(.., view)| view.ready[version] <= 1);
        let stays = rolling || last || self.state.ejected.contains(&backend);
        match role {
            Role::Candidate if stays => self.fail(at, reason, true),
            Role::Baseline if stays => self.pause(at, Cause::Incident, reason),
            _ => {
                let before = self.state.status();
                self.state.ejected.insert(backend);
                let why = format!("without {backend}: {reason}");
                match at.stage {
                    Stage::Analyzing { .. } => self.stage(at, anew(at.stage), why),
                    _ => self.note(why),
                };
                self.tell(EventKind::Ejected, None, before, reason);
                self.fresh_evidence();
                true
            }
        }
    }

    /// Evidence is waited for. Only a pass is a success; no data is neither that nor a failure.
    pub(super) fn analyze(&mut self, step: &Step, at: Position, extended: u32) -> bool {
        let Step::Analysis(analysis) = step else { return false };
        let over = self.spent(analysis.max_duration);
        let verdict = self.verdict().cloned();
        match &verdict {
            Some(Verdict::Pass { early, reason }) => {
                let shown = analysis.advance_early && *early && self.spent(analysis.min_duration);
                return (over || shown) && self.next(at, &reason.clone());
            }
            _ if !self.state.is_late() => return false,
            _ => {}
        }
        let reason = verdict.as_ref().map_or("there is no verdict", Verdict::reason).to_owned();
        // What is undecided has enough data and may yet fail: it is given time, whatever is to be done
        // without data.
        let action = match verdict {
            Some(Verdict::Undecided { .. }) => OnInsufficient::Extend,
            _ => self.state.rollout.analysis.on_insufficient_data,
        };
        match action {
            OnInsufficient::Extend if extended < MOST_EXTENSIONS => {
                self.extend(at, extended, &reason)
            }
            OnInsufficient::Extend | OnInsufficient::Pause => {
                self.pause(at, Cause::Insufficient, reason)
            }
            OnInsufficient::Proceed => self.next(at, &reason),
            OnInsufficient::Abort => self.abort(&reason, None),
        }
    }

    /// As long again, with the evidence so far.
    fn extend(&mut self, at: Position, extended: u32, reason: &str) -> bool {
        let clock = self.state.clock;
        let stage = Stage::Analyzing { extended: extended + 1 };
        self.stage(at, stage, format!("extended: {reason}"));
        self.state.clock = clock;
        true
    }

    /// Something has failed. `skippable`: it could be gone on without it.
    pub(super) fn fail(&mut self, at: Position, reason: String, skippable: bool) -> bool {
        match self.state.rollout.on_failure {
            OnFailure::Rollback => self.abort(&reason, None),
            OnFailure::Notify if skippable => {
                let before = self.state.status();
                self.tell(EventKind::Failure, None, before, &reason);
                self.disregard(at, &reason)
            }
            OnFailure::Freeze | OnFailure::Notify => self.pause(at, Cause::Frozen, reason),
        }
    }

    /// Goes on as if nothing had failed.
    fn disregard(&mut self, at: Position, reason: &str) -> bool {
        let waits = matches!(
            at.stage,
            Stage::Analyzing { .. } | Stage::Before | Stage::After | Stage::Gate
        );
        let held = matches!(self.state.phase, Phase::Paused(_));
        if waits && !held {
            self.next(at, &format!("in spite of: {reason}"));
        } else {
            self.note(format!("in spite of: {reason}"));
        }
        if !self.state.is_at_rest() {
            self.fresh_evidence();
        }
        true
    }
}

/// An analysis begins anew with fresh evidence; what only waits goes on.
pub(super) fn anew(stage: Stage) -> Stage {
    match stage {
        Stage::Analyzing { .. } => Stage::Analyzing { extended: 0 },
        other => other,
    }
}
