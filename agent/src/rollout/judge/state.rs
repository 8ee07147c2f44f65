//! What is kept of an analysis: plain data, to be saved after each tick and taken up again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, Metric};
use super::external::{Outcome, Tally};
use super::guards::backend::Backends;
use super::guards::breadth;
use super::guards::incident::Weather;
use super::guards::shares::Shares;
use super::quantiles::Past;
use super::series::Series;
use super::tick::Tick;

/// More agents have no lines for their handshakes.
const AGENTS: usize = 4_096;
/// A tick counts as no longer than this.
const LONGEST: Duration = Duration::from_secs(3_600);

/// One analysis: everything since its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    pub(super) config: Config,
    /// Time with ticks.
    pub(super) judged: Duration,
    pub(super) series: Vec<Series>,
    /// Handshakes of the baseline so far, by agent.
    past: BTreeMap<String, Past>,
    pub(super) external: BTreeMap<String, Tally>,
    /// Of the candidate and of the baseline.
    pub(super) backends: [Backends; 2],
    pub(super) weather: Weather,
    pub(super) shares: Shares,
}

impl Judge {
    /// Begins without evidence. What is wrong with `config` is taken for its default.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let config = config.sound();
        let enforcing = config.metrics.iter().map(|metric| (*metric, true));
        let all = enforcing.chain(config.watch.iter().map(|metric| (*metric, false)));
        let series =
            all.map(|(metric, enforcing)| Series::new(metric, enforcing, &config)).collect();
        let names = config.external.iter().map(|one| one.name.clone());
        Self {
            judged: Duration::ZERO,
            series,
            past: BTreeMap::new(),
            external: names.map(|name| (name, Tally::default())).collect(),
            backends: Default::default(),
            weather: Weather::default(),
            shares: Shares::default(),
            config,
        }
    }

    /// How it judges.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// For how long there were ticks.
    #[must_use]
    pub const fn judged(&self) -> Duration {
        self.judged
    }

    /// Takes one tick: what each agent counted in it. Their order makes no difference.
    pub fn observe(&mut self, ticks: &[Tick]) {
        let mut ticks: Vec<&Tick> = ticks.iter().collect();
        // Sums of floats depend on their order.
        ticks.sort_by(|one, other| one.agent.cmp(&other.agent));
        for series in &mut self.series {
            series.observe(&ticks, &self.past, &self.config);
        }
        let length = ticks.iter().map(|tick| tick.length).max().unwrap_or_default().min(LONGEST);
        self.judged = self.judged.saturating_add(length);
        // By client: one that fails a thousand times is no incident.
        let connections = ticks.iter().map(|tick| breadth::tell(Metric::ConnectSuccess, tick)[1]);
        self.weather.observe(length, connections);
        for tick in ticks {
            self.remember(tick);
        }
    }

    /// What later ticks are judged by, and what guards need.
    fn remember(&mut self, tick: &Tick) {
        let by_client = breadth::counts_clients(tick);
        for (backends, arm) in self.backends.iter_mut().zip([&tick.candidate, &tick.baseline]) {
            backends.add(&arm.backends, by_client);
        }
        if self.config.sample_ratio {
            self.shares.observe(tick);
        }
        if self.past.len() < AGENTS || self.past.contains_key(&tick.agent) {
            self.past.entry(tick.agent.clone()).or_default().add(&tick.baseline.handshakes);
        }
    }

    /// Takes one measurement of somebody else. One of a series that the configuration does not name is
    /// not taken: the answer says whether it was.
    pub fn external(&mut self, name: &str, outcome: Outcome) -> bool {
        let tally = self.external.get_mut(name);
        tally.map(|tally| tally.add(outcome)).is_some()
    }
}
