//! `--verify`: after a change of weights, waits until new connections are shared as the table says.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use clap::Args;
use serde::{Serialize, Serializer};
use tokio::time::sleep;

use super::{
    change,
    fail::Failure,
    figures::{count, observed, short_time, table_share},
    output::{Output, print},
};
use crate::{
    client::Client,
    model::{Agreement, SampleRatio, ServiceName, Version},
    node::messages::{Change, Changed, ServiceStatus, VersionStatus},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// After so long a terminal is told what is waited for.
const QUIET: Duration = Duration::from_secs(1);
/// The most that is waited.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// Whether to wait for what was asked.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Wait until new connections are shared as the table says, for so long at most (10s if nothing
    /// is said), and say how long it took. Exit codes 5 and 6 say that they are not, or that too few
    /// came to tell; the change holds all the same.
    #[arg(
        long,
        value_name = "TIMEOUT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10s",
        value_parser = timeout,
        conflicts_with = "dry_run",
    )]
    verify: Option<Duration>,
}

/// `500ms`, `10s`, `5m`
fn timeout(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a time; write it as 500ms, 10s or 5m"))?;
    if time.is_zero() || time > LONGEST {
        return Err(format!("{text} is not within 1ms and 24h"));
    }
    Ok(time)
}

/// What became of a change of one service's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// New connections are shared as the table says, and the table is what was asked for.
    Agrees,
    /// They are not.
    Differs,
    /// The table is not what was asked for: others stand in for backends that are not ready.
    OtherTable,
    /// The weights are no longer those of the change.
    Overtaken,
    /// Too few came in time to tell.
    TooFew,
    /// Their number says nothing about shares.
    NotJudged,
}

impl Outcome {
    /// What a look at the service says of the change. [`Outcome::TooFew`] may become another.
    fn of(change: &Change, status: &ServiceStatus) -> Self {
        let asked = |version| status.versions[version].asked == change.versions[version].asked;
        if !Version::ALL.into_iter().all(asked) {
            return Self::Overtaken;
        }
        let exact = |version| {
            let row = &status.versions[version];
            let slots = f64::from(row.asked.bp()) * f64::from(row.table.total) / 10_000.0;
            (f64::from(row.table.slots) - slots).abs() < 1.0
        };
        if !Version::ALL.into_iter().all(exact) {
            return Self::OtherTable;
        }
        match status.sample_ratio.agreement {
            Agreement::Agrees => Self::Agrees,
            Agreement::Differs => Self::Differs,
            Agreement::TooFew => Self::TooFew,
            Agreement::NotJudged => Self::NotJudged,
        }
    }
}

/// What `--verify` has found of one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Verified {
    service: ServiceName,
    outcome: Outcome,
    /// From the answer to the change.
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    took: Duration,
    sample_ratio: SampleRatio,
    /// By version: table and observed share, for people.
    #[serde(skip)]
    shares: String,
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The answer to a change, with what became of it.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    changed: &'a Changed,
    verified: &'a [Verified],
}

impl VerifyArgs {
    /// Prints the answer to a change, and does what was asked for here.
    pub(super) async fn finish(
        &self,
        client: &mut Client,
        changed: &Changed,
        output: Output,
    ) -> Result<(), Failure> {
        let Some(limit) = self.verify else { return output.answer(changed, change::render) };
        if output.is_table() {
            output.answer(changed, change::render)?;
        }
        let verified = watch(client, changed, limit).await.map_err(committed)?;
        if output.is_table() {
            let good = verified.iter().filter(|one| one.outcome == Outcome::Agrees);
            print(&good.map(|one| sentence(one) + "\n").collect::<String>())?;
        } else {
            output.answer(&Answer { changed, verified: &verified }, |_, _| String::new())?;
        }
        verdict(&verified)
    }
}

/// The failure that tells of those that do not agree.
fn verdict(verified: &[Verified]) -> Result<(), Failure> {
    let bad: Vec<&Verified> =
        verified.iter().filter(|one| one.outcome != Outcome::Agrees).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let text = bad.iter().map(|one| sentence(one)).collect::<Vec<_>>().join("\n");
    let untold = |one: &&Verified| matches!(one.outcome, Outcome::TooFew | Outcome::NotJudged);
    if bad.iter().all(untold) { Err(Failure::Untold(text)) } else { Err(Failure::Differs(text)) }
}

/// A failure after the change: it must not read as if nothing had happened.
fn committed(failure: Failure) -> Failure {
    let text = |message| format!("the change is committed, but was not verified: {message}");
    match failure {
        Failure::Failed(message) | Failure::Usage(message) | Failure::Refused(message) => {
            Failure::Failed(text(message))
        }
        Failure::NoAgent(message) => Failure::NoAgent(text(message)),
        other => other,
    }
}

/// Looks until each service has an outcome, or the time is over.
async fn watch(
    client: &mut Client,
    changed: &Changed,
    limit: Duration,
) -> Result<Vec<Verified>, Failure> {
    let began = Instant::now();
    let mut progress = Progress::new();
    let mut verified: Vec<Verified> = Vec::new();
    for change in &changed.changes {
        loop {
            let status = client.get(&change.service).await?;
            let (outcome, took) = (Outcome::of(change, &status), began.elapsed());
            if outcome != Outcome::TooFew || took >= limit {
                let (service, sample_ratio) = (change.service.clone(), status.sample_ratio);
                let shares = shares(&status);
                verified.push(Verified { service, outcome, took, sample_ratio, shares });
                break;
            }
            progress.show(&change.service, &status.sample_ratio, (took, limit));
            sleep(LOOK.min(limit.saturating_sub(took))).await;
        }
    }
    progress.clear();
    Ok(verified)
}

/// A line on a terminal that says what is waited for, and goes again.
struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: false }
    }

    fn show(
        &mut self,
        service: &ServiceName,
        ratio: &SampleRatio,
        (took, limit): (Duration, Duration),
    ) {
        if !self.terminal || took < QUIET {
            return;
        }
        self.shown = true;
        let (seen, needed) = (count(ratio.connections), count(ratio.needed));
        let (took, limit) = (took.as_secs(), limit.as_secs_f64());
        // A terminal that is gone is no reason to end.
        let _ = write!(
            io::stderr(),
            "\r{service}: {seen} of {needed} new connections, {took} s of {limit} s\x1b[K"
        );
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// `blue 94.93% of 95.00%, canary 5.07% of 5.00%`
fn shares(status: &ServiceStatus) -> String {
    let used = status.versions.iter().filter(|(_, row)| {
        row.asked.bp() > 0 || row.table.slots > 0 || row.observed.connections > 0
    });
    let one = |(version, row): (Version, &VersionStatus)| {
        format!("{version} {} of {}", observed(row.observed), table_share(row.table))
    };
    used.map(one).collect::<Vec<_>>().join(", ")
}

/// What became of it, in one line.
fn sentence(one: &Verified) -> String {
    let Verified { service, outcome, took, sample_ratio, shares } = one;
    let (seen, took) = (count(sample_ratio.connections), short_time(*took));
    match outcome {
        Outcome::Agrees => {
            format!("{service}: verified in {took}: {seen} new connections, {shares}")
        }
        Outcome::Differs => format!(
            "{service}: committed, but new connections are not shared as the table says: {shares} (observed \
             of table; {seen} connections in {took}, evidence 1 : 10^{:.1}); is the flow table full? See \
             `weir counters {service} --all`",
            sample_ratio.evidence
        ),
        Outcome::OtherTable => format!(
            "{service}: committed, but the table is not what was asked for: other versions stand in where \
             backends are not ready; see `weir get {service}`"
        ),
        Outcome::Overtaken => {
            format!("{service}: committed, but its weights have been changed again since")
        }
        Outcome::TooFew => format!(
            "{service}: committed, but {seen} new connections in {took} are too few to tell; it takes {}",
            count(sample_ratio.needed)
        ),
        Outcome::NotJudged => format!(
            "{service}: committed; the number of its connections says nothing about shares (affinity, QUIC, or \
             steering without signals), so that nothing can verify it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read() {
        assert_eq!(timeout("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(timeout("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "10", "0s", "25h", "-1s"] {
            assert!(timeout(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_disagreement_weighs_more_than_too_few() {
        let of = |outcome| Verified {
            service: ServiceName::new("shop").unwrap_or_else(|_| unreachable!()),
            outcome,
            took: Duration::from_millis(300),
            sample_ratio: SampleRatio { connections: 12, needed: 800, ..SampleRatio::default() },
            shares: String::new(),
        };
        assert!(verdict(&[of(Outcome::Agrees)]).is_ok());
        let few = verdict(&[of(Outcome::Agrees), of(Outcome::TooFew)]);
        assert!(
            matches!(&few, Err(Failure::Untold(text)) if text.contains("it takes 800")),
            "{few:?}"
        );
        let both = verdict(&[of(Outcome::TooFew), of(Outcome::Differs)]);
        assert!(matches!(both, Err(Failure::Differs(_))), "{both:?}");
        assert!(matches!(verdict(&[of(Outcome::Overtaken)]), Err(Failure::Differs(_))));
    }
}
