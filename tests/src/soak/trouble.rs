//! What happens, and when. All chance follows from the seed; what time it takes does not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Options;
use super::deaths::Deaths;
use super::flood::flood;
use super::load::Seen;
use crate::agent;
use crate::demo::Paint;
use crate::identity::Version;
use crate::lab::addresses::{ECHO_PORT, Family, client, vip};
use crate::lab::spec::ServiceSpec;
use crate::node::Node;
use crate::random::Random;

/// SYNs of one flood.
const FLOOD: u32 = 20_000;
/// Clients that a steering rule leads, out of the lab's.
const STEERED: usize = 500;

pub(super) const HEADER: &str = "    TIME  SHIFTS  RULES  BACKENDS  DEATHS  KILLS  RESTARTS  \
                                 SYNS FLOODED  LONG-LIVED  BROKEN  OF THE DEAD     NEW  FAILED  REMEMBERED";

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Other weights, for some services, in one commit.
    Shift,
    /// A steering rule comes or goes.
    Steer,
    /// A backend of each version is taken out, and another comes back.
    Backends,
    /// A backend dies, or comes back.
    Death,
    /// The agent is killed, and another starts.
    Kill,
    /// The agent stops in order, and another build of it takes over.
    Upgrade,
    /// SYNs from addresses that nobody has.
    Flood,
}

const EVENTS: [(Event, Duration); 7] = [
    (Event::Shift, Duration::from_millis(500)),
    (Event::Steer, Duration::from_secs(5)),
    (Event::Backends, Duration::from_secs(17)),
    (Event::Death, Duration::from_secs(6)),
    (Event::Kill, Duration::from_secs(20)),
    (Event::Upgrade, Duration::from_secs(60)),
    (Event::Flood, Duration::from_secs(60)),
];

pub(super) struct Trouble {
    chance: Random,
    services: Vec<ServiceSpec>,
    /// When each of [`EVENTS`] comes next.
    due: [Instant; EVENTS.len()],
    /// How often each came.
    count: [u64; EVENTS.len()],
    flooded: u64,
    deaths: Deaths,
    /// Rules that stand, by service.
    rules: Vec<(String, String)>,
    builds: [Option<PathBuf>; 2],
}

impl Trouble {
    pub(super) fn new(options: &Options, services: Vec<ServiceSpec>) -> Self {
        let now = Instant::now();
        Self {
            chance: Random(options.seed),
            services,
            // Not all at once: a flood falls between two kills.
            due: EVENTS.map(|(event, every)| match event {
                Event::Flood => now + every / 2,
                _ => now + every,
            }),
            count: [0; EVENTS.len()],
            flooded: 0,
            deaths: Deaths::default(),
            rules: Vec::new(),
            builds: [agent::binary().ok(), options.other.clone()],
        }
    }

    /// When something happens next.
    pub(super) fn next(&self) -> Instant {
        self.due.into_iter().min().unwrap_or_else(Instant::now)
    }

    /// Whether a connection that opens now may meet a backend of which nobody knows yet that it is
    /// dead.
    pub(super) fn is_fresh_death(&self) -> bool {
        self.deaths.is_fresh()
    }

    /// Lets happen what is due.
    pub(super) fn happen(&mut self, node: &mut Node) -> Result<()> {
        for (at, (event, every)) in EVENTS.into_iter().enumerate() {
            if self.due[at] > Instant::now() {
                continue;
            }
            self.due[at] = Instant::now() + every;
            self.count[at] += 1;
            match event {
                Event::Shift => self.shift(node)?,
                Event::Steer => self.steer(node)?,
                Event::Backends => self.change_backends(node)?,
                Event::Death => self.deaths.next(node.lab(), &mut self.chance)?,
                Event::Kill => {
                    node.take_agent()?.kill()?;
                    node.restart()?;
                }
                Event::Upgrade => {
                    node.take_agent()?.stop()?;
                    let options = node.options().clone();
                    let build = self.builds[usize::from(self.count[at] % 2 == 1)].clone();
                    node.restart_with(match build {
                        Some(path) => options.binary(&path),
                        None => options,
                    })?;
                }
                Event::Flood => {
                    let target = SocketAddr::new(vip(Family::V4, 0), ECHO_PORT);
                    self.flooded += u64::from(flood(node.lab(), target, FLOOD, &mut self.chance)?);
                }
            }
        }
        Ok(())
    }

    /// Everything to one version, a small share, or anything at all; for all services or for some.
    fn shift(&mut self, node: &mut Node) -> Result<()> {
        let weights = match self.chance.below(3) {
            0 => *self.chance.one(&[[10_000, 0, 0], [0, 10_000, 0], [0, 0, 10_000]]),
            1 => *self.chance.one(&[[9_500, 0, 500], [9_000, 500, 500], [3_400, 3_300, 3_300]]),
            _ => {
                let green = self.chance.half() % 10_001;
                let canary = self.chance.half() % (10_001 - green);
                [10_000 - green - canary, green, canary]
            }
        };
        let all = self.chance.percent(50);
        let mut names = Vec::new();
        for service in &mut self.services {
            if all || self.chance.percent(40) {
                service.weights = weights;
                names.push(service.name.as_str());
            }
        }
        if !names.is_empty() {
            node.shift(&names, weights)?;
        }
        Ok(())
    }

    /// Brings back whoever is dead.
    pub(super) fn end(&mut self, node: &Node) -> Result<()> {
        self.deaths.end(node.lab())
    }

    /// Leads some clients of a service to a version, or takes such a rule back.
    fn steer(&mut self, node: &mut Node) -> Result<()> {
        if self.rules.len() > 20 || self.chance.percent(30) && !self.rules.is_empty() {
            let (service, client) = self.rules.swap_remove(self.chance.below(self.rules.len()));
            node.lab().weir(&["steer", &service, "--remove", &client])?;
            return Ok(());
        }
        let service = &self.services[self.chance.below(self.services.len())];
        let index = u16::try_from(self.chance.below(STEERED))?;
        let family = Family::of(service.listener.ip());
        let client = format!("{}/{}", client(family, index), family.host_prefix());
        let version = self.chance.one(&Version::ALL);
        node.lab().weir(&["steer", &service.name, "--add", &format!("{client}={version}")])?;
        let rule = (service.name.clone(), client);
        if !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
        Ok(())
    }

    /// Takes another backend out of each version of one service, and brings back the one before.
    fn change_backends(&mut self, node: &mut Node) -> Result<()> {
        let chosen = self.chance.below(self.services.len());
        let mut service = self.services[chosen].clone();
        for backends in &mut service.backends {
            backends.remove(self.chance.below(backends.len()));
        }
        // An apply replaces the whole spec, its rules too.
        self.rules.retain(|(name, _)| *name != service.name);
        node.apply(&[service])?;
        Ok(())
    }

    /// What has happened so far, in a line.
    pub(super) fn line(&self, time: Duration, seen: &Seen, node: &mut Node) -> Result<String> {
        let paint = Paint::default();
        let count = |event| {
            let at = EVENTS.iter().position(|(one, _)| *one == event);
            at.map_or(0, |at| self.count[at])
        };
        let remembered = node.used("flows")?;
        let Seen { all, broken, of_the_dead, answered, failed } = *seen;
        Ok(paint.dim(format!(
            "{:>6} s {:>7} {:>6} {:>9} {:>7} {:>6} {:>9} {:>13} {all:>11} {broken:>7} \
             {of_the_dead:>12} {answered:>7} {failed:>7} {remembered:>11}",
            time.as_secs(),
            count(Event::Shift),
            count(Event::Steer),
            count(Event::Backends),
            self.deaths.count,
            count(Event::Kill),
            count(Event::Upgrade),
            self.flooded,
        )))
    }
}
