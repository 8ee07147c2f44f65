//! What the demo saw, and whether it is right. Pure.

use std::collections::BTreeMap;
use std::fmt::Display;

use weir::model::{Observed, TableShare};

use super::script::{Step, percent};
use crate::identity::Version;
use crate::load::fresh::FreshCounts;
use crate::load::long_lived::LongLivedState;

/// The normal quantile of a two-sided 99.995% interval. In the walk's two steps that split the
/// connections, chance alone stays within it both times with a probability of 99.99%.
const Z: f64 = 4.056;

/// One version in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Row {
    /// The weight, in basis points.
    pub(super) asked: u16,
    /// The version's share of the table, read back; of both services, the farther one.
    pub(super) table: TableShare,
    /// New connections, as the clients were answered.
    pub(super) observed: Observed,
    /// New connections, as the kernel counted them.
    pub(super) counted: Observed,
    /// Long-lived connections that began on the version: unbroken ones, and all.
    pub(super) long_lived: (usize, usize),
}

/// One step as it is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    /// Blue, green and canary.
    pub(super) rows: [Row; 3],
    /// Failed new connections.
    pub(super) failed: u64,
    /// Long-lived connections: unbroken ones, and all, also those that never opened.
    pub(super) long_lived: (usize, usize),
}

impl View {
    /// Puts a step together from what was read.
    pub(super) fn new(
        step: &Step,
        tables: [TableShare; 3],
        fresh: &FreshCounts,
        counted: [u64; 3],
        long_lived: &LongLivedState,
    ) -> Self {
        let (answered, counted) = (shares(fresh.by_version()), shares(counted));
        let rows = [0, 1, 2].map(|index| Row {
            asked: step.weights[index],
            table: tables[index],
            observed: answered[index],
            counted: counted[index],
            long_lived: began_on(long_lived, Version::ALL[index]),
        });
        Self {
            rows,
            failed: fresh.failed(),
            long_lived: (long_lived.healthy(), long_lived.connections.len()),
        }
    }

    /// New connections of all versions, as the clients were answered.
    pub(super) fn answered(&self) -> u64 {
        self.rows[0].observed.total
    }

    /// What is wrong with this step; nothing, if it went well.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.failed > 0 {
            complaints.push(format!("{} new connections failed", self.failed));
        }
        let (healthy, all) = self.long_lived;
        if healthy < all {
            complaints.push(format!("{} of {all} long-lived connections broke", all - healthy));
        }
        complaints.extend(self.wrong_shares());
        complaints
    }

    /// What is wrong with its shares.
    pub(super) fn wrong_shares(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.answered() == 0 {
            complaints.push("no new connection was answered".to_owned());
        }
        for (version, row) in Version::ALL.into_iter().zip(&self.rows) {
            let asked = percent(row.asked);
            if slots_off(row.asked, row.table) > 1.0 {
                let share = row.table.share() * 100.0;
                complaints.push(format!("{version}: {share:.2}% of the table, asked {asked}"));
            }
            if !by_chance(row) {
                let Observed { connections, total, .. } = row.observed;
                complaints.push(format!(
                    "{version}: {connections} of {total} new connections, asked {asked}: \
                     more than chance explains"
                ));
            }
        }
        complaints
    }
}

/// Each version's part of all.
pub(super) fn shares(counts: [u64; 3]) -> [Observed; 3] {
    let total = counts.iter().sum();
    counts.map(|connections| Observed { connections, total, steered: 0 })
}

fn began_on(state: &LongLivedState, version: Version) -> (usize, usize) {
    let on = state.connections.iter().filter(|connection| {
        connection.identity.is_some_and(|identity| identity.version == version)
    });
    on.fold((0, 0), |(healthy, all), connection| {
        (healthy + usize::from(connection.fault.is_none()), all + 1)
    })
}

/// How many slots the table's share is away from the weight.
fn slots_off(asked: u16, table: TableShare) -> f64 {
    let wanted = f64::from(asked) * f64::from(table.total) / 10_000.0;
    if table.total == 0 { f64::INFINITY } else { (f64::from(table.slots) - wanted).abs() }
}

/// For each version the share that is farthest from its weight.
pub(super) fn farthest(step: &Step, tables: &[[TableShare; 3]]) -> [TableShare; 3] {
    [0, 1, 2].map(|index| {
        let off = |table: &TableShare| slots_off(step.weights[index], *table);
        let of_version = tables.iter().map(|shares| shares[index]);
        of_version.max_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or_default()
    })
}

/// Whether chance explains how far the observed share is from the asked one (the score test, of
/// which Wilson's interval is the inverse). At 0% and 100% chance has no part: not one may stray.
#[allow(clippy::cast_precision_loss, reason = "counts of a minute")]
fn by_chance(row: &Row) -> bool {
    let asked = f64::from(row.asked) / 10_000.0;
    if row.observed.total == 0 {
        return true;
    }
    let total = row.observed.total as f64;
    (row.observed.share() - asked).abs() <= Z * (asked * (1.0 - asked) / total).sqrt()
}

/// What the kernel counted in a step is what the clients counted, and at most `beside` more: what
/// began or ended outside of the step, between two readings.
pub(super) fn same_in_step(rows: &[Row; 3], beside: [u64; 3]) -> bool {
    rows.iter().zip(beside).all(|(row, beside)| {
        let seen = row.observed.connections;
        (seen..=seen + beside).contains(&row.counted.connections)
    })
}

/// Three counts of the same connections, by where they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// By the clients.
    pub(super) clients: u64,
    /// By the backend itself.
    pub(super) backend: u64,
    /// By the kernel.
    pub(super) kernel: u64,
}

/// Where the books differ. Of the SYNs that clients sent again, `resent` in all, the kernel may
/// have counted each once more.
pub(super) fn differences<K: Display>(books: &BTreeMap<K, Books>, resent: u64) -> Vec<String> {
    let surplus = |books: &Books| books.kernel.saturating_sub(books.backend);
    let too_many = books.values().map(surplus).sum::<u64>() > resent;
    let differ = |books: &Books| {
        let Books { clients, backend, kernel } = books;
        clients != backend || kernel < backend || (too_many && kernel > backend)
    };
    let places = books.iter().filter(|(_, books)| differ(books));
    places
        .map(|(place, Books { clients, backend, kernel })| {
            format!(
                "{place}: clients counted {clients} connections, the backend {backend}, \
                 the kernel {kernel}"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::script::STEPS;

    /// The canary step as it should be, with `canary` of 4 000 connections.
    fn view(canary: u64) -> View {
        let observed = shares([4_000 - canary, 0, canary]);
        let slots = [15_565, 0, 819];
        let rows = [0, 1, 2].map(|index| Row {
            asked: STEPS[1].weights[index],
            table: TableShare { slots: slots[index], total: 16_384 },
            observed: observed[index],
            counted: observed[index],
            long_lived: (0, 0),
        });
        View { rows, failed: 0, long_lived: (200, 200) }
    }

    #[test]
    fn chance_is_allowed_and_nothing_else() {
        // 200 are expected, with a standard deviation of 13.8: 4.056 of them are 55.9.
        for canary in [145, 200, 255] {
            assert_eq!(view(canary).complaints(), Vec::<String>::new());
        }
        for canary in [144, 256] {
            let complaints = view(canary).complaints();
            assert_eq!(complaints.len(), 2, "blue and canary: {complaints:?}");
        }
        let mut view = view(200);
        view.rows[1].observed.connections = 1;
        assert_eq!(
            view.complaints(),
            ["green: 1 of 4000 new connections, asked 0%: more than chance explains"]
        );
    }

    #[test]
    fn each_fault_is_named() {
        let broken = View { failed: 3, long_lived: (198, 200), ..view(200) };
        assert_eq!(
            broken.complaints(),
            ["3 new connections failed", "2 of 200 long-lived connections broke"]
        );
        let mut shifted = view(200);
        shifted.rows[2].table.slots = 821;
        assert_eq!(shifted.complaints(), ["canary: 5.01% of the table, asked 5%"]);
        assert_eq!(View::default().wrong_shares()[0], "no new connection was answered");
    }

    #[test]
    fn of_several_tables_the_worst_is_judged() {
        let share = |slots| TableShare { slots, total: 16_384 };
        let good = [share(15_565), share(0), share(819)];
        let bad = [share(15_565), share(3), share(816)];
        assert_eq!(farthest(&STEPS[1], &[good, bad]), bad);
        assert_eq!(farthest(&STEPS[1], &[bad, good]), bad);
        assert_eq!(farthest(&STEPS[1], &[good])[2], share(819));
    }

    #[test]
    fn books_agree_exactly_but_for_repeated_syns() {
        let agreeing = Books { clients: 10, backend: 10, kernel: 10 };
        let more = Books { kernel: 11, ..agreeing };
        let less = Books { kernel: 9, ..agreeing };
        let lost = Books { clients: 9, ..agreeing };
        let differ = |books: Books, resent| differences(&BTreeMap::from([("a", books)]), resent);
        assert!(differ(agreeing, 0).is_empty() && differ(more, 1).is_empty());
        assert_eq!(differ(more, 0).len(), 1);
        assert_eq!(differ(less, 5).len(), 1);
        assert_eq!(differ(lost, 0).len(), 1);
    }

    #[test]
    fn a_step_agrees_up_to_what_is_beside_it() {
        let mut rows = view(200).rows;
        assert!(same_in_step(&rows, [0; 3]));
        rows[2].counted.connections += 2;
        assert!(same_in_step(&rows, [0, 0, 2]) && !same_in_step(&rows, [9, 9, 1]));
        rows[2].counted.connections -= 3;
        assert!(!same_in_step(&rows, [9; 3]));
    }
}
