//! What operators and health checks do to a node.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir::dataplane::next_hop::{Change, NextHop};
use weir::health::Subject;
use weir::model::{BackendState, Rule, ServiceName, SpecFile, Version, Weight, parse_services};
use weir::node::messages::{
    Apply, ChangeOptions, InFlight, RollBack, ServiceShift, SetBackend, Settle, Shift, Steer,
};
use weir::node::{Error as NodeError, Owner};

use super::model::{Backend, Flow, Spec};
use super::world::{PORT, SEED, SERVICE, World};
use crate::program::AWAY;

impl World {
    pub(super) fn add(&mut self, version: usize, weight: u16) {
        let [high, low] = self.next_backend.to_be_bytes();
        self.next_backend += 1;
        let address: IpAddr = if self.setting.ipv6 {
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.next_backend).into()
        } else {
            Ipv4Addr::new(10, 0, high, low).into()
        };
        let at = (address, PORT).into();
        self.spec.backends[version].push(Backend { at, weight });
        self.versions.insert(at, u8::try_from(version).unwrap());
    }

    /// A backend by a number.
    pub(super) fn place(&self, number: u16) -> Option<(usize, usize)> {
        let places =
            |version: usize| (0..self.spec.backends[version].len()).map(move |p| (version, p));
        let all: Vec<(usize, usize)> = (0..3).flat_map(places).collect();
        all.get(usize::from(number) % all.len().max(1)).copied()
    }

    pub(super) fn listener(&self) -> SocketAddr {
        let address: IpAddr = if self.setting.ipv6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200).into()
        } else {
            Ipv4Addr::new(198, 51, 100, 1).into()
        };
        (address, PORT).into()
    }

    pub(super) fn yaml(&self) -> String {
        let mut text = format!("services:\n  - name: {SERVICE}\n    seed: \"");
        for byte in SEED {
            write!(text, "{byte:02x}").unwrap();
        }
        let at = self.listener();
        writeln!(text, "\"\n    listeners:").unwrap();
        writeln!(text, "      - {{ address: \"{}\", port: {PORT}, protocol: tcp }}", at.ip())
            .unwrap();
        if !self.spec.rules.is_empty() {
            writeln!(text, "    steering:").unwrap();
        }
        for (network, version) in &self.spec.rules {
            let version = Version::ALL[usize::from(*version)];
            let source = self.network(*network);
            writeln!(text, "      - {{ source: \"{source}\", version: {version} }}").unwrap();
        }
        writeln!(text, "    health: {{ type: tcp }}\n    versions:").unwrap();
        for (version, backends) in Version::ALL.into_iter().zip(&self.spec.backends) {
            let weight = self.spec.weights[version.index()];
            writeln!(text, "      {version}:\n        weight: {weight}\n        backends:")
                .unwrap();
            for Backend { at, weight } in backends {
                let (address, port) = (at.ip(), at.port());
                writeln!(
                    text,
                    "          - {{ address: \"{address}\", port: {port}, weight: {weight} }}"
                )
                .unwrap();
            }
            if backends.is_empty() {
                text.truncate(text.trim_end().len());
                text += " []\n";
            }
        }
        text
    }

    /// Makes the node what the spec says, unless that is refused; then what was before holds.
    pub(super) fn apply(&mut self, before: Spec) -> Result<(), String> {
        let file = SpecFile::parse(&self.yaml()).map_err(|error| error.to_string())?;
        let done = match parse_services(&file.services, false) {
            Ok(services) => {
                let apply = Apply { services, options: ChangeOptions::default() };
                self.owner().apply(&apply).map(drop)
            }
            Err(violations) => Err(NodeError::Invalid(violations)),
        };
        if !self.carried_out(done)? {
            self.spec = before;
        }
        self.tell_hops();
        Ok(())
    }

    /// Whether a request was carried out, or refused because it asks for what cannot be. Anything
    /// else is an error.
    pub(super) fn carried_out(&mut self, done: Result<(), NodeError>) -> Result<bool, String> {
        match done {
            Ok(()) => self.tally.changes += 1,
            Err(
                NodeError::Invalid(_)
                | NodeError::NoReadyBackend { .. }
                | NodeError::NothingToRollBack { .. },
            ) => {
                self.tally.refused += 1;
                return Ok(false);
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(true)
    }

    /// As the resolver does: every backend is behind one next hop.
    pub(super) fn tell_hops(&mut self) {
        let addresses: BTreeSet<IpAddr> = self.owner().addresses().as_ref().clone();
        let hop = NextHop::plain(AWAY, [2; 6], [4; 6]);
        let hops = addresses.into_iter().map(|address| Change::Hop(address, Some(hop))).collect();
        self.owner().follow(hops);
    }

    /// Says whether it was carried out.
    pub(super) fn shift(&mut self, weights: [u16; 3], in_flight: InFlight) -> Result<bool, String> {
        let mut set = Vec::new();
        for (version, bp) in Version::ALL.into_iter().zip(weights) {
            set.push((version, Weight::from_bp(bp.into()).ok_or("a weight above 10000")?));
        }
        let service = ServiceName::new(SERVICE)?;
        let shift =
            ServiceShift { service, set, remainder: Version::Blue, expected_generation: None };
        let (shifts, options) = (vec![shift], ChangeOptions::default());
        let shift = Shift { shifts, lease: None, in_flight, options };
        let done = self.owner().shift(&shift).map(drop);
        if self.carried_out(done)? {
            self.spec.weights = weights;
            self.rolled_back = false;
            return Ok(true);
        }
        Ok(false)
    }

    /// What versions without weight still had is void, unless rules lead to them.
    pub(super) fn abandon(&mut self, weights: [u16; 3]) -> Result<(), String> {
        if self.shift(weights, InFlight::Reset)? {
            let left = |flow: &Flow| {
                let version = self.versions[&flow.home];
                let led = self.spec.rules.values().any(|to| *to == version);
                weights[usize::from(version)] == 0 && !led
            };
            let (void, live) = std::mem::take(&mut self.live).into_iter().partition(left);
            self.live = live;
            let void: Vec<Flow> = void;
            self.tally.given_up += void.len() as u64;
            for (given_up, weight) in self.given_up.iter_mut().zip(weights) {
                *given_up |= weight == 0;
            }
        }
        Ok(())
    }

    pub(super) fn set_by_hand(&mut self, backend: u16, state: u8) -> Result<(), String> {
        let Some((version, place)) = self.place(backend) else { return Ok(()) };
        let at = self.spec.backends[version][place].at;
        let state =
            [BackendState::Active, BackendState::Draining, BackendState::Down][usize::from(state)];
        let options = ChangeOptions { force: true, ..ChangeOptions::default() };
        let service = ServiceName::new(SERVICE)?;
        let set = SetBackend { service, address: at.ip(), port: at.port(), state, options };
        let done = self.owner().set_backend(&set).map(drop);
        if self.carried_out(done)? {
            if state == BackendState::Active {
                self.spec.out.remove(&at);
            } else {
                self.spec.out.insert(at);
            }
        }
        Ok(())
    }

    /// The checks find that a backend has died, or that it is back. Those that run keep their flows.
    pub(super) fn check(&mut self, backend: u16, error: Option<&str>) -> Result<(), String> {
        let Some((version, place)) = self.place(backend) else { return Ok(()) };
        let at = self.spec.backends[version][place].at;
        let service = ServiceName::new(SERVICE)?;
        let (version, address, port) = (Version::ALL[version], at.ip(), at.port());
        self.checks.find(&Subject { service, version, address, port }, error);
        self.owner().hear();
        if error.is_some() {
            self.tally.deaths += 1;
            self.spec.dead.insert(at);
        } else {
            self.spec.dead.remove(&at);
        }
        Ok(())
    }

    /// Ends the transition by hand, once every flow has spoken and so is remembered.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let before = self.fallbacks();
        self.speak(u16::MAX)?;
        if self.fallbacks() > before {
            return Ok(());
        }
        let settle = Settle { service: ServiceName::new(SERVICE)?, dry_run: false, fence: None };
        self.owner().settle_now(&settle).map_err(|error| error.to_string())?;
        self.given_up = [false; 3];
        self.tally.settled += 1;
        Ok(())
    }

    pub(super) fn roll_back(&mut self) -> Result<(), String> {
        let roll_back = RollBack {
            in_flight: InFlight::default(),
            service: ServiceName::new(SERVICE)?,
            expected_generation: None,
            options: ChangeOptions::default(),
        };
        let done = self.owner().roll_back(&roll_back);
        let weights = done.as_ref().ok().map(|changed| {
            let change = &changed.changes[0];
            Version::ALL.map(|version| change.versions[version].asked)
        });
        if self.carried_out(done.map(drop))? {
            let weights = weights.ok_or("no weights")?;
            self.spec.weights = weights.map(|weight| u16::try_from(weight.bp()).unwrap());
            let mut led = self.spec.weights.iter().zip(self.given_up);
            self.rolled_back = !led.any(|(weight, given_up)| *weight > 0 && given_up);
            self.tally.rolled_back += 1;
        }
        Ok(())
    }

    pub(super) fn steer(&mut self, network: u8, version: Option<u8>) -> Result<(), String> {
        let source = self.network(network).parse().map_err(|_| "a network")?;
        let rule = |version: u8| Rule { source, version: Version::ALL[usize::from(version)] };
        let steer = Steer {
            service: ServiceName::new(SERVICE)?,
            add: version.map(rule).into_iter().collect(),
            remove: if version.is_none() { vec![source] } else { Vec::new() },
            expected_generation: None,
            options: ChangeOptions::default(),
        };
        let done = self.owner().steer(&steer).map(drop);
        match version {
            _ if !self.carried_out(done)? => None,
            Some(version) => {
                self.steered = true;
                self.spec.rules.insert(network, version)
            }
            None => self.spec.rules.remove(&network),
        };
        Ok(())
    }

    /// Another agent takes up what this one leaves.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let kernel = self.owner.take().ok_or("no owner")?.into_plane();
        let owner = Owner::start(kernel, self.store.clone()).map_err(|error| error.to_string())?;
        self.owner = Some(owner);
        let checks = self.checks.clone();
        self.owner().rely_on(checks);
        self.tell_hops();
        self.tally.restarts += 1;
        Ok(())
    }
}
