//! Are new connections shared as the table says? A test that may be asked as often as one likes.
//!
//! For each version the table's share `p` stands against what was seen, by a ratio of likelihoods: a
//! mixture of all other shares, against the best share within [`STRAYS`] of `p`. By Ville's inequality
//! such a ratio reaches [`BOUND`] with a probability of at most `1 / BOUND` in the whole life of a
//! table that is right, however often and at whatever moment one looks (an *e-value*). Their mean over
//! the versions is one too; it is the evidence.
//!
//! The mixture is a beta distribution with mean `p`, wide enough that the rarer side has a weight of
//! one half: so it sees a share that is zero, or twice as large, alike at 50 % and at 0.1 %.

use serde::Serialize;

use super::logs::log_sum_exp;
use super::{PerVersion, TableShare};

/// Evidence of so much says that the shares differ: one false alarm in a thousand tables.
pub const BOUND: f64 = 1_000.0;
/// Connections that the smallest version must expect before the shares can be said to agree. With so
/// many a version that gets none would have been seen, and from a share of 1 % on one that gets twice
/// its share.
pub const EXPECTED: f64 = 40.0;
/// The part of connections that may go astray unnoticed, such as those that found the flow table full.
/// So of a share that is as small as this, too much is not seen, only too little.
pub const STRAYS: f64 = 0.001;
/// More connections than this sharpen nothing: about so many ports has a single client, and the ways
/// of its connections repeat with them.
pub const SHARPEST: u64 = 32_768;

/// What counts say of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// The connections are shared as the table says, within what so many can tell.
    Agrees,
    /// They are not.
    Differs,
    /// There are too few to tell.
    #[default]
    TooFew,
    /// Their number says nothing: clients are kept together, packets of QUIC are counted, or those
    /// that rules lead are not told apart.
    NotJudged,
}

/// New connections against the shares of the table that decided them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct SampleRatio {
    /// The answer.
    pub agreement: Agreement,
    /// New connections that the table decided.
    pub connections: u64,
    /// How many it takes to say that they agree.
    pub needed: u64,
    /// The evidence that they differ, as a power of ten: [`BOUND`] is 3, and below 0 speaks for the
    /// table.
    pub evidence: f64,
}

impl SampleRatio {
    /// Judges new connections by version against the table's shares. Counts must be of one table and
    /// begin when it was committed.
    #[must_use]
    pub fn judge(connections: PerVersion<u64>, table: PerVersion<TableShare>) -> Self {
        let total = connections.iter().map(|(_, count)| count).sum();
        let needed = needed(&table);
        if table.iter().all(|(_, share)| share.total == 0) {
            return Self { connections: total, ..Self::default() };
        }
        let logs = connections.iter().map(|(version, count)| {
            log_evidence(*count, total, needed.max(SHARPEST), table[version].share())
        });
        let evidence = log_mean_exp(&logs.collect::<Vec<_>>());
        let agreement = match () {
            () if evidence >= BOUND.ln() => Agreement::Differs,
            () if total < needed => Agreement::TooFew,
            () => Agreement::Agrees,
        };
        let evidence = evidence / std::f64::consts::LN_10;
        Self { agreement, connections: total, needed, evidence }
    }

    /// The same, without an answer.
    #[must_use]
    pub const fn not_judged(self) -> Self {
        Self { agreement: Agreement::NotJudged, needed: 0, evidence: 0.0, ..self }
    }

    /// How many more connections it takes to say that they agree.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.needed.saturating_sub(self.connections)
    }
}

/// So many that the smallest version with a share expects [`EXPECTED`].
fn needed(table: &PerVersion<TableShare>) -> u64 {
    let shares = table.iter().filter(|(_, share)| share.slots > 0);
    let most = shares.map(|(_, share)| EXPECTED / share.share()).fold(0.0, f64::max);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 40 times the slots of a table"
    )]
    let most = most.ceil() as u64;
    most
}

/// The logarithm of the evidence that one version's share is not `p`.
#[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn log_evidence(seen: u64, total: u64, sharpest: u64, p: f64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    // A power below one of a ratio of likelihoods only takes from its mean: the bound still holds.
    let scale = (sharpest as f64 / total as f64).min(1.0);
    let (yes, no) = (seen as f64 * scale, total.saturating_sub(seen) as f64 * scale);
    let least = p * (1.0 - STRAYS);
    let best = (seen as f64 / total as f64).clamp(least, least + STRAYS);
    let middle = p.clamp(STRAYS, 1.0 - STRAYS);
    let width = 0.5 / middle.min(1.0 - middle);
    let (a, b) = (width * middle, width * (1.0 - middle));
    log_beta(a + yes, b + no) - log_beta(a, b) - times_log(yes, best) - times_log(no, 1.0 - best)
}

/// `count · ln share`, 0 for no count.
fn times_log(count: f64, share: f64) -> f64 {
    if count > 0.0 { count * share.ln() } else { 0.0 }
}

fn log_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

/// The logarithm of the mean of what these are the logarithms of.
#[allow(clippy::cast_precision_loss, reason = "there are three")]
fn log_mean_exp(logs: &[f64]) -> f64 {
    log_sum_exp(logs) - (logs.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the figures of a test are small"
    )]

    use super::*;
    use crate::model::{Observed, Version};

    const SLOTS: u32 = 16_384;

    fn table(canary: u32, green: u32) -> PerVersion<TableShare> {
        PerVersion::new(SLOTS - canary - green, green, canary)
            .map(|slots| TableShare { slots, total: SLOTS })
    }

    /// Of so many connections this share went to canary, the rest to blue.
    fn split(total: u64, canary: f64) -> PerVersion<u64> {
        let canary = (total as f64 * canary).round() as u64;
        PerVersion::new(total - canary, 0, canary)
    }

    fn judge(connections: PerVersion<u64>, canary: u32) -> SampleRatio {
        SampleRatio::judge(connections, table(canary, 0))
    }

    /// A small generator, the same in every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        /// Where one connection goes by the table.
        fn connection(&mut self, table: &PerVersion<TableShare>, to: &mut PerVersion<u64>) {
            let mut slot = (self.next() % u64::from(SLOTS)) as u32;
            for (version, share) in table.iter() {
                if slot < share.slots {
                    to[version] += 1;
                    return;
                }
                slot -= share.slots;
            }
        }
    }

    /// Whether canary is outside of the 99.9 % interval of its share: a test that is valid for one look.
    fn one_look(seen: PerVersion<u64>, table: &PerVersion<TableShare>) -> bool {
        let total = seen.iter().map(|(_, count)| count).sum();
        let canary = Observed { connections: seen[Version::Canary], total, steered: 0 };
        let (low, high) = canary.interval();
        !(low..=high).contains(&table[Version::Canary].share())
    }

    /// Streams that follow the table, with a look at each tick: at most one in a thousand is blamed,
    /// where the interval, looked at as often, blames ten times as many.
    #[test]
    fn streams_that_follow_the_table_are_not_blamed() {
        let mut random = Random(5);
        let (mut blamed, mut agreed, mut by_interval) = (0, 0, 0);
        for stream in 0_u32..1_000 {
            let table = [table(820, 0), table(8_192, 0), table(164, 164), table(SLOTS, 0)]
                [stream as usize % 4];
            let mut seen = PerVersion::default();
            let mut last = SampleRatio::default();
            let (mut wrong, mut outside) = (false, false);
            for _ in 0..300 {
                for _ in 0..random.next() % 40 {
                    random.connection(&table, &mut seen);
                }
                last = SampleRatio::judge(seen, table);
                wrong |= last.agreement == Agreement::Differs;
                outside |= one_look(seen, &table);
            }
            blamed += u32::from(wrong);
            by_interval += u32::from(outside);
            agreed += u32::from(last.agreement == Agreement::Agrees);
        }
        assert!(blamed <= 1, "{blamed} of 1000 streams were blamed");
        assert!(by_interval >= 10, "the interval blames only {by_interval}");
        assert!(agreed >= 999, "{agreed} of 1000 streams agree in the end");
    }

    /// What `needed` promises, at every share.
    #[test]
    fn with_as_many_as_needed_none_and_twice_the_share_are_seen() {
        for slots in [1, 2, 16, 164, 820, 4_096, 8_192] {
            let share = f64::from(slots) / f64::from(SLOTS);
            let needed = judge(PerVersion::default(), slots).needed;
            let at = |times: f64| judge(split(needed, share * times), slots);
            assert_eq!(at(1.0).agreement, Agreement::Agrees, "{slots}: {:?}", at(1.0));
            assert_eq!(at(0.0).agreement, Agreement::Differs, "{slots}: {:?}", at(0.0));
            // At half of the table, twice the share is all of it.
            let twice = if slots >= 164 { Agreement::Differs } else { Agreement::Agrees };
            assert_eq!(at(2.0).agreement, twice, "{slots}: {:?}", at(2.0));
            let one_less = judge(split(needed - 1, share), slots);
            assert_eq!((one_less.agreement, one_less.missing()), (Agreement::TooFew, 1));
        }
    }

    /// A shift that did nothing is seen long before there are enough to agree.
    #[test]
    fn a_shift_without_effect_is_seen() {
        // Everything was to go to canary, and stays with blue.
        let first =
            (1..1_000).find(|n| judge(split(*n, 0.0), SLOTS).agreement == Agreement::Differs);
        assert_eq!(first, Some(6));
        // A quarter was to go to canary, and stays with blue.
        let first =
            (1..1_000).find(|n| judge(split(*n, 0.0), 4_096).agreement == Agreement::Differs);
        assert!(first.is_some_and(|n| (28..=60).contains(&n)), "{first:?}");
        // Five percent instead of six: that takes more.
        assert_eq!(judge(split(2_000, 0.05), 983).agreement, Agreement::Agrees);
        assert_eq!(judge(split(32_000, 0.05), 983).agreement, Agreement::Differs);
    }

    #[test]
    fn a_few_strays_are_no_reason() {
        assert_eq!(judge(split(10_000, 0.001), 0).agreement, Agreement::Agrees);
        assert_eq!(judge(split(1_000_000, 0.001), 0).agreement, Agreement::Agrees);
        assert_eq!(judge(split(10_000, 0.01), 0).agreement, Agreement::Differs);
    }

    /// A client with few ports repeats its connections: what chance has done once stays, however many
    /// there are. Three standard deviations of what 28 232 ports do are no reason.
    #[test]
    fn connections_that_repeat_are_no_reason() {
        for share in [0.01, 0.05, 0.5] {
            let deviation = (share * (1.0 - share) / 28_232.0_f64).sqrt();
            let slots = (share * f64::from(SLOTS)).round() as u32;
            for total in [28_232, 1_000_000, 1_000_000_000] {
                let found = judge(split(total, share + 3.0 * deviation), slots);
                assert_eq!(found.agreement, Agreement::Agrees, "{share} of {total}: {found:?}");
            }
        }
    }

    #[test]
    fn nothing_is_too_few() {
        let none = judge(PerVersion::default(), 820);
        assert_eq!((none.agreement, none.needed, none.missing()), (Agreement::TooFew, 800, 800));
        assert!(none.evidence.abs() < 1e-12);
        let no_table = SampleRatio::judge(split(9, 0.5), PerVersion::default());
        assert_eq!(no_table.agreement, Agreement::TooFew);
        assert_eq!(none.not_judged().agreement, Agreement::NotJudged);
    }
}
