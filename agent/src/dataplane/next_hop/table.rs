//! What is known of each wanted address, what to ask the kernel next, and what to tell.
//!
//! Pure: the kernel's answers and the time come in, questions and changes go out.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::link::{Links, below};
use super::{Change, Device, Mac, NextHop};

/// How many neighbours one round has the kernel ask for: an ARP or ND broadcast each.
const POKES_A_ROUND: usize = 64;
/// How many neighbour events are kept apart; more in one go mean "look at everything".
const HINTS: usize = 1024;
/// A neighbour that was never found is asked for after 1, 2, 4, … seconds, at most this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A known neighbour is looked at this often at least, plus up to [`SPREAD_MS`].
const KEEP: Duration = Duration::from_secs(15);
/// Spreads the looks at many neighbours over time, milliseconds.
const SPREAD_MS: u64 = 10_000;

/// Where the kernel's route sends an address: a neighbour on an interface. The neighbour is the
/// gateway or the address itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target {
    /// Index of the output interface.
    pub(super) interface: u32,
    /// Address to find by ARP or ND; an IPv4 route may have an IPv6 gateway.
    pub(super) address: IpAddr,
}

/// What the kernel's route to an address says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Where it leads.
    pub(super) via: Target,
    /// Largest IP packet for it, in bytes. Zero: what the interface takes.
    pub(super) mtu: u32,
}

/// What the kernel's neighbour table says of a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// No entry, or the kernel has asked in vain.
    Missing,
    /// The kernel is asking.
    Asked,
    /// Verified lately, or being verified without our doing.
    Fresh(Mac),
    /// Known, but not verified lately. Redirected packets are invisible to the kernel's table, so
    /// without a poke it would stay like this until collected.
    Stale(Mac),
    /// Permanent, or on an interface without ARP: never verified. A poke would even make a
    /// permanent entry an ordinary one.
    Fixed(Mac),
}

impl Neighbour {
    fn mac(self) -> Option<Mac> {
        match self {
            Neighbour::Missing | Neighbour::Asked => None,
            Neighbour::Fresh(mac) | Neighbour::Stale(mac) | Neighbour::Fixed(mac) => Some(mac),
        }
    }
}

/// What may have changed since the last look. Events are only hints: the truth is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// Links, addresses or routes have changed, or events were lost.
    pub(super) everything: bool,
    /// These neighbours have changed; at most [`HINTS`].
    pub(super) neighbours: BTreeSet<Target>,
    /// The event socket is gone.
    pub(super) closed: bool,
}

impl Hints {
    /// Adds a neighbour that has changed.
    pub(super) fn add(&mut self, target: Target) {
        if self.neighbours.len() < HINTS {
            self.neighbours.insert(target);
        } else {
            self.everything = true;
        }
    }
}

/// Wanted addresses; for each the number of the call that first wanted it. An address that left
/// and came back has a new number, and so its next hop is told again.
pub(super) type Wanted = BTreeMap<IpAddr, u64>;

/// One wanted address.
#[derive(Debug)]
struct Address {
    since: u64,
    /// The route has to be asked for.
    ask: bool,
    route: Option<Route>,
    /// Whether `hop` was ever told.
    told: bool,
    /// The hop last told.
    hop: Option<NextHop>,
}

/// One neighbour that wanted addresses go through.
#[derive(Debug)]
struct Watched {
    neighbour: Neighbour,
    /// The neighbour's entry has to be asked for.
    ask: bool,
    /// Pokes in a row without an answer.
    pokes: u32,
    /// When to look again, and poke if need be.
    due: Option<Instant>,
}

/// All that is known. Its size is bounded by the wanted addresses and the node's interfaces.
#[derive(Debug, Default)]
pub(super) struct Table {
    links: Links,
    devices_told: bool,
    locals: BTreeSet<IpAddr>,
    locals_told: bool,
    wanted: BTreeMap<IpAddr, Address>,
    targets: BTreeMap<Target, Watched>,
}

impl Table {
    /// Takes the wanted addresses, whole.
    pub(super) fn want(&mut self, wanted: &Wanted) {
        self.wanted.retain(|address, known| wanted.get(address) == Some(&known.since));
        for (&address, &since) in wanted {
            self.wanted.entry(address).or_insert(Address {
                since,
                ask: true,
                route: None,
                told: false,
                hop: None,
            });
        }
    }

    /// Marks what has to be asked for again.
    pub(super) fn mark(&mut self, hints: &Hints) {
        if hints.everything {
            self.wanted.values_mut().for_each(|address| address.ask = true);
            self.targets.values_mut().for_each(|watched| watched.ask = true);
        }
        for target in &hints.neighbours {
            if let Some(watched) = self.targets.get_mut(target) {
                watched.ask = true;
            }
        }
    }

    /// Takes the node's interfaces, whole.
    pub(super) fn links(&mut self, links: Links) {
        self.devices_told &= devices(&self.links).eq(devices(&links));
        self.links = links;
    }

    /// Takes the node's own addresses.
    pub(super) fn locals(&mut self, locals: BTreeSet<IpAddr>) {
        self.locals_told &= self.locals == locals;
        self.locals = locals;
    }

    /// The addresses whose route has to be asked for.
    pub(super) fn routes_to_ask(&self) -> Vec<IpAddr> {
        self.wanted.iter().filter(|(_, known)| known.ask).map(|(address, _)| *address).collect()
    }

    /// Takes the routes asked for. A way out of an interface that carries no frames is none.
    pub(super) fn routes(&mut self, routes: &BTreeMap<IpAddr, Option<Route>>, now: Instant) {
        for (address, route) in routes {
            let Some(known) = self.wanted.get_mut(address) else { continue };
            known.ask = false;
            let carries = |route: &Route| {
                self.links.get(&route.via.interface).is_some_and(|link| link.mac.is_some())
            };
            known.route = route.filter(carries);
        }
        let routes = self.wanted.values().filter_map(|known| known.route);
        let used: BTreeSet<Target> = routes.map(|route| route.via).collect();
        self.targets.retain(|target, _| used.contains(target));
        for target in used {
            self.targets.entry(target).or_insert(Watched {
                neighbour: Neighbour::Missing,
                ask: true,
                pokes: 0,
                due: Some(now),
            });
        }
    }

    /// The neighbours to ask for: all marked ones, and a bounded number of those that are due.
    pub(super) fn neighbours_to_ask(&self, now: Instant) -> Vec<Target> {
        let marked = self.targets.iter().filter(|(_, watched)| watched.ask);
        let due = self.targets.iter().filter(|(_, watched)| !watched.ask && watched.is_due(now));
        marked.chain(due.take(POKES_A_ROUND)).map(|(target, _)| *target).collect()
    }

    /// Takes the answer about one neighbour.
    pub(super) fn neighbour(&mut self, target: Target, neighbour: Neighbour, now: Instant) {
        if let Some(watched) = self.targets.get_mut(&target) {
            watched.learn(neighbour, now, keep(target));
        }
    }

    /// The neighbours that the kernel should verify now. Each counts as poked from here on.
    pub(super) fn pokes(&mut self, now: Instant) -> Vec<Target> {
        self.targets
            .iter_mut()
            .filter_map(|(target, watched)| watched.poke(now, keep(*target)).then_some(*target))
            .take(POKES_A_ROUND)
            .collect()
    }

    /// When the next look is due, if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.targets.values().filter_map(|watched| watched.due).min()
    }

    /// What differs from what was told; it counts as told from here on.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.locals_told {
            self.locals_told = true;
            changes.push(Change::Locals(self.locals.clone()));
        }
        if !self.devices_told {
            self.devices_told = true;
            let devices = devices(&self.links).map(|(index, device)| (index, device.clone()));
            changes.push(Change::Devices(devices.collect()));
        }
        for (address, known) in &mut self.wanted {
            let hop = known.route.and_then(|route| hop(route, &self.links, &self.targets));
            if !known.told || known.hop != hop {
                known.told = true;
                known.hop = hop;
                changes.push(Change::Hop(*address, hop));
            }
        }
        changes
    }
}

fn hop(route: Route, links: &Links, targets: &BTreeMap<Target, Watched>) -> Option<NextHop> {
    let interface = route.via.interface;
    let link = links.get(&interface)?;
    let mac = targets.get(&route.via)?.neighbour.mac()?;
    let (lower, tags) = below(links, interface);
    let mtu = match (link.mtu, route.mtu) {
        (0, mtu) | (mtu, 0) => mtu,
        (own, set) => own.min(set),
    };
    Some(NextHop { interface, lower, mtu, tags, interface_mac: link.mac?, mac })
}

fn devices(links: &Links) -> impl Iterator<Item = (u32, &Device)> {
    links.iter().map(|(index, link)| (*index, &link.device))
}

impl Watched {
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    fn learn(&mut self, neighbour: Neighbour, now: Instant, keep: Duration) {
        let was_known = self.neighbour.mac().is_some();
        self.neighbour = neighbour;
        self.ask = false;
        if neighbour.mac().is_some() {
            self.pokes = 0;
        }
        self.due = match neighbour {
            Neighbour::Fixed(_) => None,
            Neighbour::Fresh(_) => Some(now + keep),
            // What was due stays due.
            Neighbour::Stale(_) => Some(self.due.unwrap_or(now).min(now + keep)),
            Neighbour::Asked => Some(now + wait(self.pokes)),
            // Just lost, or flushed: try at once; after that, ever more rarely.
            Neighbour::Missing if was_known => Some(now),
            Neighbour::Missing => Some(self.due.unwrap_or(now)),
        };
    }

    fn poke(&mut self, now: Instant, keep: Duration) -> bool {
        if self.ask || !self.is_due(now) {
            return false;
        }
        match self.neighbour {
            Neighbour::Missing => {
                self.pokes = self.pokes.saturating_add(1);
                self.due = Some(now + wait(self.pokes));
                true
            }
            Neighbour::Stale(_) => {
                self.due = Some(now + keep);
                true
            }
            Neighbour::Asked | Neighbour::Fresh(_) | Neighbour::Fixed(_) => false,
        }
    }
}

/// How long to wait after this many pokes in vain.
fn wait(pokes: u32) -> Duration {
    Duration::from_secs(1 << pokes.saturating_sub(1).min(6)).min(LONGEST_WAIT)
}

/// How long a known neighbour is left alone. Differs by neighbour, so that many found at one time
/// are not verified at one time.
fn keep(target: Target) -> Duration {
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    KEEP + Duration::from_millis(hasher.finish() % SPREAD_MS)
}

#[cfg(test)]
mod tests;
