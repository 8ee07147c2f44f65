//! The connections, new and long-lived, and what became of them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::deaths::{CHECK, is_mortal};
use crate::lab::Lab;
use crate::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use crate::lab::spec::{Protocol, ServiceSpec};
use crate::load::fresh::{Fresh, FreshPlan};
use crate::load::long_lived::{Connection, LongLived, LongLivedPlan, LongLivedState};

/// UDP flows, of both families together.
pub(super) const UDP_FLOWS: u32 = 400;
/// Pause between two lines of a connection that talks.
const PACE: Duration = Duration::from_secs(4);
/// A connection without an echo for so long has stalled. TCP sends again well before.
const STALL: Duration = Duration::from_secs(15);
/// Long-lived connections that begin anew each time the load is refreshed.
const LATER: u32 = 20;
/// The same over both families.
pub(super) const LATER_IN_ALL: u64 = 2 * LATER as u64;

/// The services: of each family one for new connections, one for long-lived ones and one for UDP flows.
/// The long-lived ones' backends are checked; over IPv6 those that are down are given up.
pub(super) fn services(lab: &Lab) -> Vec<ServiceSpec> {
    let mut services = Vec::new();
    for family in Family::ALL {
        let at = |port| SocketAddr::new(vip(family, 0), port);
        for (name, listener, protocol) in [
            ("web", at(HTTP_PORT), Protocol::Tcp),
            ("echo", at(ECHO_PORT), Protocol::Tcp),
            ("udp", at(ECHO_PORT), Protocol::Udp),
        ] {
            let mut service = lab.service(&format!("{name}{}", suffix(family)), listener, protocol);
            if name == "echo" {
                let on_down = if family == Family::V4 { "keep" } else { "reset" };
                service = service.with(&format!("health: {{ {CHECK} {on_down} }}"));
            } else {
                // Nobody checks those that may die, so they are not among the backends.
                service.backends.iter_mut().for_each(|all| all.retain(|a| !is_mortal(lab, *a)));
            }
            services.push(service.weights([3_400, 3_300, 3_300]));
        }
    }
    services
}

fn suffix(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

/// The clients.
pub(super) struct Load {
    long_lived: Vec<LongLived>,
    fresh: Vec<Fresh>,
}

/// How the clients fare.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Long-lived connections and flows: all, those that broke without excuse, and those that broke
    /// on a backend that may die.
    pub(super) all: usize,
    pub(super) broken: usize,
    pub(super) of_the_dead: usize,
    /// New connections, answered and failed.
    pub(super) answered: u64,
    pub(super) failed: u64,
}

impl Load {
    pub(super) fn start(lab: &Lab, options: &Options) -> Result<Self> {
        let mut load = Self { long_lived: Vec::new(), fresh: Vec::new() };
        for family in Family::ALL {
            load.open(lab, family, Protocol::Tcp, options.connections / 2)?;
            load.open(lab, family, Protocol::Udp, UDP_FLOWS / 2)?;
            let target = SocketAddr::new(vip(family, 0), HTTP_PORT);
            let plan = FreshPlan::new(target, lab.client_addresses(family));
            let plan = plan.rate(options.rate.div_ceil(2)).limit(STALL);
            load.fresh.push(Fresh::start(lab.clients(), plan)?);
        }
        Ok(load)
    }

    fn open(&mut self, lab: &Lab, family: Family, protocol: Protocol, count: u32) -> Result<()> {
        let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
        // An idle UDP flow ends after 30 s of silence, so all of those talk.
        let silent = if protocol == Protocol::Tcp { count / 3 } else { 0 };
        let plan = LongLivedPlan::new(target, lab.client_addresses(family), count);
        let plan = plan.protocol(protocol).talking(count - silent, PACE).stall_after(STALL);
        let opened = LongLived::open(lab.clients(), plan)?;
        opened.state().check()?;
        self.long_lived.push(opened);
        Ok(())
    }

    /// Opens some more connections, which begin in the midst of a transition.
    pub(super) fn refresh(&mut self, lab: &Lab) -> Result<()> {
        for family in Family::ALL {
            self.open(lab, family, Protocol::Tcp, LATER)?;
        }
        Ok(())
    }

    pub(super) fn seen(&self, lab: &Lab) -> Seen {
        let mut seen = Seen::default();
        for state in self.long_lived.iter().map(LongLived::state) {
            seen.all += state.connections.len();
            let excused = excused(lab, &state);
            seen.broken += state.connections.len() - state.healthy() - excused;
            seen.of_the_dead += excused;
        }
        for counts in self.fresh.iter().map(Fresh::counts) {
            seen.answered += counts.answered();
            seen.failed += counts.failed();
        }
        seen
    }

    /// Ends the new connections, speaks on every long-lived one, the silent ones too, and gives what
    /// is broken.
    pub(super) fn verify(&mut self, lab: &Lab) -> Vec<String> {
        let stop = |load: Fresh| load.stop().and_then(|counts| counts.check()).err();
        let fresh: Vec<_> = self.fresh.drain(..).filter_map(stop).collect();
        let of_the_living = |load: &LongLived| {
            let mut state = load.verify();
            state.connections.retain(|one| !is_excused(lab, one));
            state.check().err()
        };
        let long_lived = self.long_lived.iter().filter_map(of_the_living);
        long_lived.chain(fresh).map(|error| error.to_string()).collect()
    }
}

/// Whether a connection is broken, but was on a backend that may die.
fn is_excused(lab: &Lab, connection: &Connection) -> bool {
    let there = connection.identity.is_some_and(|identity| is_mortal(lab, identity.address));
    there && connection.fault.is_some()
}

fn excused(lab: &Lab, state: &LongLivedState) -> usize {
    state.connections.iter().filter(|connection| is_excused(lab, connection)).count()
}
