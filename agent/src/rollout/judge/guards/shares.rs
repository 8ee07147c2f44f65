//! Connections that are not shared as the table says cannot be compared: something decides who goes
//! where, and that may be what fails. The test is [`SampleRatio`], for each agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::tick::Tick;
use crate::model::sample_ratio::BOUND;
use crate::model::{PerVersion, SampleRatio, TableShare};

/// More agents are not judged.
const AGENTS: usize = 4_096;
/// More connections are not counted; the test has seen enough long before.
const MOST: u64 = u64::MAX / 4;

/// New connections since the table's shares changed last, by agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Shares {
    by_agent: BTreeMap<String, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Seen {
    asked: [TableShare; 2],
    candidate: u64,
    baseline: u64,
}

/// Connections that are shared otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// On which agent.
    pub agent: String,
    /// The candidate's part of both versions' slots.
    pub asked: f64,
    /// Its part of both versions' new connections.
    pub observed: f64,
    /// New connections of both.
    pub connections: u64,
    /// The evidence, as a power of ten.
    pub evidence: f64,
    /// The evidence at which they differ, likewise.
    pub bound: f64,
}

impl Shares {
    /// Takes what one agent counted in one tick.
    pub fn observe(&mut self, tick: &Tick) {
        let asked = [tick.candidate.asked, tick.baseline.asked];
        let Some(seen) = self.by_agent.get_mut(&tick.agent).filter(|seen| seen.asked == asked)
        else {
            // The tick in which shares change has connections of both tables.
            if self.by_agent.len() < AGENTS || self.by_agent.contains_key(&tick.agent) {
                self.by_agent.insert(tick.agent.clone(), Seen { asked, ..Seen::default() });
            }
            return;
        };
        // Those that a rule led are no share of the table's.
        let new =
            |traffic: &crate::model::Traffic| traffic.connections.saturating_sub(traffic.steered);
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more).min(MOST);
        add(&mut seen.candidate, new(&tick.candidate.traffic));
        add(&mut seen.baseline, new(&tick.baseline.traffic));
    }

    /// The agent whose connections are shared otherwise, if there is one. With more agents it takes
    /// more.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "there are few agents")]
    pub fn mismatch(&self) -> Option<Mismatch> {
        let bound = (BOUND * self.by_agent.len().max(1) as f64).log10();
        let all = self.by_agent.iter().filter_map(|(agent, seen)| seen.judge(agent, bound));
        let worst = all.max_by(|one, other| one.evidence.total_cmp(&other.evidence));
        worst.filter(|worst| worst.evidence >= bound)
    }
}

impl Seen {
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    fn judge(&self, agent: &str, bound: f64) -> Option<Mismatch> {
        let [candidate, baseline] = self.asked.map(|share| share.slots);
        let total = candidate.checked_add(baseline)?;
        let connections = self.candidate + self.baseline;
        if candidate == 0 || baseline == 0 || connections == 0 {
            return None;
        }
        let share = |slots| TableShare { slots, total };
        // The third version is not compared.
        let table =
            PerVersion::new(share(baseline), TableShare { slots: 0, total }, share(candidate));
        let seen = PerVersion::new(self.baseline, 0, self.candidate);
        let evidence = SampleRatio::judge(seen, table).evidence;
        Some(Mismatch {
            agent: agent.to_owned(),
            asked: share(candidate).share(),
            observed: self.candidate as f64 / connections as f64,
            connections,
            evidence,
            bound,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Traffic;

    fn tick(agent: &str, slots: u32, candidate: u64, baseline: u64) -> Tick {
        let mut tick = Tick { agent: agent.to_owned(), ..Tick::default() };
        let of = |connections| Traffic { connections, ..Traffic::default() };
        (tick.candidate.traffic, tick.baseline.traffic) = (of(candidate), of(baseline));
        tick.candidate.asked = TableShare { slots, total: 16_384 };
        tick.baseline.asked = TableShare { slots: 16_384 - slots, total: 16_384 };
        tick
    }

    fn after(ticks: &[Tick]) -> Option<Mismatch> {
        let mut shares = Shares::default();
        for tick in ticks {
            shares.observe(tick);
        }
        shares.mismatch()
    }

    #[test]
    fn a_table_that_is_not_followed_is_told() {
        assert_eq!(after(&[tick("a", 820, 0, 0), tick("a", 820, 100, 1_900)]), None);
        let found = after(&[tick("a", 820, 0, 0), tick("a", 820, 0, 2_000)]);
        let found = found.map(|one| (one.agent, one.connections, one.evidence > one.bound));
        assert_eq!(found, Some(("a".to_owned(), 2_000, true)));
    }

    #[test]
    fn each_table_is_judged_alone() {
        // The tick of the change counts for neither.
        let ramp = [
            tick("a", 820, 0, 0),
            tick("a", 820, 100, 1_900),
            tick("a", 8_192, 100, 1_900),
            tick("a", 8_192, 1_000, 1_000),
        ];
        assert_eq!(after(&ramp), None);
    }

    #[test]
    fn steered_connections_are_no_share() {
        let mut steered = tick("a", 820, 1_100, 1_900);
        steered.candidate.traffic.steered = 1_000;
        assert_eq!(after(&[tick("a", 820, 0, 0), steered]), None);
    }

    #[test]
    fn anything_can_be_counted() {
        for slots in [0, 1, 16_384] {
            after(&[tick("a", slots, 0, 0), tick("a", slots, u64::MAX, u64::MAX)]);
        }
        let mut odd = tick("a", 1, 1, 1);
        odd.baseline.asked = TableShare { slots: u32::MAX, total: 0 };
        assert_eq!(after(&[odd.clone(), odd]), None);
    }
}
