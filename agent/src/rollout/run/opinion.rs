//! What the judge says, as it is told. Pure.

use weir_proto::rollout::v1;

use super::court::Evidence;
use crate::rollout::judge::Verdict;

/// The verdict, with each metric's numbers.
pub(super) fn analysis(evidence: &Evidence) -> v1::Analysis {
    let (verdict, text) = match evidence.judge.verdict() {
        Verdict::Undecided { reason } => ("undecided", reason),
        Verdict::Pass { reason } => ("pass", reason),
        Verdict::Fail { reason, .. } => ("fail", reason),
        Verdict::Insufficient { reason } => ("insufficient", reason),
        Verdict::Incident { reason } => ("incident", reason),
        Verdict::BadBackend { reason, .. } => ("bad-backend", reason),
        Verdict::Mismatch { reason } => ("mismatch", reason),
    };
    v1::Analysis {
        verdict: verdict.to_owned(),
        text,
        since_ms: i64::try_from(evidence.since.0).unwrap_or(i64::MAX),
        metrics: Vec::new(),
    }
}
