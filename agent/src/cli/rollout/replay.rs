//! `weir rollout replay`

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::lint;
use crate::{
    cli::{
        fail::Failure,
        output::Output,
        table::{
            Side::{Left, Right},
            Table, dim, text, warning,
        },
    },
    model::{Handshakes, PerVersion, ServiceName, TableShare, Traffic, Version},
    rollout::judge::{Arm, BackendArm, Config, Explanation, Judge, Tick, Verdict},
};

/// The longest line, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// Judge recorded counters again: at each moment the verdict, and at the end why. Asks nobody.
#[derive(Debug, Args)]
#[command(after_help = "\
Records are lines of JSON: of `weir counters SERVICE --watch -o json`, on one agent, or of
`weir coordinator --record FILE`.

Examples:
  weir counters shop --watch -o json > shop.jsonl
  weir rollout replay shop.jsonl --candidate canary --stable blue
  weir rollout replay shop.jsonl --rollout shop.yaml -o json")]
pub(super) struct Replay {
    /// The records; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The service, if the records are of several.
    #[arg(long, value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// The version that is judged.
    #[arg(long, default_value = "canary", value_name = "VERSION")]
    candidate: Version,
    /// The version that it is compared with.
    #[arg(long, default_value = "blue", value_name = "VERSION")]
    stable: Version,
    /// Judge as strictly as this rollout does.
    #[arg(long, value_name = "FILE")]
    rollout: Option<PathBuf>,
}

/// What a replay has found.
#[derive(Debug, Serialize)]
struct Replayed {
    /// Lines that were judged.
    ticks: u64,
    /// Each change of the verdict, at so many seconds of judged time.
    verdicts: Vec<Moment>,
    /// Why it is what it is at the end.
    explanation: Explanation,
}

/// A verdict, and when it came.
#[derive(Debug, Serialize)]
struct Moment {
    at_s: u64,
    verdict: Verdict,
}

impl Replay {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let config = match &self.rollout {
            Some(file) => lint::parse(file, &lint::read(file)?)?.analysis,
            None => Config::default(),
        };
        // Records of counters do not hold the tables.
        let mut judge = Judge::new(Config { sample_ratio: false, ..config });
        let (mut reader, mut earlier) = (Lines::open(&self.file)?, None);
        let mut replayed = Vec::new();
        let mut ticks = 0;
        while let Some((number, line)) = reader.next()? {
            let wrong = |error: String| {
                Failure::Refused(format!("{}, line {number}: {error}", self.file.display()))
            };
            let record: Record =
                serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
            let found = match record {
                Record::Ticks { service, ticks } if self.wants(&service) => ticks,
                Record::Ticks { .. } => Vec::new(),
                Record::Sample(sample) => {
                    let tick = self.tick(&sample, earlier).map_err(wrong)?;
                    earlier = Some(sample.time);
                    tick.into_iter().collect()
                }
            };
            if found.is_empty() {
                continue;
            }
            ticks += 1;
            judge.observe(&found);
            let verdict = judge.verdict();
            let last = replayed.last().map(|one: &Moment| one.verdict.name());
            if last != Some(verdict.name()) {
                replayed.push(Moment { at_s: judge.judged().as_secs(), verdict });
            }
        }
        if ticks == 0 {
            return Err(Failure::Refused(format!(
                "{}: nothing to judge; two lines of counters make one tick",
                self.file.display()
            )));
        }
        let explanation = judge.explain();
        output.answer(&Replayed { ticks, verdicts: replayed, explanation }, render)
    }

    fn wants(&self, service: &str) -> bool {
        self.service.as_ref().is_none_or(|wanted| wanted.as_str() == service)
    }

    /// What a sample of counters says since the one before it.
    fn tick(&self, sample: &Sample, earlier: Option<SystemTime>) -> Result<Option<Tick>, String> {
        let (Some(earlier), Some(interval)) = (earlier, &sample.interval) else { return Ok(None) };
        let length = sample.time.duration_since(earlier).unwrap_or_default();
        if interval.gap || length.is_zero() {
            return Ok(None);
        }
        let mut wanted = interval.services.iter().filter(|one| self.wants(&one.service));
        let Some(service) = wanted.next() else { return Ok(None) };
        if wanted.next().is_some() {
            return Err("holds several services; name one with --service".to_owned());
        }
        let (candidate, baseline) =
            (service.versions[self.candidate].arm(), service.versions[self.stable].arm());
        Ok(Some(Tick { agent: "record".to_owned(), length, candidate, baseline }))
    }
}

/// Lines of a file, each with its number, and of a bounded length.
struct Lines {
    reader: Box<dyn BufRead>,
    file: PathBuf,
    number: u64,
}

impl Lines {
    fn open(file: &Path) -> Result<Self, Failure> {
        let reader: Box<dyn BufRead> = if file == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let open = File::open(file);
            Box::new(BufReader::new(open.map_err(|error| Self::failed(file, &error))?))
        };
        Ok(Self { reader, file: file.to_owned(), number: 0 })
    }

    fn failed(file: &Path, error: &io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}", file.display()))
    }

    /// The next line that is not empty.
    fn next(&mut self) -> Result<Option<(u64, String)>, Failure> {
        loop {
            let mut line = String::new();
            let mut bounded = io::Read::take(&mut self.reader, MAX_LINE);
            let read = bounded.read_line(&mut line);
            self.number += 1;
            match read.map_err(|error| Self::failed(&self.file, &error))? {
                0 => return Ok(None),
                _ if line.trim().is_empty() => {}
                _ => return Ok(Some((self.number, line))),
            }
        }
    }
}

/// A line.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Record {
    /// Of a coordinator.
    Ticks { service: String, ticks: Vec<Tick> },
    /// Of an agent's counters.
    Sample(Sample),
}

#[derive(Debug, Deserialize)]
struct Sample {
    #[serde(deserialize_with = "rfc3339")]
    time: SystemTime,
    interval: Option<Interval>,
}

#[derive(Debug, Deserialize)]
struct Interval {
    gap: bool,
    services: Vec<OfService>,
}

#[derive(Debug, Deserialize)]
struct OfService {
    service: String,
    versions: PerVersion<OfVersion>,
}

#[derive(Debug, Deserialize)]
struct OfVersion {
    traffic: Traffic,
    handshakes: Times,
    #[serde(default)]
    backends: Vec<OfBackend>,
}

#[derive(Debug, Deserialize)]
struct OfBackend {
    address: IpAddr,
    port: u16,
    traffic: Traffic,
}

#[derive(Debug, Deserialize)]
struct Times {
    sum_us: u64,
    buckets: Vec<u64>,
}

impl OfVersion {
    fn arm(&self) -> Arm {
        let backend = |one: &OfBackend| BackendArm {
            address: one.address,
            port: one.port,
            traffic: one.traffic,
        };
        let sum = Duration::from_micros(self.handshakes.sum_us);
        Arm {
            traffic: self.traffic,
            handshakes: Handshakes::new(self.handshakes.buckets.clone(), sum),
            backends: self.backends.iter().map(backend).collect(),
            asked: TableShare::default(),
        }
    }
}

fn rfc3339<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

fn render(replayed: &Replayed, colour: bool) -> String {
    let mut table = Table::new(&[("AT", Right), ("VERDICT", Left), ("WHY", Left)], colour);
    for Moment { at_s, verdict } in &replayed.verdicts {
        let name = verdict.name();
        table.row([
            dim(humantime::format_duration(Duration::from_secs(*at_s))),
            if matches!(verdict, Verdict::Fail { .. }) { warning(name) } else { text(name) },
            text(verdict.reason()),
        ]);
    }
    let mut lines = table.render();
    let judged = Duration::from_secs(replayed.explanation.judged_s);
    let judged = humantime::format_duration(judged);
    lines.extend([format!("\n{} ticks, {judged} judged\n", replayed.ticks)]);
    for finding in &replayed.explanation.findings {
        lines.extend([&finding.reason, "\n"]);
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

    use super::*;
    use crate::node::{
        interval,
        messages::{self, Counters, ServiceCounters, VersionCounters},
    };

    /// What `weir counters --watch -o json` prints is read back.
    #[test]
    fn lines_of_counters_are_read() {
        let at = |seconds, connections| {
            let traffic = Traffic { connections, established: connections, ..Traffic::default() };
            let handshakes = Handshakes::new(vec![0, connections], Duration::from_micros(7));
            let of = VersionCounters { traffic, handshakes, backends: Vec::new() };
            let service = ServiceName::new("shop").unwrap();
            Counters {
                epoch: 1,
                time: SystemTime::UNIX_EPOCH + Duration::from_millis(seconds),
                services: vec![ServiceCounters {
                    service,
                    versions: PerVersion::from_fn(|_| of.clone()),
                }],
                verdicts: Vec::new(),
            }
        };
        let (first, second) = (at(1_000, 5), at(2_250, 9));
        let interval = interval::Interval::between(&first, &second);
        let line = messages::Sample { counters: second, interval: Some(interval) };
        let line = serde_json::to_string(&line).unwrap();
        let Record::Sample(sample) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        let replay = Replay {
            file: PathBuf::new(),
            service: None,
            candidate: Version::Canary,
            stable: Version::Blue,
            rollout: None,
        };
        let tick = replay.tick(&sample, Some(first.time)).unwrap().unwrap();
        assert_eq!(tick.length, Duration::from_millis(1_250));
        assert_eq!(tick.candidate.traffic.connections, 4);
        assert_eq!(tick.baseline.handshakes.count(), 4);
    }
}
