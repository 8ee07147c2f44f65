//! One bad backend is no bad version.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::super::tick::{BackendArm, number};
use super::breadth;

/// It has more than this share of the version's failures,
const MOST_FAILURES: f64 = 0.8;
/// and by its connections less than this share would be its due.
const FEW_DUE: f64 = 0.65;
/// Fewer failures tell where they come from only if all of them are of one backend,
const FAILURES: f64 = 10.0;
/// and that is rarer than this where chance shares them out.
const BY_CHANCE: f64 = 0.001;
/// More backends are not told apart.
const BACKENDS: usize = 4_096;

/// Whose failures a version's failures were.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Backends {
    by_address: BTreeMap<SocketAddr, Counted>,
}

/// What was counted of one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Counted {
    connections: f64,
    failures: f64,
    /// Failures that would be its due: in each tick, on each agent, by its part of the connections. So
    /// what all backends of one agent suffer from makes none of them bad.
    due: f64,
}

/// A backend that most failures are of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bad {
    /// Which.
    pub backend: SocketAddr,
    /// Its failures.
    pub failures: f64,
    /// Those of its version.
    pub of: f64,
    /// Its connections.
    pub connections: f64,
}

impl Backends {
    /// Takes what one agent counted of a version's backends in a tick.
    pub fn add(&mut self, backends: &[BackendArm], by_client: bool) {
        let sum = |what: &dyn Fn(&BackendArm) -> f64| backends.iter().map(what).sum::<f64>();
        let connections = sum(&|one| number(one.traffic.connections));
        let failures = sum(&|one| breadth::failures(&one.traffic, by_client));
        for one in backends {
            let room = self.by_address.len() < BACKENDS;
            if !room && !self.by_address.contains_key(&one.socket()) {
                continue;
            }
            let counted = self.by_address.entry(one.socket()).or_default();
            let own = number(one.traffic.connections);
            counted.connections += own;
            counted.failures += breadth::failures(&one.traffic, by_client);
            counted.due += if own > 0.0 { failures * (own / connections) } else { 0.0 };
        }
    }

    /// The one that most failures are of, if there is such a one.
    #[must_use]
    pub fn bad(&self) -> Option<Bad> {
        let of: f64 = self.by_address.values().map(|one| one.failures).sum();
        let is_bad = |one: &Counted| one.failures > of * MOST_FAILURES && one.due < of * FEW_DUE;
        let (backend, one) = self.by_address.iter().find(|(_, one)| is_bad(one))?;
        let Counted { failures, connections, due } = *one;
        let all_of_one = failures >= of && (due / of).powf(of) < BY_CHANCE;
        let enough = of >= FAILURES || all_of_one;
        enough.then_some(Bad { backend: *backend, failures, of, connections })
    }

    /// The same, but only if it fails every fifth connection and more. For the baseline, of which no
    /// test says whether it is worse.
    #[must_use]
    pub fn very_bad(&self) -> Option<Bad> {
        self.bad().filter(|bad| bad.of >= 5.0 * FAILURES && bad.failures >= 0.2 * bad.connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Traffic;

    fn backend(last: u8, connections: u64, refused: u64) -> BackendArm {
        let traffic = Traffic { connections, refused, ..Traffic::default() };
        BackendArm { address: [10, 0, 0, last].into(), port: 80, traffic }
    }

    fn of(backends: &[BackendArm]) -> Backends {
        let mut all = Backends::default();
        all.add(backends, false);
        all
    }

    #[test]
    fn most_failures_of_few_connections_are_a_bad_backend() {
        let bad = of(&[backend(1, 50, 0), backend(2, 50, 45), backend(3, 50, 1)]).bad();
        let bad = bad.map(|bad| (bad.backend.to_string(), bad.failures, bad.of));
        assert_eq!(bad, Some(("10.0.0.2:80".to_owned(), 45.0, 46.0)));
    }

    /// A verdict on the version does not wait for ten of them.
    #[test]
    fn few_failures_tell_if_all_are_of_one_among_many() {
        let three =
            |failures| of(&[backend(1, 50, 0), backend(2, 50, failures), backend(3, 50, 0)]);
        assert!(three(7).bad().is_some(), "one in two thousand by chance");
        assert_eq!(three(6).bad(), None, "one in seven hundred");
        assert_eq!(of(&[backend(1, 50, 0), backend(2, 50, 9)]).bad(), None, "one in five hundred");
        let but_one = of(&[backend(1, 50, 0), backend(2, 50, 8), backend(3, 50, 1)]);
        assert_eq!(but_one.bad(), None);
    }

    #[test]
    fn shared_failures_are_not() {
        assert_eq!(of(&[backend(1, 50, 20), backend(2, 50, 25)]).bad(), None);
        assert_eq!(of(&[backend(1, 100, 100)]).bad(), None, "it is all there is");
        assert_eq!(of(&[backend(1, 90, 45), backend(2, 10, 5)]).bad(), None, "its due");
        assert_eq!(of(&[backend(1, 50, 9), backend(2, 50, 0)]).bad(), None, "too few");
        assert_eq!(of(&[]).bad(), None);
    }

    /// Each agent has backends of its own, and one agent has an incident.
    #[test]
    fn what_an_agent_suffers_from_is_no_backends_fault() {
        let mut all = of(&[backend(1, 100, 90)]);
        all.add(&[backend(2, 1_000, 1)], false);
        assert_eq!(all.bad(), None);
    }

    #[test]
    fn a_baseline_needs_more() {
        let few = of(&[backend(1, 5_000, 60), backend(2, 5_000, 1)]);
        assert!(few.bad().is_some() && few.very_bad().is_none());
        assert!(of(&[backend(1, 100, 60), backend(2, 100, 1)]).very_bad().is_some());
    }

    #[test]
    fn there_is_an_end_to_backends() {
        let mut all = Backends::default();
        for high in 0..=255 {
            let many: Vec<_> = (0..=255)
                .map(|low| BackendArm { address: [10, 0, high, low].into(), ..backend(0, 1, 0) })
                .collect();
            all.add(&many, false);
        }
        assert_eq!(all.by_address.len(), BACKENDS);
    }
}
