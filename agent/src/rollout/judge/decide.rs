//! From evidence to a verdict.
//!
//! What makes comparing meaningless comes first, then what speaks against the candidate, then what
//! speaks for waiting; a pass is what is left.

use super::Metric;
use super::explain::{Finding, as_factor, seconds, whole};
use super::guards::backend::Bad;
use super::series::Series;
use super::state::Judge;
use super::verdict::{Role, Verdict};

/// With so much evidence against a metric nothing passes, though nothing fails yet.
const SUSPICIOUS: f64 = 3.0;

impl Judge {
    /// What the evidence says.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.mismatch()
            .or_else(|| self.worse())
            .or_else(|| self.failed_elsewhere())
            .or_else(|| self.bad_baseline())
            .or_else(|| self.incident())
            .unwrap_or_else(|| self.pass_or_wait())
    }

    fn mismatch(&self) -> Option<Verdict> {
        let found = self.shares.mismatch()?;
        let reason = format!(
            "on {} the candidate gets {} of {} new connections, asked {}: they are not shared as the \
             table says, so they cannot be compared",
            found.agent,
            percent(found.observed),
            found.connections,
            percent(found.asked),
        );
        let (asked, observed, connections) = (found.asked, found.observed, found.connections);
        Some(Verdict::Mismatch { agent: found.agent, asked, observed, connections, reason })
    }

    /// The enforcing metric whose evidence has reached the bound: by the version, or by one backend.
    fn worse(&self) -> Option<Verdict> {
        let bound = self.config.bound().ln();
        let worst = self.strongest().filter(|one| one.most_log_worse() >= bound)?;
        if matches!(worst.metric(), Metric::ConnectSuccess | Metric::EarlyReset)
            && let Some(bad) = self.backends[0].bad()
        {
            return Some(bad_backend(bad, Role::Candidate));
        }
        let finding = Finding::new(worst, &self.config);
        let reason = finding.reason.clone();
        let metric = worst.metric().to_string();
        Some(Verdict::Fail { metric, finding: Some(Box::new(finding)), reason })
    }

    /// The enforcing metric with the most evidence against the candidate.
    #[must_use]
    pub fn strongest(&self) -> Option<&Series> {
        let of = |one: &&Series| one.most_log_worse();
        self.enforcing().max_by(|one, other| of(one).total_cmp(&of(other)))
    }

    fn enforcing(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|one| one.is_enforcing())
    }

    fn failed_elsewhere(&self) -> Option<Verdict> {
        let failed = |rule: &&super::External| {
            self.external.get(&rule.name).is_some_and(|tally| tally.fails(rule))
        };
        let rule = self.config.external.iter().find(failed)?;
        let failures = self.external.get(&rule.name).map_or(0, |tally| tally.failed);
        let reason = format!(
            "{}: {failures} measurements failed, {} are borne",
            rule.name, rule.failure_limit
        );
        Some(Verdict::Fail { metric: rule.name.clone(), finding: None, reason })
    }

    fn bad_baseline(&self) -> Option<Verdict> {
        Some(bad_backend(self.backends[1].very_bad()?, Role::Baseline))
    }

    fn incident(&self) -> Option<Verdict> {
        let found = self.weather.incident()?;
        let reason = format!(
            "both versions fail: the baseline {} of its connections, before {}; the candidate {}",
            percent(found.baseline),
            percent(found.before),
            percent(found.candidate),
        );
        let (candidate, baseline, before) = (found.candidate, found.baseline, found.before);
        Some(Verdict::Incident { candidate, baseline, before, reason })
    }

    /// Nothing speaks for stopping.
    fn pass_or_wait(&self) -> Verdict {
        let shortage = self.shortage();
        let suspect =
            self.enforcing().find(|one| one.log_worse() >= SUSPICIOUS.ln()).map(Series::metric);
        if self.config.advance_early && shortage.is_none() && suspect.is_none() && self.is_shown() {
            let judged = seconds(self.judged);
            let reason =
                format!("each metric was shown to be within what is borne, after {judged}");
            return Verdict::Pass { early: true, reason };
        }
        if self.judged < self.config.min_duration {
            return self.undecided(format!(
                "judged for {} of at least {}",
                seconds(self.judged),
                seconds(self.config.min_duration)
            ));
        }
        if let Some(shortage) = shortage {
            return shortage;
        }
        if suspect.is_some() {
            return self.undecided(
                "something speaks against the candidate, but not enough to fail it".to_owned(),
            );
        }
        let judged = seconds(self.judged);
        let reason = format!("nothing speaks against the candidate, after {judged}");
        Verdict::Pass { early: false, reason }
    }

    /// Whether each enforcing metric was shown to be within what is borne. Each has all of `alpha`: a
    /// candidate passes wrongly only if its bad metric does.
    fn is_shown(&self) -> bool {
        let bound = -self.config.alpha.ln();
        self.enforcing().count() > 0 && self.enforcing().all(|one| one.log_better() >= bound)
    }

    /// What there is too little of.
    fn shortage(&self) -> Option<Verdict> {
        let least = self.config.min_samples.max(1);
        for one in self.enforcing() {
            let samples = whole(one.samples());
            if samples < least {
                let metric = one.metric().to_string();
                let about = Finding::new(one, &self.config).reason;
                let reason = format!("{samples} samples of {metric}, {least} are needed; {about}");
                return Some(Verdict::Insufficient { metric, samples, needed: least, reason });
            }
        }
        for rule in &self.config.external {
            let tally = self.external.get(&rule.name).copied().unwrap_or_default();
            if !tally.is_enough(rule) {
                let (samples, needed) = (tally.passed.into(), rule.count.into());
                let reason = format!(
                    "{}: {samples} measurements succeeded, {needed} are needed; {} had no data",
                    rule.name, tally.no_data
                );
                let metric = rule.name.clone();
                return Some(Verdict::Insufficient { metric, samples, needed, reason });
            }
        }
        None
    }

    fn undecided(&self, why: String) -> Verdict {
        let strongest = self.strongest();
        let reason = match strongest {
            Some(one) => {
                let now = one.most_log_worse() / std::f64::consts::LN_10;
                let bound = as_factor(self.config.bound().log10());
                format!(
                    "{why}; the most evidence is {} of {bound} ({})",
                    as_factor(now),
                    one.metric()
                )
            }
            None => why,
        };
        Verdict::Undecided { metric: strongest.map(|one| one.metric().to_string()), reason }
    }
}

fn bad_backend(bad: Bad, role: Role) -> Verdict {
    let (failures, of) = (whole(bad.failures), whole(bad.of));
    let reason = format!(
        "{failures} of the {of} failures of the {} are those of {}, in {} connections",
        role.name(),
        bad.backend,
        whole(bad.connections),
    );
    Verdict::BadBackend { backend: bad.backend, role, failures, of, reason }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}
