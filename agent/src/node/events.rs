//! What happened on the node: a bounded log, of which the newest events are kept.
//!
//! Whoever changes something pushes one [`Event`]; that writes it to the agent's log, too. Pure but
//! for that and for the clock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use tokio::sync::watch;

use super::Caller;
use super::messages::{RequestId, rfc3339};
use crate::model::ServiceName;

/// Events that are kept. The oldest is forgotten.
pub const KEPT: usize = 1_024;
/// The most characters of an event's sentence; what is longer is cut.
const MAX_TEXT: usize = 1_000;

/// Declares the kinds, each in one place: what it means and its stable name.
macro_rules! kinds {
    ($($(#[$meaning:meta])+ $kind:ident = $name:literal,)+) => {
        /// What kind of thing happened. `docs/events.md` lists them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$meaning])+ $kind,)+
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// The name in answers and on the command line. It never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A service was created.
    Created = "created",
    /// A service's spec was replaced.
    Applied = "applied",
    /// Weights were shifted.
    Shifted = "shifted",
    /// Steering rules were changed.
    Steered = "steered",
    /// A service was removed.
    Deleted = "deleted",
    /// The last settled weights of a service were restored.
    RolledBack = "rolled-back",
    /// The lease on a service's weights was renewed.
    LeaseRenewed = "lease-renewed",
    /// A lease ran out: the weights stay or went back.
    LeaseExpired = "lease-expired",
    /// A transition has settled: `base` became `cur`.
    Settled = "settled",
    /// A removed backend was released: no slot and no flow names it any more.
    Drained = "drained",
    /// An agent that started applied what was stored.
    Restored = "restored",
    /// An operator has drained a backend, taken it down or taken it back.
    BackendSet = "backend-set",
    /// A drain has lasted for longer than its service allows.
    DrainOver = "drain-over",
    /// A backend is down, as its health check says.
    BackendDown = "backend-down",
    /// A backend is up again.
    BackendUp = "backend-up",
    /// A version has no backend left that takes connections.
    VersionEmpty = "version-empty",
    /// A version has such a backend again.
    VersionServed = "version-served",
    /// An agent watches a version by a limit.
    GuardSet = "guard-set",
    /// It does so no longer.
    GuardCleared = "guard-cleared",
    /// A version has broken its guard: its weight is the others'.
    GuardTripped = "guard-tripped",
    /// The state could not be stored.
    StoreFailed = "store-failed",
    /// New TLS files are in use.
    CertificatesReloaded = "certificates-reloaded",
    /// New TLS files cannot be used; those before are.
    CertificatesRefused = "certificates-refused",
}

impl Kind {
    /// Whether somebody should look: such events are warnings in the agent's log.
    #[must_use]
    pub const fn warns(self) -> bool {
        matches!(
            self,
            Self::DrainOver
                | Self::LeaseExpired
                | Self::StoreFailed
                | Self::BackendDown
                | Self::VersionEmpty
                | Self::CertificatesRefused
                | Self::GuardTripped
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of event")]
pub struct NotAKind(String);

impl FromStr for Kind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.iter().find(|kind| kind.name() == text);
        named.copied().ok_or_else(|| NotAKind(text.to_owned()))
    }
}

/// What happened, before the log gives it a number and a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The service; none if the whole node is meant.
    pub service: Option<ServiceName>,
    /// Its kind.
    pub kind: Kind,
    /// A sentence for people, with what was before and what is now.
    pub text: String,
    /// The id of the request that asked for it, if it had one.
    pub request_id: Option<RequestId>,
    /// Who asked for it, if somebody did: `uid 0 pid 1234 (weir)`, or `coordinator-1 (shifter)` over
    /// TLS.
    pub who: Option<String>,
    /// What was before and what is now, where that can be said of a change. For the agent's log.
    #[serde(skip)]
    pub change: Option<[String; 2]>,
}

impl Event {
    /// An event of the whole node.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { service: None, kind, text: text.into(), request_id: None, who: None, change: None }
    }

    /// The same, of one service.
    #[must_use]
    pub fn of(self, service: &ServiceName) -> Self {
        Self { service: Some(service.clone()), ..self }
    }

    /// The same, with what was before and what is now.
    #[must_use]
    pub fn from_to(self, before: String, after: String) -> Self {
        Self { change: Some([before, after]), ..self }
    }

    /// The same, asked for by a request.
    #[must_use]
    pub fn asked_by(self, request_id: Option<&RequestId>) -> Self {
        Self { request_id: request_id.cloned(), ..self }
    }
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Its number: grows by one with each event, from 1, and is never reused within an epoch.
    pub id: u64,
    /// When it happened; RFC 3339 in JSON.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Only those after this one.
    pub since: u64,
    /// The epoch that `since` is of. If the log has another one, all events are wanted.
    pub epoch: Option<u64>,
    /// Only those of this service.
    pub service: Option<ServiceName>,
}

/// Events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Begins with the agent: ids of another epoch name other events.
    pub epoch: u64,
    /// Events that were wanted, of whatever service, and are no longer kept.
    pub lost: u64,
    /// The newest id of the log, of whatever service: what to go on from.
    pub last_id: u64,
    /// At most [`KEPT`].
    pub events: Vec<Recorded>,
}

/// A look at the log.
#[derive(Debug)]
pub struct Look {
    /// What was found.
    pub events: Events,
    /// Tells the newest id, as it grows.
    pub news: watch::Receiver<u64>,
    /// Events of each kind since the agent started; kinds without any are left out.
    pub totals: BTreeMap<Kind, u64>,
}

/// The log.
#[derive(Debug)]
pub struct Log {
    epoch: u64,
    kept: VecDeque<Recorded>,
    /// Every event up to this one is no longer kept.
    forgotten: u64,
    /// The newest id.
    news: watch::Sender<u64>,
    totals: BTreeMap<Kind, u64>,
    /// Who asks for what is happening.
    caller: Option<Caller>,
}

impl Log {
    /// An empty log. `epoch`: nanoseconds since 1970.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            kept: VecDeque::new(),
            forgotten: 0,
            news: watch::Sender::new(0),
            totals: BTreeMap::new(),
            caller: None,
        }
    }

    /// Says who asks for what happens from now on.
    pub fn set_caller(&mut self, caller: Option<Caller>) {
        self.caller = caller;
    }

    /// Records an event, here and in the agent's log: the one place where a change is logged.
    pub fn push(&mut self, mut event: Event) {
        event.who = self.caller.as_ref().map(ToString::to_string);
        let service = event.service.as_ref().map(ServiceName::as_str);
        let request = event.request_id.as_ref().map(RequestId::as_str);
        let (kind, who) = (event.kind.name(), event.who.as_deref());
        let change = event.change.as_ref();
        let (before, after) = change.map(|[a, b]| (a.as_str(), b.as_str())).unzip();
        if event.kind.warns() {
            tracing::warn!(service, request, kind, who, before, after, "{}", event.text);
        } else {
            tracing::info!(service, request, kind, who, before, after, "{}", event.text);
        }
        self.record(event, SystemTime::now());
    }

    fn record(&mut self, mut event: Event, time: SystemTime) {
        if let Some((end, _)) = event.text.char_indices().nth(MAX_TEXT) {
            event.text.truncate(end);
            event.text.push('…');
        }
        *self.totals.entry(event.kind).or_default() += 1;
        if event.kind == Kind::LeaseRenewed {
            // Leases are renewed all the time: only the last renewal of each service is worth its place.
            let superseded = |one: &Recorded| {
                (one.event.kind, &one.event.service) == (event.kind, &event.service)
            };
            self.kept.retain(|one| !superseded(one));
        }
        if self.kept.len() == KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            self.forgotten = oldest.id;
        }
        let id = *self.news.borrow() + 1;
        self.kept.push_back(Recorded { id, time, event });
        self.news.send_replace(id);
    }

    /// The events that are wanted, as far as they are kept.
    #[must_use]
    pub fn look(&self, query: &EventQuery) -> Look {
        let last_id = *self.news.borrow();
        // An id that was never given is one of an earlier agent's.
        let known = query.epoch.is_none_or(|epoch| epoch == self.epoch) && query.since <= last_id;
        let since = if known { query.since } else { 0 };
        let wanted = |one: &&Recorded| {
            one.id > since && (query.service.is_none() || query.service == one.event.service)
        };
        let events = Events {
            epoch: self.epoch,
            lost: self.forgotten.saturating_sub(since),
            last_id,
            events: self.kept.iter().filter(wanted).cloned().collect(),
        };
        Look { events, news: self.news.subscribe(), totals: self.totals.clone() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::*;

    fn log(events: u64) -> Log {
        let mut log = Log::new(7);
        for number in 1..=events {
            let service = ServiceName::new(if number % 2 == 0 { "even" } else { "odd" }).unwrap();
            let event = Event::new(Kind::Shifted, number.to_string()).of(&service);
            log.record(event, SystemTime::UNIX_EPOCH);
        }
        log
    }

    fn ids(log: &Log, query: &EventQuery) -> (u64, Vec<u64>) {
        let Events { epoch, lost, last_id, events } = log.look(query).events;
        assert_eq!((epoch, last_id), (7, *log.news.borrow()));
        assert!(events.iter().all(|one| one.event.text == one.id.to_string()));
        (lost, events.iter().map(|one| one.id).collect())
    }

    fn since(since: u64) -> EventQuery {
        EventQuery { since, ..EventQuery::default() }
    }

    #[test]
    fn a_reader_gets_what_came_after_and_what_it_has_lost() {
        assert_eq!(ids(&log(0), &since(0)), (0, vec![]));
        assert_eq!(ids(&log(3), &since(0)), (0, vec![1, 2, 3]));
        assert_eq!(ids(&log(3), &since(2)), (0, vec![3]));
        assert_eq!(ids(&log(3), &since(3)), (0, vec![]));
        let log = log(KEPT as u64 + 10);
        let kept: Vec<u64> = (11..=KEPT as u64 + 10).collect();
        assert_eq!(ids(&log, &since(0)), (10, kept.clone()));
        assert_eq!(ids(&log, &since(4)), (6, kept.clone()));
        assert_eq!(ids(&log, &since(10)), (0, kept.clone()));
        assert_eq!(ids(&log, &since(11)), (0, kept[1..].to_vec()));
    }

    #[test]
    fn a_renewal_takes_the_place_of_the_one_before() {
        let mut log = log(2);
        for (number, service) in [(3, "a"), (4, "b"), (5, "a"), (6, "a")] {
            let event = Event::new(Kind::LeaseRenewed, number.to_string());
            let service = ServiceName::new(service).unwrap();
            log.record(event.of(&service), SystemTime::UNIX_EPOCH);
        }
        assert_eq!(ids(&log, &since(0)), (0, vec![1, 2, 4, 6]), "which is no loss");
    }

    #[test]
    fn an_id_of_another_log_asks_for_everything() {
        assert_eq!(ids(&log(3), &since(4)), (0, vec![1, 2, 3]));
        let of = |epoch| EventQuery { epoch: Some(epoch), ..since(2) };
        assert_eq!(ids(&log(3), &of(6)), (0, vec![1, 2, 3]));
        assert_eq!(ids(&log(3), &of(7)), (0, vec![3]));
    }

    #[test]
    fn a_reader_may_want_one_service() {
        let odd = EventQuery { service: Some(ServiceName::new("odd").unwrap()), ..since(1) };
        assert_eq!(ids(&log(6), &odd), (0, vec![3, 5]));
    }

    #[test]
    fn who_waits_is_told() {
        let mut log = log(1);
        let mut news = log.look(&since(0)).news;
        assert!(!news.has_changed().unwrap());
        log.record(Event::new(Kind::Restored, "2"), SystemTime::UNIX_EPOCH);
        assert!(news.has_changed().unwrap());
        assert_eq!(*news.borrow_and_update(), 2);
    }

    #[test]
    fn a_sentence_is_bounded() {
        let mut log = log(0);
        log.push(Event::new(Kind::Restored, "é".repeat(5_000)));
        let text = &log.kept[0].event.text;
        assert_eq!(text.chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn kinds_have_names_of_their_own_and_a_page() {
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| kind.name().parse() == Ok(*kind)));
        let page = include_str!("../../../docs/events.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<BTreeSet<&str>>(), names, "docs/events.md lists the kinds");
    }
}
