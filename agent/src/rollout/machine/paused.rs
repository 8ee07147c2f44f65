//! Holding what there is.

use super::super::judge::Verdict;
use super::super::spec::OnTimeout;
use super::evidence::anew;
use super::turn::Turn;
use super::walk::Applied;
use super::{Cause, Paused, Phase, Position, Stage};

impl Turn<'_> {
    /// Holds what there is.
    pub(super) fn pause(&mut self, at: Position, cause: Cause, reason: String) -> bool {
        self.pause_by(Some(at), cause, reason, None)
    }

    pub(super) fn pause_by(
        &mut self,
        at: Option<Position>,
        cause: Cause,
        reason: String,
        by: Option<&str>,
    ) -> bool {
        let spent_ms = match &self.state.phase {
            Phase::Paused(paused) => paused.spent_ms,
            _ => self.state.clock.spent_ms,
        };
        self.go_by(Phase::Paused(Paused { at, spent_ms, cause }), reason, by)
    }

    /// Goes on where it stopped. What only waited goes on with the time it had; the rest begins anew.
    pub(super) fn resume(&mut self, paused: &Paused, reason: &str, by: Option<&str>) -> bool {
        let Some(at) = paused.at else { return self.go_by(Phase::Preflight, reason, by) };
        let keeps = matches!(paused.cause, Cause::User | Cause::Unreachable);
        let calls = self.state.calls;
        let stage = if keeps { at.stage } else { anew(at.stage) };
        self.go_by(Phase::Progressing(Position { stage, ..at }), reason, by);
        if keeps || at.stage == Stage::Waiting {
            self.state.clock.spent_ms = paused.spent_ms;
        }
        if keeps {
            self.state.calls = calls;
        }
        if self.state.evidence.is_some() && !keeps {
            self.fresh_evidence();
        }
        true
    }

    /// The next move of a rollout that holds.
    pub(super) fn wait(&mut self, paused: &Paused) -> bool {
        if let Some(at) = paused.at
            && !matches!(paused.cause, Cause::User | Cause::Frozen)
            && let Some(Verdict::Fail { reason, .. }) = self.verdict().cloned()
        {
            return self.fail(at, reason, true);
        }
        if let Some(reason) = self.over(paused) {
            return self.resume(paused, reason, None);
        }
        if !self.state.is_late() {
            return false;
        }
        match self.state.rollout.paused.on_timeout {
            OnTimeout::Abort => self.abort("it was paused for too long", None),
            OnTimeout::Proceed => self.resume(paused, "it was paused for long enough", None),
        }
    }

    /// Why what stopped it is over, if it is.
    fn over(&self, paused: &Paused) -> Option<&'static str> {
        let at = paused.at?;
        match paused.cause {
            Cause::Unreachable if self.too_many_away().is_none() => Some("the agents are back"),
            Cause::Unverified => {
                let quorum = self.state.rollout.verify.quorum;
                let applied = self.applied(self.state.wave(at), quorum);
                let differs = self
                    .reachable()
                    .any(|(.., view)| matches!(view.share, super::ShareView::Differs { .. }));
                (matches!(applied, Applied::Yes) && !differs).then_some("it is applied now")
            }
            Cause::Incident => {
                matches!(self.verdict(), Some(Verdict::Pass { .. } | Verdict::Undecided { .. }))
                    .then_some("both versions are well again")
            }
            _ => None,
        }
    }
}
