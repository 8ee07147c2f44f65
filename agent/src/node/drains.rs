//! What drains, and whether it may be stopped: put together from the tables, from what the last
//! round saw of the flows, and from the counters. A question costs no look at the flows.

use std::collections::HashMap;
use std::net::SocketAddr;

use weir_ebpf::abi::UDP;

use super::clock;
use super::difference::endpoint;
use super::directory::{Key, Place};
use super::draining::{self, is_led_to};
use super::error::Error;
use super::events::{Event, Kind};
use super::messages::{DrainStatus, MayStop};
use super::owner::Owner;
use super::settle::is_tracked;
use super::state::{Entry, State};
use super::sweep::Named;
use crate::dataplane::DataPlane;
use crate::model::{BackendState, Draining, OnTimeout, ServiceName, Udp, Version};
use crate::plan::settle::SlotRef;
use crate::store::Store;

/// Seconds within which there is another look.
const ROUND: u32 = 5;

/// What a round saw.
#[derive(Debug)]
pub(super) struct Look {
    /// The tables it looked by.
    state: State,
    /// The flows that name a backend, by its index.
    named: HashMap<u16, Named>,
    /// Packets that each backend that drains has got by then, and when that was.
    packets: HashMap<u16, u64>,
    at: u32,
    /// The same of the look before.
    packets_before: HashMap<u16, u64>,
    before: u32,
}

/// How packets of a service get to a version, or to a backend of it. Less is further away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Not by the tables.
    Never,
    /// Flows that began before the slots moved, which have been quiet since then.
    Silent(u32),
    /// New ones.
    New,
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy)]
struct Facts {
    reach: Reach,
    /// The last look went by these tables.
    looked: bool,
    flows: Named,
    /// So many seconds more, packets may come that name it by its server id, which no table knows of.
    by_id: u32,
    now: u32,
    /// When the slots settle that lead there.
    settles_at: u32,
}

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// What drains, of the named services, or of all.
    pub(super) fn drains(&self, names: &[ServiceName]) -> Result<Vec<DrainStatus>, Error> {
        for name in names {
            self.state.get(name)?;
        }
        let chosen = |name: &ServiceName| names.is_empty() || names.contains(name);
        let mut drains = Vec::new();
        for (name, entry) in self.state.services.iter().filter(|(name, _)| chosen(name)) {
            for version in Version::ALL {
                let mut of_version: Vec<(Key, Place)> = Vec::new();
                let of = self.state.directory.of(name).filter(|(key, _)| key.version == version);
                of_version.extend(of.map(|(key, place)| (*key, place)));
                drains.extend(self.version(entry, version, &of_version));
                let out = of_version.iter().filter(|(_, place)| {
                    place.state() != BackendState::Active || place.draining.is_some()
                });
                drains.extend(out.map(|(key, place)| self.backend(entry, key, *place)));
            }
        }
        Ok(drains)
    }

    /// A version, if it has lost all its weight or flows of before a shift may be on it.
    fn version(
        &self,
        entry: &Entry,
        version: Version,
        backends: &[(Key, Place)],
    ) -> Option<DrainStatus> {
        let draining = entry.draining[version.index()];
        let left = reach(entry, version, None) == Reach::New
            && !entry.tables.versions().iter().any(|slot| {
                slot.base() != slot.cur() && usize::from(slot.base()) == version.index()
            });
        let indices: Vec<u16> = backends.iter().map(|(_, place)| place.index).collect();
        let why = match draining {
            Some(one) if one.is_given_up(clock::wall()) => "given up",
            Some(_) => "no weight",
            None if is_led_to(entry, version) && left && self.named(&indices).flows == 0 => {
                return None;
            }
            None if reach(entry, version, None) == Reach::Never
                && self.named(&indices).flows == 0 =>
            {
                return None;
            }
            None => "shifting",
        };
        Some(self.drain_status(entry, version, None, &indices, (why, draining)))
    }

    fn backend(&self, entry: &Entry, key: &Key, place: Place) -> DrainStatus {
        let why = match place {
            Place { failing: true, .. } => "down",
            _ if place.draining.is_some_and(|one| one.is_given_up(clock::wall())) => "given up",
            Place { by_hand: BackendState::Down, .. } => "down",
            Place { drains: true, .. } => "removed",
            _ => "by hand",
        };
        self.drain_status(
            entry,
            key.version,
            Some((key, place)),
            &[place.index],
            (why, place.draining),
        )
    }

    fn drain_status(
        &self,
        entry: &Entry,
        version: Version,
        backend: Option<(&Key, Place)>,
        indices: &[u16],
        (why, draining): (&str, Option<Draining>),
    ) -> DrainStatus {
        let (now, wall) = (clock::seconds(), clock::wall());
        let index = backend.map(|(_, place)| place.index);
        let reach = reach(entry, version, index);
        let flows = self.named(indices);
        let settles_at = match reach {
            Reach::Silent(since) => self.settles_at(entry)(since).saturating_add(1),
            Reach::New | Reach::Never => 0,
        };
        let looked = self.has_looked(entry, version, index);
        let idle = self.idle_of(&entry.service);
        let reached = indices.iter().filter_map(|index| self.reached.get(index));
        let by_id = reached.map(|(_, since)| since.saturating_add(idle).saturating_sub(now)).max();
        let by_id = by_id.unwrap_or(0);
        let facts = Facts { reach, looked, flows, by_id, now, settles_at };
        let (may_stop, reason) = facts.judge();
        let (packets, window_s) = self.packets(indices, now);
        let silence = |at: u32| (flows.flows > 0).then(|| now.saturating_sub(at));
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        DrainStatus {
            service: entry.service.name().clone(),
            version,
            backend: backend.map(|(key, _)| SocketAddr::new(key.address, key.port)),
            why: why.to_owned(),
            age_s: draining.map(|one| wall.saturating_sub(one.began)),
            flows: flows.flows,
            longest_silence_s: silence(flows.oldest),
            last_packet_s: silence(flows.newest),
            packets,
            window_s,
            settles_in_s: matches!(reach, Reach::Silent(_)).then(|| settles_at.saturating_sub(now)),
            deadline_in_s: draining
                .and_then(Draining::deadline)
                .map(|end| signed(end) - signed(wall)),
            on_timeout: draining.map_or(OnTimeout::Keep, |one| one.on_timeout),
            may_stop,
            reason,
        }
    }

    /// The flows that the last look found at these backends.
    fn named(&self, indices: &[u16]) -> Named {
        let mut all = Named::default();
        for index in indices {
            if let Some(named) = self.look.as_ref().and_then(|look| look.named.get(index)) {
                all.add(*named);
            }
        }
        all
    }

    /// Packets of these backends since the look before the last one, and how long ago that was.
    fn packets(&self, indices: &[u16], now: u32) -> (u64, u32) {
        let Some(look) = &self.look else { return (0, 0) };
        let since = |index: &u16| {
            let before = look.packets_before.get(index).or_else(|| look.packets.get(index));
            let packets = self.plane.counters(*index).packets_in;
            before.map_or(0, |before| packets.saturating_sub(*before))
        };
        (indices.iter().map(since).sum(), now.saturating_sub(look.before))
    }

    /// Whether the last look came after the tables had led to this the last time: what it did not
    /// find then is not there.
    fn has_looked(&self, entry: &Entry, version: Version, index: Option<u16>) -> bool {
        let Some(look) = &self.look else {
            return !is_tracked(entry) && !remembers_datagrams(entry);
        };
        let Some(was) = look.state.services.get(entry.service.name()) else { return false };
        reach(was, version, index) == Reach::Never
    }

    /// Whether a look must be taken although no slot is tracked: for what is remembered without.
    pub(super) fn is_watched(&self) -> bool {
        let of = |subject: &draining::Subject| {
            let entry = self.state.services.get(&subject.service)?;
            let key = subject.backend.as_ref();
            let place = key.and_then(|key| self.state.directory.get(&subject.service, key));
            let index = place.map(|place| place.index);
            let waits = !self.has_looked(entry, subject.version, index)
                || self.named(&self.indices(subject, index)).flows > 0;
            Some(remembers_datagrams(entry) && waits)
        };
        draining::all(&self.state).any(|(subject, _)| of(&subject) == Some(true))
    }

    fn indices(&self, subject: &draining::Subject, index: Option<u16>) -> Vec<u16> {
        let of = self.state.directory.of(&subject.service);
        let of = of.filter(|(key, place)| {
            index.map_or(key.version == subject.version, |index| place.index == index)
        });
        of.map(|(_, place)| place.index).collect()
    }

    /// Keeps what a round saw by these tables.
    pub(super) fn remember_look(&mut self, state: State, named: HashMap<u16, Named>, now: u32) {
        let places = self.state.directory.all();
        let packets =
            places.map(|(.., place)| (place.index, self.plane.counters(place.index).packets_in));
        let packets: HashMap<u16, u64> = packets.collect();
        let (packets_before, before) = match self.look.take() {
            Some(look) => (look.packets, look.at),
            None => (packets.clone(), now),
        };
        self.look = Some(Look { state, named, packets, at: now, packets_before, before });
    }

    /// Says of drains that were over since `last`, in seconds since 1970.
    pub(super) fn tell_deadlines(&mut self, last: u64, now: u64) {
        for (subject, drain) in draining::all(&self.state) {
            let over = |end: u64| end > last && end <= now && !drain.is_at_once();
            if !drain.deadline().is_some_and(over) {
                continue;
            }
            let backend = subject.backend.map(|key| SocketAddr::new(key.address, key.port));
            let what = backend.map_or_else(|| subject.version.to_string(), |at| at.to_string());
            let then = match drain.on_timeout {
                OnTimeout::Keep => "the flows that are left stay",
                OnTimeout::Reset => "the flows that are left are given up",
            };
            let text = format!("the drain of {what} has lasted for too long: {then}");
            self.events.push(Event::new(Kind::DrainOver, text).of(&subject.service));
        }
    }
}

/// Whether flows of a service are remembered whatever its slots are.
pub(super) fn remembers_datagrams(entry: &Entry) -> bool {
    let mut listeners = entry.service.listeners().iter();
    entry.service.udp() == Udp::Tracked
        && listeners.any(|l| endpoint(l.address, l.port, l.protocol).protocol == UDP)
}

/// How the tables lead to a version, or to one backend of it.
fn reach(entry: &Entry, version: Version, backend: Option<u16>) -> Reach {
    let at = entry.tables.backends().get(version.index());
    let slots = entry.tables.versions().iter().enumerate();
    let is = |of: u8| usize::from(of) == version.index();
    let of_slot = slots.map(|(slot, one)| match one {
        one if is(one.cur()) => Reach::New,
        one if is(one.base()) => {
            Reach::Silent(entry.moved.since(&entry.steering, SlotRef::Version(slot)))
        }
        _ => Reach::Never,
    });
    let of_entry = entry.steering.entries().iter().map(|one| match one.slot {
        one if is(one.cur()) => Reach::New,
        one if is(one.base()) => Reach::Silent(entry.moved.since_steering()),
        _ => Reach::Never,
    });
    let of_listener = entry.service.previews(version).then_some(Reach::New);
    let whole = of_slot.chain(of_entry).chain(of_listener).max().unwrap_or(Reach::Never);
    let (Some(index), Some(table)) = (backend, at) else { return whole };
    let since =
        entry.moved.since(&entry.steering, SlotRef::Backend { version: version.index(), slot: 0 });
    let within = table.slots().iter().map(|slot| match slot {
        slot if slot.cur() == index => Reach::New,
        slot if slot.base() == index => Reach::Silent(since),
        _ => Reach::Never,
    });
    whole.min(within.max().unwrap_or(Reach::Never))
}

impl Facts {
    /// The answer, and why.
    fn judge(self) -> (MayStop, String) {
        let Named { flows, newest, .. } = self.flows;
        let plural = if flows == 1 { "" } else { "s" };
        match self.reach {
            Reach::New => (MayStop::No, "new connections go there".to_owned()),
            _ if flows > 0 => {
                let ago = self.now.saturating_sub(newest);
                (MayStop::No, format!("{flows} flow{plural}, last packet {} ago", time(ago)))
            }
            Reach::Silent(_) => (
                MayStop::Unknown,
                format!(
                    "before {}: flows silent since the shift may still be there",
                    time(self.settles_at.saturating_sub(self.now).max(1))
                ),
            ),
            Reach::Never if !self.looked => {
                (MayStop::Unknown, format!("before {ROUND}s: the flows are looked at again"))
            }
            Reach::Never if self.by_id > 0 => (
                MayStop::Unknown,
                format!("before {}: packets may name it by its server id", time(self.by_id)),
            ),
            Reach::Never => (MayStop::Yes, "nothing names it".to_owned()),
        }
    }
}

/// `59s`, `14m`, `3h 5m`: up to the minute that has begun.
fn time(seconds: u32) -> String {
    match (seconds / 3_600, seconds.div_ceil(60) % 60) {
        _ if seconds < 60 => format!("{seconds}s"),
        (0, minutes @ 1..) => format!("{minutes}m"),
        _ => {
            let minutes = seconds.div_ceil(60);
            format!("{}h {}m", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_yes_only_when_nothing_is_left() {
        let none = Named::default();
        let some = Named { flows: 12, oldest: 400, newest: 997 };
        let facts = |reach, looked, flows, by_id| {
            Facts { reach, looked, flows, by_id, now: 1_000, settles_at: 1_800 }.judge()
        };
        let said = |reach, looked, flows| facts(reach, looked, flows, 0).1;
        assert_eq!(
            facts(Reach::Never, true, none, 0),
            (MayStop::Yes, "nothing names it".to_owned())
        );
        assert_eq!(facts(Reach::New, true, none, 0).0, MayStop::No);
        assert_eq!(said(Reach::Never, true, some), "12 flows, last packet 3s ago");
        assert_eq!(said(Reach::Silent(900), true, some), "12 flows, last packet 3s ago");
        assert_eq!(
            facts(Reach::Silent(900), true, none, 0),
            (
                MayStop::Unknown,
                "before 14m: flows silent since the shift may still be there".to_owned()
            )
        );
        assert_eq!(facts(Reach::Never, false, none, 0).0, MayStop::Unknown);
        assert_eq!(facts(Reach::Never, true, none, 60).0, MayStop::Unknown);
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0, 59, 60, 61].map(time), ["0s", "59s", "1m", "2m"]);
        assert_eq!([3_541, 3_600, 11_100, 86_400].map(time), ["1h 0m", "1h 0m", "3h 5m", "24h 0m"]);
    }
}
