//! Rounds: what the owner does every few seconds, a step at a time.
//!
//! First a look at the flow table, which forgets the flows that have ended. Then what follows from it
//! for transitions and drains: see [`super::settle`] and [`super::draining`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_ebpf::abi::{FlowEntry, FlowKey, Listener, UDP};

use super::clock;
use super::commit::plane_error;
use super::difference::{endpoint, image};
use super::draining::{give_up, given_up};
use super::drains::remembers_datagrams;
use super::error::Error;
use super::events::{Event, Kind};
use super::owner::Owner;
use super::settle::is_in_transition;
use super::state::{Entry, State};
use super::sweep::{self, Sweep};
use crate::dataplane::{DataPlane, Swept, Use};
use crate::fault::Point;
use crate::store::Store;

/// A round begins so long after the last one began, or later.
const ROUND: Duration = Duration::from_secs(5);
/// Buckets that one step looks at: up to 7 000 flows, most often half of that or less. So a round takes
/// the owner's time in pieces of a fraction of a millisecond, for a shift may wait for one.
const STEP: u32 = 1_000;
/// The rest after a step.
const PAUSE: Duration = Duration::from_millis(8);
/// Flows that are given up a second, so that their clients do not all come back at one instant.
const PACE: u32 = 1_000;
/// Seconds without a round that one makes up for at most.
const LONGEST: u32 = 10;

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Flows that it has forgotten.
    pub forgotten: u64,
    /// It was the round's last one, or there is no more to forget yet.
    pub ended: bool,
    /// Time until the next one.
    pub pause: Duration,
}

/// A look at all flows, under way.
pub(super) struct Looking {
    sweep: Sweep,
    /// The state that it began with.
    state: State,
    /// Backends that datagrams have named by their id of late.
    reached: Vec<u16>,
    /// The commit that it began after.
    generation: u32,
    /// There was no other since: so what it has found says something of the tables.
    whole: bool,
    began: Instant,
}

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// A whole round, at a time in seconds since boot. One that is under way is ended first.
    ///
    /// # Errors
    ///
    /// As [`Owner::step`].
    pub fn round(&mut self, now: u32) -> Result<(), Error> {
        self.round_at(now, clock::wall())
    }

    /// The same, at a time in seconds since boot and since 1970.
    pub(super) fn round_at(&mut self, now: u32, wall: u64) -> Result<(), Error> {
        while self.looking.is_some() {
            self.step_at(now, wall)?;
        }
        while !self.step_at(now, wall)?.ended {}
        Ok(())
    }

    /// A step of a round, at a time in seconds since boot. In the steady state a round is one step,
    /// which only counts UDP flows.
    ///
    /// # Errors
    ///
    /// Something could not be read or written; nothing was settled, and the next round tries again.
    pub fn step(&mut self, now: u32) -> Result<Step, Error> {
        self.step_at(now, clock::wall())
    }

    /// The same, at a time in seconds since boot and since 1970.
    pub(super) fn step_at(&mut self, now: u32, wall: u64) -> Result<Step, Error> {
        let mut look = match self.looking.take() {
            Some(look) => look,
            None => match self.begin_round(now, wall)? {
                Some(look) => look,
                None => return Ok(Step { forgotten: 0, ended: true, pause: ROUND }),
            },
        };
        look.sweep.go_on_at(now, PACE);
        self.last_round.0 = now;
        if look.generation != self.generation {
            // The tables are others by now: the rest of this look only forgets what has ended.
            look.sweep = self.look_at(&self.state, now, wall, look.sweep.allowance);
            (look.generation, look.whole) = (self.generation, false);
        }
        let keep = &mut |key: &FlowKey, flow: &FlowEntry| look.sweep.keep(key, *flow);
        let Swept { forgotten, ended } = self.plane.sweep_on(STEP, keep).map_err(plane_error)?;
        let pause = ROUND.saturating_sub(look.began.elapsed()).max(PAUSE);
        if !ended {
            self.looking = Some(look);
            return Ok(Step { forgotten, ended, pause: PAUSE });
        }
        if look.whole {
            self.go_on(look, now, wall)?;
        }
        Ok(Step { forgotten, ended, pause })
    }

    /// What comes before a look at the flows, if it takes one.
    fn begin_round(&mut self, now: u32, wall: u64) -> Result<Option<Looking>, Error> {
        let (last, last_wall) = std::mem::replace(&mut self.last_round, (now, wall));
        self.note_failures(now);
        self.tell_deadlines(last_wall, wall);
        let reached = self.reached_by_id(now);
        if self.unsaved.is_some() {
            self.save_or_note();
        }
        let state = self.state.clone();
        let drains = state.directory.all().any(|(_, _, place)| place.drains);
        let transition = state.services.values().any(|entry| is_in_transition(entry));
        let datagrams = self.holds_datagrams(&state);
        if !drains && !transition && !self.is_watched() {
            if datagrams {
                // Nothing goes by it; only the number of them is asked for.
                self.plane.sweep(UDP, &mut |_, _| true).map_err(plane_error)?;
            }
            return Ok(None);
        }
        let allowance = now.saturating_sub(last).clamp(1, LONGEST) * PACE;
        let mut sweep = self.look_at(&state, now, wall, allowance);
        if datagrams {
            let keep = &mut |key: &_, entry: &FlowEntry| sweep.keep_datagrams(key, *entry);
            self.plane.sweep(UDP, keep).map_err(plane_error)?;
        }
        let generation = self.generation;
        Ok(Some(Looking { sweep, state, reached, generation, whole: true, began: Instant::now() }))
    }

    /// Whether there may be an entry in the table of UDP flows: to walk over it takes milliseconds.
    fn holds_datagrams(&self, state: &State) -> bool {
        let left = |one: &Use| one.resource == "udp_flows" && one.used > 0;
        state.services.values().any(|entry| remembers_datagrams(entry))
            || self.plane.uses().iter().any(left)
    }

    /// A look at the flows of all services, as it begins.
    fn look_at(&self, state: &State, now: u32, wall: u64, allowance: u32) -> Sweep {
        let mut sweep = Sweep::new(now, allowance);
        for entry in state.services.values() {
            let record = image(entry).record;
            let lost = given_up(entry, &state.directory, wall);
            let idle = self.idle_of(&entry.service);
            let listeners = entry.service.listeners().iter();
            let tables = (Arc::clone(&entry.tables), Arc::clone(&entry.steering));
            sweep.add(
                sweep::Swept::new(tables, record, idle, lost),
                listeners.map(|l| {
                    let version = l.version.and_then(|version| u8::try_from(version.index()).ok());
                    let slot = Listener::of(0, version).slot();
                    (endpoint(l.address, l.port, l.protocol), slot)
                }),
            );
        }
        sweep
    }

    /// What follows from a look at all flows, which began with the state as it is now.
    fn go_on(&mut self, look: Looking, now: u32, wall: u64) -> Result<(), Error> {
        let Looking { state, sweep, reached, .. } = look;
        let (mut next, mut settled) = (state.clone(), Vec::new());
        for (entry, swept) in state.services.values().zip(&sweep.services) {
            let name = entry.service.name();
            let step = self.settled(entry, swept, now);
            let changed = step.is_some();
            let (mut new, settles) = step.unwrap_or_else(|| (Entry::clone(entry), false));
            settled.extend(settles.then(|| name.clone()));
            if give_up(&mut new, &state.directory, wall) || changed {
                next.services.insert(name.clone(), Arc::new(new));
            }
        }
        let named = sweep.named();
        let released = self.released(&named, &reached);
        self.remember_look(state, named, now);
        for (service, key, _) in &released {
            Arc::make_mut(&mut next.directory).release(service, *key);
            // Its answers are no longer turned back, so its service's paths differ.
            if let Some(entry) = next.services.get_mut(service) {
                *entry = Arc::new(Entry::clone(entry));
            }
        }
        let point = if settled.is_empty() { Point::Untracked } else { Point::Settled };
        self.finish_round(next, &released, point)?;
        for name in &settled {
            let text = "what began before the last change has ended or is remembered";
            self.events.push(Event::new(Kind::Settled, text).of(name));
        }
        Ok(())
    }

    /// Forgets at once what a change has given up.
    pub(super) fn forget_given_up(&mut self) {
        if let Err(error) = self.round(clock::seconds()) {
            tracing::warn!(%error, "flows that were given up are still remembered; the next round tries again");
        }
    }
}
