//! The end of a transition: what the owner does every few seconds while slots are tracked.
//!
//! First a look at the flow table, in steps, which forgets the flows that have ended. Then the second half,
//! for slots that had settled before the look and that it found empty: they are tracked no longer.
//! Then the first half, for services whose slots have not moved for as long as a flow may be
//! silent: base becomes cur. And a backend that drains, and that neither a slot nor a flow names
//! any more, is released.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_ebpf::abi::{FlowEntry, FlowKey, UDP};

use super::answers::traffic;
use super::difference::{endpoint, image};
use super::directory::Key;
use super::error::Error;
use super::owner::{Owner, plane_error};
use super::restore::named;
use super::state::{Entry, State};
use super::sweep::{self, Sweep};
use crate::dataplane::{DataPlane, Swept};
use crate::fault::{self, Point};
use crate::model::ServiceName;
use crate::plan::settle::{settle, untrack};
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use crate::store::Store;

/// A round begins so long after the last one began, or later.
const ROUND: Duration = Duration::from_secs(5);
/// Flows that one step looks at, and the rest after each. So a round takes the owner's time in
/// pieces that a request can wait for, and no more than a tenth of it, however full the table is:
/// most of what it costs is one or two cache misses a flow. A million flows take seven seconds.
const STEP: u64 = 100_000;
const PAUSE: Duration = Duration::from_millis(700);

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Flows that it has forgotten.
    pub forgotten: u64,
    /// It was the round's last one.
    pub ended: bool,
    /// Time until the next one.
    pub pause: Duration,
}

/// A look at all flows, under way.
pub(super) struct Look {
    sweep: Sweep,
    /// The commit that it began after.
    generation: u32,
    /// There was no other since: so what it has found says something of the tables.
    whole: bool,
    began: Instant,
}

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// A whole round, at a time in seconds since boot.
    ///
    /// # Errors
    ///
    /// As [`Owner::step`].
    pub fn round(&mut self, now: u32) -> Result<(), Error> {
        while !self.step(now)?.ended {}
        Ok(())
    }

    /// A step of a round, at a time in seconds since boot. In the steady state a round is one step,
    /// which only counts UDP flows.
    ///
    /// # Errors
    ///
    /// Something could not be read or written; nothing was settled, and the next round tries again.
    pub fn step(&mut self, now: u32) -> Result<Step, Error> {
        let mut look = match self.look.take() {
            Some(look) => look,
            None => match self.begin_round(now)? {
                Some(look) => look,
                None => return Ok(Step { forgotten: 0, ended: true, pause: ROUND }),
            },
        };
        if look.generation != self.generation {
            // The tables are others by now: the rest of this look only forgets what has ended.
            look.sweep = sweep(&self.state, now, self.idle);
            (look.generation, look.whole) = (self.generation, false);
        }
        let keep = &mut |key: &FlowKey, flow: &FlowEntry| look.sweep.keep(key, *flow);
        let Swept { forgotten, ended } = self.plane.sweep_on(STEP, keep).map_err(plane_error)?;
        let pause = ROUND.saturating_sub(look.began.elapsed()).max(PAUSE);
        if !ended {
            self.look = Some(look);
            return Ok(Step { forgotten, ended, pause: PAUSE });
        }
        if look.whole {
            self.go_on(&look.sweep, now)?;
        }
        Ok(Step { forgotten, ended, pause })
    }

    /// What comes before a look at the flows, if it takes one.
    fn begin_round(&mut self, now: u32) -> Result<Option<Look>, Error> {
        self.note_failures(now);
        if self.unsaved.is_some() {
            self.save_or_note();
        }
        let drains = self.state.directory.all().any(|(_, _, place)| place.drains);
        if !drains {
            // Nothing goes by it; only the number of them is asked for.
            self.plane.sweep(UDP, &mut |_, _| true).map_err(plane_error)?;
        }
        let tracked = self.state.services.values().any(|entry| is_tracked(entry));
        let look = || Look {
            sweep: sweep(&self.state, now, self.idle),
            generation: self.generation,
            whole: true,
            began: Instant::now(),
        };
        Ok((drains || tracked).then(look))
    }

    /// What follows from a look at all flows.
    fn go_on(&mut self, sweep: &Sweep, now: u32) -> Result<(), Error> {
        let state = self.state.clone();
        let (mut next, mut step) = (state.clone(), Point::Untracked);
        for (entry, swept) in state.services.values().zip(&sweep.services) {
            if let Some((entry, point)) = self.settled(entry, swept, now) {
                step = point;
                next.services.insert(entry.service.name().clone(), Arc::new(entry));
            }
        }
        let released = self.released(sweep.named(), now)?;
        for (service, key, _) in &released {
            Arc::make_mut(&mut next.directory).release(service, *key);
            // Its answers are no longer turned back, so its service's paths differ.
            if let Some(entry) = next.services.get_mut(service) {
                *entry = Arc::new(Entry::clone(entry));
            }
        }
        self.finish_round(next, &released, step)
    }

    /// Notes whether an insert has failed since the last round.
    fn note_failures(&mut self, now: u32) {
        let counters =
            self.state.directory.all().map(|(_, _, place)| self.plane.counters(place.index));
        let failures = counters.map(|c| c.fallback_full + c.fallback_flood).sum();
        if failures != self.failures.0 {
            self.failures = (failures, now);
        }
    }

    /// The service one step further, and which step that is, if there is one to take.
    fn settled(&self, entry: &Entry, swept: &sweep::Swept, now: u32) -> Option<(Entry, Point)> {
        if !is_tracked(entry) {
            return None;
        }
        let mut tables = ServiceTables::clone(&entry.tables);
        let mut steering = Steering::clone(&entry.steering);
        let untracked = untrack(&mut tables, &|slot| swept.pinned(slot))
            | steering.untrack(&|index| swept.steers(index));
        let quiet = |since: u32| now.saturating_sub(since) > self.idle;
        let ready = quiet(entry.moved_at) && quiet(self.failures.1);
        let settled = ready && settle(&mut tables, &|_| true) | steering.settle();
        let (what, step) = match (settled, untracked) {
            (true, _) => (
                "settled: what began before the last shift has ended or is remembered",
                Point::Settled,
            ),
            (false, true) => {
                ("slots without remembered flows are tracked no longer", Point::Untracked)
            }
            (false, false) => return None,
        };
        tracing::debug!(service = entry.service.name().as_str(), "{what}");
        let (tables, steering) = (Arc::new(tables), Arc::new(steering));
        Some((Entry { tables, steering, ..entry.clone() }, step))
    }

    /// Draining backends that nothing names any more.
    fn released(
        &mut self,
        mut named_by_flows: BTreeSet<u16>,
        now: u32,
    ) -> Result<Vec<(ServiceName, Key, u16)>, Error> {
        if !self.state.directory.all().any(|(_, _, place)| place.drains) {
            return Ok(Vec::new());
        }
        let idle = self.state.services.values().map(|entry| entry.service.udp_idle()).max();
        // Only a look: the table of UDP flows evicts by itself.
        let keep_udp = &mut |_: &_, entry: &FlowEntry| {
            if now.saturating_sub(entry.seen) <= u32::from(idle.unwrap_or_default()) {
                named_by_flows.insert(entry.backend);
            }
            true
        };
        self.plane.sweep(UDP, keep_udp).map_err(plane_error)?;
        named_by_flows.extend(self.reached_by_id(now));
        // Settling only makes fewer: what the tables name after this round, they name now.
        let tables = self.state.services.values().map(|entry| &entry.tables);
        let by_tables: BTreeSet<u16> =
            tables.flat_map(|tables| named(tables)).map(|(_, index)| index).collect();
        let free = |index: u16| !by_tables.contains(&index) && !named_by_flows.contains(&index);
        let drained =
            self.state.directory.all().filter(|(.., place)| place.drains && free(place.index));
        Ok(drained.map(|(service, key, place)| (service.clone(), *key, place.index)).collect())
    }

    /// Draining backends that datagrams may still name by their server id: no flow is remembered of
    /// these, so the backend's count of packets tells whether there are any.
    fn reached_by_id(&mut self, now: u32) -> Vec<u16> {
        let mut reached = BTreeMap::new();
        for (_, _, place) in self.state.directory.all() {
            if place.drains && place.server_id.is_some() {
                let packets = self.plane.counters(place.index).packets_in;
                let before = self.reached.get(&place.index).filter(|(count, _)| *count == packets);
                reached.insert(place.index, (packets, before.map_or(now, |(_, since)| *since)));
            }
        }
        self.reached = reached;
        let lately =
            |(_, (_, since)): &(&u16, &(u64, u32))| now.saturating_sub(*since) <= self.idle;
        self.reached.iter().filter(lately).map(|(index, _)| *index).collect()
    }

    /// Commits what the round has found.
    fn finish_round(
        &mut self,
        next: State,
        released: &[(ServiceName, Key, u16)],
        step: Point,
    ) -> Result<(), Error> {
        let same =
            |name, entry| self.state.services.get(name).is_some_and(|e| Arc::ptr_eq(e, entry));
        if next.services.iter().all(|(name, entry)| same(name, entry)) {
            return Ok(());
        }
        let before = self.commit(next)?;
        fault::point(step);
        for (service, key, index) in released {
            let counted = traffic(self.plane.counters(*index));
            self.retired.entry((service.clone(), key.version)).or_default().add(&counted);
            tracing::info!(
                service = service.as_str(),
                version = key.version.name(),
                backend = %SocketAddr::new(key.address, key.port),
                "drained: no slot and no flow names it any more"
            );
        }
        self.clean_up(&before);
        if !released.is_empty() {
            // A walk over the table of UDP flows may miss one that moves within it.
            let gone: BTreeSet<u16> = released.iter().map(|(.., index)| *index).collect();
            self.plane.forget(&|_, flow| gone.contains(&flow.backend)).map_err(plane_error)?;
            fault::point(Point::Released);
            self.save_or_note();
        }
        tracing::debug!(released = released.len(), "a transition went on");
        Ok(())
    }
}

/// Whether any slot must still be looked up.
fn is_tracked(entry: &Entry) -> bool {
    let tables = &entry.tables;
    entry.steering.is_tracked()
        || tables.versions().iter().any(|slot| slot.tracked())
        || tables.backends().iter().any(|table| table.slots().iter().any(|slot| slot.tracked()))
}

/// A look at the flows of all services, as it begins.
fn sweep(state: &State, now: u32, idle: u32) -> Sweep {
    let mut sweep = Sweep::new(now, idle);
    for entry in state.services.values() {
        let record = image(entry).record;
        let listeners = entry.service.listeners().iter();
        sweep.add(
            sweep::Swept::new(Arc::clone(&entry.tables), Arc::clone(&entry.steering), record),
            listeners.map(|l| endpoint(l.address, l.port, l.protocol)),
        );
    }
    sweep
}
