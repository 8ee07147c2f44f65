//! Releases with nothing wrong, of all kinds; and faults to be found.

use rand::RngExt;

use super::world::{Chance, Fault, Incident, Node, Release, Storm, chance};

/// How long a good release is watched, in seconds.
pub const WATCHED: f64 = 1_800.0;

/// A good release, by its number: one to four agents of quite different load, failures from one in
/// ten thousand to one in fifty, of three clients to a hundred thousand; a ramp up to half of the connections; in two of three an incident or
/// two, many of them in the midst of the ramp; in two of three storms of clients.
#[must_use]
pub fn good(number: u64, tick: f64) -> Release {
    let mut chance = chance(number);
    let random = &mut chance;
    let count = random.random_range(1..=4);
    let agents: Vec<Node> = (0..count).map(|_| node(random)).collect();
    let by_client = random.random_bool(0.3);
    let incidents = (0..random.random_range(0..=2)).map(|_| incident(count, random)).collect();
    let storms = (0..random.random_range(0..=2)).map(|_| storm(count, by_client, random)).collect();
    let step = random.random_range(120.0..420.0);
    let shares = [0.01, 0.05, 0.25, 0.5];
    let ramp = (0..).map(f64::from).zip(shares).map(|(at, share)| (at * step, share)).collect();
    Release {
        tick,
        agents,
        ramp,
        incidents,
        storms,
        by_client,
        fault: Fault::None,
        fault_from: 0.0,
    }
}

/// From a low value to a high one, each order of magnitude alike.
fn spread(random: &mut Chance, low: f64, high: f64) -> f64 {
    low * (random.random::<f64>() * (high / low).ln()).exp()
}

fn node(random: &mut Chance) -> Node {
    Node {
        rate: spread(random, 10.0, 2_000.0),
        failing: spread(random, 1e-4, 2e-2),
        resets: spread(random, 1e-4, 1e-2),
        clients: spread(random, 3.0, 1e5),
    }
}

fn incident(agents: usize, random: &mut Chance) -> Incident {
    let from = random.random_range(0.0..1_500.0);
    let length = random.random_range(10.0..300.0);
    let agent = random.random_bool(0.5).then(|| random.random_range(0..agents));
    let times = spread(random, 5.0, 200.0);
    Incident { agent, time: (from, from + length), times, doublings: random.random_range(0..=2) }
}

/// Where connections go by their own hash, it may last; where a client stays with one version, its
/// failures count once a second, so that it must end before it looks like many.
fn storm(agents: usize, by_client: bool, random: &mut Chance) -> Storm {
    let from: f64 = random.random_range(0.0..1_500.0);
    let length =
        if by_client { random.random_range(1.0..4.0) } else { random.random_range(5.0..120.0) };
    Storm {
        agent: random.random_range(0..agents),
        time: (from.floor(), from.floor() + length),
        rate: spread(random, 5.0, 1_000.0),
        of_candidate: random.random_bool(0.5),
    }
}

/// The load of the detection times: one agent with 5 % for the candidate, where one connection in 500
/// fails.
#[must_use]
pub fn faulty(rate: f64, fault: Fault) -> Release {
    Release { fault, ..Release::calm(rate, 0.05, 0.002) }
}
