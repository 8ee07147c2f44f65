//! What the judge says, as it is told. Pure.

use weir_proto::rollout::v1;

use super::court::Evidence;
use crate::rollout::judge::{Finding, explain::ExternalFinding};

/// The verdict, with each metric's numbers.
pub(super) fn analysis(evidence: &Evidence) -> v1::Analysis {
    let explanation = evidence.judge.explain();
    let own = explanation.findings.iter().map(metric);
    let others = explanation.external.iter().map(external);
    v1::Analysis {
        verdict: explanation.verdict.name().to_owned(),
        text: explanation.verdict.reason().to_owned(),
        since_ms: i64::try_from(evidence.since.0).unwrap_or(i64::MAX),
        judged_s: explanation.judged_s,
        alpha: explanation.alpha,
        metrics: own.chain(others).collect(),
    }
}

fn metric(finding: &Finding) -> v1::Metric {
    let state = match () {
        () if finding.most_evidence >= finding.bound => "fail",
        () if finding.evidence_for >= finding.bound_for => "pass",
        () if finding.candidate.of == 0 || finding.baseline.of == 0 => "insufficient",
        () => "undecided",
    };
    v1::Metric {
        name: finding.metric.name().to_owned(),
        enforcing: finding.enforcing,
        candidate_n: finding.candidate.of,
        baseline_n: finding.baseline.of,
        candidate_failures: finding.candidate.failed,
        baseline_failures: finding.baseline.failed,
        ratio: finding.ratio,
        low: finding.interval.map(|(low, _)| low),
        high: finding.interval.map(|(_, high)| high),
        evidence: finding.most_evidence,
        bound: finding.bound,
        evidence_for: finding.evidence_for,
        bound_for: finding.bound_for,
        state: state.to_owned(),
        text: finding.reason.clone(),
    }
}

fn external(finding: &ExternalFinding) -> v1::Metric {
    let ExternalFinding { name, tally, failure_limit, count } = finding;
    let (passed, failed, none) = (tally.passed, tally.failed, tally.no_data);
    let state = match () {
        () if failed > *failure_limit => "fail",
        () if passed >= *count => "pass",
        () if passed + failed == 0 => "insufficient",
        () => "undecided",
    };
    v1::Metric {
        name: name.clone(),
        enforcing: true,
        candidate_n: u64::from(passed) + u64::from(failed),
        candidate_failures: failed.into(),
        state: state.to_owned(),
        text: format!(
            "{name}: {passed} good of {count} needed, {failed} bad with {failure_limit} allowed, \
             {none} without an answer"
        ),
        ..v1::Metric::default()
    }
}
