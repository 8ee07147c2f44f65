//! What happens during a release, and the ticks that agents count.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Binomial, Distribution, Poisson};
use weir::model::{Handshakes, TableShare, Traffic};
use weir::rollout::judge::{Arm, BackendArm, Tick};

/// Slots of a version table.
const SLOTS: u32 = 16_384;
/// The bucket of some 4 ms, where handshakes begin.
const FIRST_BUCKET: usize = 88;
/// How handshakes are spread from there on, by every second bucket.
const SPREAD: [f64; 8] = [0.18, 0.30, 0.24, 0.14, 0.08, 0.04, 0.015, 0.005];
/// So many buckets are a doubling.
const DOUBLING: usize = 8;

/// Chance that can be repeated.
pub type Chance = Xoshiro256PlusPlus;

/// Chance that follows from a seed.
#[must_use]
pub fn chance(seed: u64) -> Chance {
    Chance::seed_from_u64(seed)
}

/// A release as it goes.
#[derive(Debug, Clone)]
pub struct Release {
    /// Each tick is so many seconds.
    pub tick: f64,
    /// Where connections come in.
    pub agents: Vec<Node>,
    /// From which second on the candidate has which share, the first at zero.
    pub ramp: Vec<(f64, f64)>,
    /// What both versions suffer from.
    pub incidents: Vec<Incident>,
    /// Clients that fail and come again.
    pub storms: Vec<Storm>,
    /// Whether a client's connections stay together.
    pub by_client: bool,
    /// What is wrong with the candidate.
    pub fault: Fault,
    /// From which second on.
    pub fault_from: f64,
}

/// An agent and what it meets.
#[derive(Debug, Clone)]
pub struct Node {
    /// New connections a second.
    pub rate: f64,
    /// The share of them that fails.
    pub failing: f64,
    /// The share of handshakes that is reset at once.
    pub resets: f64,
    /// Addresses that connections come from.
    pub clients: f64,
}

/// A time in which both versions fail more often, and are slower.
#[derive(Debug, Clone)]
pub struct Incident {
    /// On one agent, or on all.
    pub agent: Option<usize>,
    /// From second to second.
    pub time: (f64, f64),
    /// So many times as many connections fail, at most nine of ten.
    pub times: f64,
    /// Handshakes take twice as long, so many times.
    pub doublings: usize,
}

/// One client that fails, whichever version it meets, and tries again at once.
#[derive(Debug, Clone)]
pub struct Storm {
    /// On this agent.
    pub agent: usize,
    /// From second to second.
    pub time: (f64, f64),
    /// Tries a second.
    pub rate: f64,
    /// Where clients are kept together: whether it is the candidate's.
    pub of_candidate: bool,
}

/// What is wrong with a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// So many times as many connections fail.
    Failing(f64),
    /// So many times as many handshakes are reset at once.
    Resetting(f64),
    /// Every connection is refused.
    Refusing,
    /// No connection is answered, which is known after three seconds.
    Silent,
    /// This share of handshakes takes eight times as long.
    Slow(f64),
}

impl Release {
    /// One agent, no trouble, nothing wrong.
    #[must_use]
    pub fn calm(rate: f64, share: f64, failing: f64) -> Self {
        Self {
            tick: 1.0,
            agents: vec![Node { rate, failing, resets: failing / 2.0, clients: 1e5 }],
            ramp: vec![(0.0, share)],
            incidents: Vec::new(),
            storms: Vec::new(),
            by_client: false,
            fault: Fault::None,
            fault_from: 0.0,
        }
    }

    /// What all agents count in the tick that begins at this second.
    pub fn ticks(&self, second: f64, chance: &mut Chance) -> Vec<Tick> {
        (0..self.agents.len()).map(|agent| self.tick(agent, second, chance)).collect()
    }

    fn tick(&self, agent: usize, second: f64, chance: &mut Chance) -> Tick {
        let node = &self.agents[agent];
        let share = self.part(second, true);
        let connections = poisson(node.rate * self.tick, chance);
        let of_candidate = binomial(connections, share, chance);
        let mut arms = [
            self.arm(agent, second, of_candidate, true, chance),
            self.arm(agent, second, connections - of_candidate, false, chance),
        ];
        for storm in self.storms.iter().filter(|storm| storm.agent == agent) {
            self.storm(storm, second, share, &mut arms, chance);
        }
        let slots = slots(share);
        let [mut candidate, mut baseline] = arms;
        candidate.asked = TableShare { slots, total: SLOTS };
        baseline.asked = TableShare { slots: SLOTS - slots, total: SLOTS };
        // One backend holds all of a version: what is shared out among several is tested elsewhere.
        for (arm, last) in [(&mut candidate, 1), (&mut baseline, 2)] {
            let address = [10, 0, u8::try_from(agent).unwrap_or(u8::MAX), last].into();
            arm.backends = vec![BackendArm { address, port: 80, traffic: arm.traffic }];
        }
        let length = Duration::from_secs_f64(self.tick);
        Tick { agent: format!("edge-{agent}"), length, candidate, baseline }
    }

    /// The share of the candidate, or of the baseline.
    fn part(&self, second: f64, candidate: bool) -> f64 {
        let asked = self.ramp.iter().rev().find(|(from, _)| *from <= second);
        let share = asked.map_or(0.0, |(_, share)| *share);
        if candidate { share } else { 1.0 - share }
    }

    /// What one version counts of so many connections.
    fn arm(
        &self,
        agent: usize,
        second: f64,
        connections: u64,
        candidate: bool,
        chance: &mut Chance,
    ) -> Arm {
        let node = &self.agents[agent];
        let now = |incident: &&Incident| {
            let here = incident.agent.is_none_or(|only| only == agent);
            here && within(second, incident.time)
        };
        let incident = self.incidents.iter().find(now);
        let times = incident.map_or(1.0, |incident| incident.times);
        let faulty = candidate && second >= self.fault_from;
        let fault = if faulty { self.fault } else { Fault::None };

        let failing = (node.failing * times).min(0.9);
        let (failing, resets) = match fault {
            Fault::Refusing => (1.0, 0.0),
            Fault::Silent if second >= self.fault_from + 3.0 => (1.0, 0.0),
            Fault::Silent => {
                return Arm {
                    traffic: Traffic { connections, ..Traffic::default() },
                    ..Arm::default()
                };
            }
            Fault::Failing(more) => ((failing * more).min(1.0), node.resets),
            Fault::Resetting(more) => (failing, (node.resets * more).min(1.0)),
            Fault::None | Fault::Slow(_) => (failing, node.resets),
        };
        let failed = binomial(connections, failing, chance);
        let established = connections - failed;
        let early_resets = binomial(established, resets, chance);
        // Where clients are kept together, a version has its own ones.
        let clients =
            if self.by_client { node.clients * self.part(second, candidate) } else { node.clients };
        let unanswered = if fault == Fault::Silent { failed } else { failed / 2 };
        let traffic = Traffic {
            connections,
            established,
            unanswered,
            refused: failed - unanswered,
            early_resets,
            retransmissions: 2 * unanswered,
            failing_clients: distinct(failed + early_resets, clients, self.tick),
            ..Traffic::default()
        };
        let slow = if let Fault::Slow(share) = fault { share } else { 0.0 };
        let doublings = incident.map_or(0, |incident| incident.doublings);
        Arm {
            traffic,
            handshakes: handshakes(established, slow, doublings, chance),
            ..Arm::default()
        }
    }

    /// Adds what a storm counts. The kernel counts its client once a second at either version.
    fn storm(
        &self,
        storm: &Storm,
        second: f64,
        share: f64,
        arms: &mut [Arm; 2],
        chance: &mut Chance,
    ) {
        let (from, to) = storm.time;
        let seconds = (second + self.tick).min(to) - second.max(from);
        if seconds <= 0.0 {
            return;
        }
        let tries = poisson(storm.rate * seconds, chance);
        let of_candidate = match (self.by_client, storm.of_candidate) {
            (true, true) => tries,
            (true, false) => 0,
            (false, _) => binomial(tries, share, chance),
        };
        let seconds = whole(seconds.ceil());
        for (arm, tries) in arms.iter_mut().zip([of_candidate, tries - of_candidate]) {
            arm.traffic.connections += tries;
            arm.traffic.refused += tries;
            arm.traffic.failing_clients += tries.min(seconds);
        }
    }
}

/// Handshakes by bucket.
fn handshakes(count: u64, slow: f64, doublings: usize, chance: &mut Chance) -> Handshakes {
    let mut buckets = vec![0; 192];
    let late = binomial(count, slow, chance);
    for (count, first) in [(late, FIRST_BUCKET + 3 * DOUBLING), (count - late, FIRST_BUCKET)] {
        let (mut rest, mut left) = (count, 1.0);
        for (at, part) in SPREAD.iter().enumerate() {
            let here = binomial(rest, (part / left).min(1.0), chance);
            buckets[first + doublings * DOUBLING + 2 * at] += here;
            rest -= here;
            left -= part;
        }
        buckets[first + doublings * DOUBLING] += rest;
    }
    Handshakes::new(buckets, Duration::ZERO)
}

/// How many addresses fail, if each counts once a second.
#[allow(clippy::cast_precision_loss, reason = "counts of a tick")]
fn distinct(failed: u64, clients: f64, seconds: f64) -> u64 {
    let (all, rate) = (clients.max(1.0), failed as f64 / seconds);
    whole(seconds * all * (1.0 - (-rate / all).exp())).clamp(failed.min(1), failed)
}

fn within(second: f64, (from, to): (f64, f64)) -> bool {
    (from..to).contains(&second)
}

fn slots(share: f64) -> u32 {
    u32::try_from(whole(share * f64::from(SLOTS))).unwrap_or(SLOTS).min(SLOTS)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

fn poisson(mean: f64, chance: &mut Chance) -> u64 {
    Poisson::new(mean).map_or(0, |poisson| whole(poisson.sample(chance)))
}

fn binomial(n: u64, p: f64, chance: &mut Chance) -> u64 {
    if n == 0 {
        return 0;
    }
    Binomial::new(n, p).map_or(0, |binomial| binomial.sample(chance))
}
