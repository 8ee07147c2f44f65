//! What `weir top` shows: messages and keys in, state out. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::history::History;
use crate::model::{Handshakes, PerVersion, Traffic, Version};
use crate::node::events::{Events, Recorded};
use crate::node::interval::{Delta, VersionInterval};
use crate::node::messages::{DrainStatus, NodeStatus, Sample, ServiceStatus, VersionCounters};

/// Events that are kept, the newest.
const EVENTS: usize = 200;
/// The longest filter that can be typed.
const FILTER: usize = 63;

/// What the feed tells.
#[derive(Debug)]
pub(super) enum Message {
    /// A look at everything.
    Look(Box<Look>),
    /// What happened.
    Events(Events),
    /// The agent was lost; the reason. It is looked for again.
    Lost(String),
}

/// A look at everything, at one moment.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) services: Vec<ServiceStatus>,
    pub(super) sample: Sample,
    pub(super) drains: Vec<DrainStatus>,
    pub(super) node: NodeStatus,
}

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    First,
    Last,
    Enter,
    Escape,
    Erase,
    Char(char),
    /// Ctrl-C.
    Interrupt,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

/// What services are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Name,
    /// The most new connections first.
    Rate,
    /// The least success first.
    Success,
    /// The slowest version's handshakes first.
    Latency,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "conn/s",
            Self::Success => "success",
            Self::Latency => "p99",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Success,
            Self::Success => Self::Latency,
            Self::Latency => Self::Name,
        }
    }
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum View {
    /// All services.
    #[default]
    List,
    /// The same, while the filter is typed.
    Filter,
    /// One service, with its backends.
    Detail,
}

/// Everything that the screen is drawn from.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) look: Option<Look>,
    pub(super) events: VecDeque<Recorded>,
    /// Why there is no agent at the moment.
    pub(super) lost: Option<String>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) view: View,
    pub(super) paused: bool,
    pub(super) help: bool,
    selected: Option<String>,
    history: BTreeMap<String, PerVersion<History>>,
}

impl State {
    /// Takes note of a message.
    pub(super) fn hear(&mut self, message: Message) {
        match message {
            Message::Lost(why) => self.lost = Some(why),
            Message::Look(_) if self.paused => self.lost = None,
            Message::Look(look) => self.see(*look),
            Message::Events(found) => {
                self.events.extend(found.events);
                self.events.drain(..self.events.len().saturating_sub(EVENTS));
            }
        }
    }

    fn see(&mut self, look: Look) {
        self.lost = None;
        let counted = &look.sample.counters.services;
        self.history.retain(|name, _| counted.iter().any(|one| one.service.as_str() == name));
        for one in counted {
            let history = self.history.entry(one.service.to_string()).or_default();
            let within = look.sample.interval.as_ref().and_then(|within| within.of(&one.service));
            for (version, history) in history.iter_mut() {
                history.push(within.map(|within| &within.versions[version].delta));
            }
        }
        self.look = Some(look);
        if self.selected().is_none() {
            self.selected = self.visible().first().map(|one| one.spec.name.clone());
            if self.view == View::Detail {
                self.view = View::List;
            }
        }
    }

    /// Does what a key asks for.
    pub(super) fn press(&mut self, key: Key) -> Flow {
        if key == Key::Interrupt {
            return Flow::Quit;
        }
        if self.help {
            self.help = false;
            return Flow::GoOn;
        }
        if self.view == View::Filter {
            self.type_filter(key);
            return Flow::GoOn;
        }
        match key {
            Key::Char('q') => return Flow::Quit,
            Key::Char('?' | 'h') => self.help = true,
            Key::Char('/') => self.view = View::Filter,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char(' ') => self.paused = !self.paused,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::First | Key::Char('g') => self.step(isize::MIN),
            Key::Last | Key::Char('G') => self.step(isize::MAX),
            Key::Enter if self.selected().is_some() => self.view = View::Detail,
            Key::Escape | Key::Erase if self.view == View::Detail => self.view = View::List,
            Key::Escape => self.filter.clear(),
            _ => {}
        }
        Flow::GoOn
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.view = View::List,
            Key::Escape => {
                self.view = View::List;
                self.filter.clear();
            }
            Key::Erase => drop(self.filter.pop()),
            Key::Char(letter) if !letter.is_control() && self.filter.len() < FILTER => {
                self.filter.extend(letter.to_lowercase());
            }
            _ => {}
        }
        if self.place().is_none() {
            self.step(0);
        }
    }

    /// Selects another of those that are shown; the first if the selected one is not.
    fn step(&mut self, by: isize) {
        let place = self.place().map_or(0, |at| at.saturating_add_signed(by));
        let visible = self.visible();
        let chosen = visible.get(place.min(visible.len().saturating_sub(1)));
        if let Some(chosen) = chosen.map(|one| one.spec.name.clone()) {
            self.selected = Some(chosen);
        }
    }

    /// The services that are shown, in their order.
    pub(super) fn visible(&self) -> Vec<&ServiceStatus> {
        let all = self.look.iter().flat_map(|look| &look.services);
        let mut chosen: Vec<_> = all
            .filter(|one| self.filter.is_empty() || one.spec.name.contains(&self.filter))
            .collect();
        let float = |a: f64, b: f64| a.total_cmp(&b);
        let deltas = |one: &ServiceStatus| {
            let deltas = Version::ALL.map(|version| self.within(&one.spec.name, version));
            deltas.into_iter().flatten().map(|one| &one.delta).collect::<Vec<_>>()
        };
        let rate = |one: &ServiceStatus| deltas(one).iter().map(|one| one.connections_per_s).sum();
        let success = |one: &ServiceStatus| {
            deltas(one).iter().filter_map(|one| one.success).fold(2.0, f64::min)
        };
        let slowest = |one: &ServiceStatus| {
            deltas(one).iter().filter_map(|one| one.handshakes.quantile(0.99)).max()
        };
        // Stable: what is equal stays by name.
        match self.sort {
            Sort::Name => {}
            Sort::Rate => chosen.sort_by(|a, b| float(rate(b), rate(a))),
            Sort::Success => chosen.sort_by(|a, b| float(success(a), success(b))),
            Sort::Latency => chosen.sort_by_key(|one| Reverse(slowest(one))),
        }
        chosen
    }

    /// The selected service, unless it is gone.
    pub(super) fn selected(&self) -> Option<&ServiceStatus> {
        let wanted = self.selected.as_ref()?;
        self.look.as_ref()?.services.iter().find(|one| one.spec.name == *wanted)
    }

    /// Where the selected service is among those that are shown.
    pub(super) fn place(&self) -> Option<usize> {
        let wanted = self.selected.as_ref()?;
        self.visible().iter().position(|one| one.spec.name == *wanted)
    }

    /// What a version has done since the last look.
    pub(super) fn within(&self, service: &str, version: Version) -> Option<&VersionInterval> {
        let interval = self.look.as_ref()?.sample.interval.as_ref()?;
        let found = interval.services.iter().find(|one| one.service.as_str() == service);
        Some(&found?.versions[version])
    }

    /// What a version has done since the counters began.
    pub(super) fn counted(&self, service: &str, version: Version) -> Option<&VersionCounters> {
        let all = &self.look.as_ref()?.sample.counters.services;
        Some(&all.iter().find(|one| one.service.as_str() == service)?.versions[version])
    }

    /// How a version has done for some time.
    pub(super) fn history(&self, service: &str, version: Version) -> Option<&History> {
        Some(&self.history.get(service)?[version])
    }

    /// The sum over all versions of all services.
    pub(super) fn total(&self) -> Delta {
        let interval = self.look.as_ref().and_then(|look| look.sample.interval.as_ref());
        let mut traffic = Traffic::default();
        let versions =
            interval.iter().flat_map(|one| &one.services).flat_map(|one| one.versions.iter());
        for (_, version) in versions {
            traffic.add(&version.delta.traffic);
        }
        let length = interval.map(|one| one.length).unwrap_or_default();
        Delta::new(traffic, Handshakes::default(), length)
    }
}
