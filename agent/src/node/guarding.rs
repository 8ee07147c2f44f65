//! What the owner does with guards: it sets them, looks at them a few times a second, and takes the
//! weight away from a version that breaks its own. See [`super::guard`] for when that is.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::clock;
use super::error::Error;
use super::events::{Event, Kind};
use super::guard::{Counts, Seen, Window, without};
use super::messages::{ClearGuard, GuardStatus, SetGuard, TrippedStatus};
use super::next::Next;
use super::owner::Owner;
use super::state::{Entry, State};
use super::words;
use crate::dataplane::DataPlane;
use crate::model::guard::Guard;
use crate::model::{
    Fence, Protocol, ServiceName, Signals, Violations, Weight, Weights, weight::percent,
};
use crate::store::{Store, StoredGuard, StoredTrip};

/// A guard of a service, and whether it has tripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guarded {
    pub(super) guard: Guard,
    pub(super) tripped: Option<Tripped>,
}

/// What tripped a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tripped {
    /// When, in milliseconds since 1970.
    at: u64,
    seen: Seen,
    before: Weights,
    after: Weights,
}

impl Guarded {
    fn armed(guard: Guard) -> Self {
        Self { guard, tripped: None }
    }

    pub(super) fn stored(self) -> StoredGuard {
        let tripped = self.tripped.map(|tripped| StoredTrip {
            at_ms: tripped.at,
            connections: tripped.seen.connections,
            failures: tripped.seen.failures,
            before: tripped.before,
            after: tripped.after,
        });
        StoredGuard { guard: self.guard, tripped }
    }

    pub(super) fn from_stored(stored: StoredGuard) -> Self {
        let tripped = stored.tripped.map(|trip| Tripped {
            at: trip.at_ms,
            seen: Seen { connections: trip.connections, failures: trip.failures },
            before: trip.before,
            after: trip.after,
        });
        Self { guard: stored.guard, tripped }
    }
}

impl State {
    /// Refuses weight for versions whose guards have tripped. Forced, it ends that in `next`: the
    /// guard watches again.
    pub(super) fn heed_guards(
        &self,
        next: &mut State,
        names: &[ServiceName],
        force: bool,
    ) -> Result<(), Error> {
        for name in names {
            let (Some(was), Some(is)) = (self.services.get(name), next.services.get_mut(name))
            else {
                continue;
            };
            let Some(Guarded { guard, tripped: Some(tripped) }) = is.guard else { continue };
            let weight = |entry: &Entry| entry.service.weights().get(guard.version).bp();
            if weight(is) <= weight(was) {
                continue;
            }
            if !force {
                let (service, version) = (name.clone(), guard.version);
                return Err(Error::GuardTripped {
                    service,
                    version,
                    what: about(&guard, tripped.seen),
                });
            }
            Arc::make_mut(is).guard = Some(Guarded::armed(guard));
        }
        Ok(())
    }

    fn with_guard(&self, name: &ServiceName, guard: Option<Guarded>) -> Self {
        let mut next = self.clone();
        if let Some(entry) = next.services.get_mut(name) {
            Arc::make_mut(entry).guard = guard;
        }
        next
    }
}

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Sets the guard of a service. The one that it has already stays as it is, also if that has
    /// tripped.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn set_guard(&mut self, set: &SetGuard) -> Result<GuardStatus, Error> {
        self.state.admit(&[&set.service], set.fence.as_ref())?;
        let entry = Arc::clone(self.state.get(&set.service)?);
        check(&entry, &set.guard)?;
        match entry.guard {
            Some(Guarded { guard, .. }) if guard == set.guard => {}
            Some(Guarded { guard, tripped: Some(tripped) }) => {
                let (service, version) = (set.service.clone(), guard.version);
                return Err(Error::GuardTripped {
                    service,
                    version,
                    what: about(&guard, tripped.seen),
                });
            }
            _ => {
                self.put_guard(&set.service, Some(Guarded::armed(set.guard)), set.fence.as_ref())?;
                let text = format!("the agent watches {}", set.guard);
                self.tell_guard(Kind::GuardSet, &text, &set.service, set.fence.as_ref());
            }
        }
        let status = self.guard_of(self.state.get(&set.service)?);
        status.ok_or_else(|| Error::NotFound(set.service.clone()))
    }

    /// Ends the guard of a service, if it has one.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn clear_guard(&mut self, clear: &ClearGuard) -> Result<(), Error> {
        self.state.admit(&[&clear.service], clear.fence.as_ref())?;
        let Some(was) = self.state.get(&clear.service)?.guard else { return Ok(()) };
        self.put_guard(&clear.service, None, clear.fence.as_ref())?;
        let tripped = if was.tripped.is_some() { ", which had tripped" } else { "" };
        let text = format!("no guard any more{tripped}: {}", was.guard);
        self.tell_guard(Kind::GuardCleared, &text, &clear.service, clear.fence.as_ref());
        Ok(())
    }

    fn put_guard(
        &mut self,
        name: &ServiceName,
        guard: Option<Guarded>,
        fence: Option<&Fence>,
    ) -> Result<(), Error> {
        let mut next = self.state.with_guard(name, guard);
        next.raise(&[name], fence);
        let before = std::mem::replace(&mut self.state, next);
        if let Err(error) = self.save() {
            self.state = before;
            let said = format!("{error}; the guard is as it was");
            self.events.push(Event::new(Kind::StoreFailed, said.clone()).of(name));
            return Err(Error::Store(said));
        }
        self.windows.remove(name);
        Ok(())
    }

    fn tell_guard(&mut self, kind: Kind, text: &str, name: &ServiceName, fence: Option<&Fence>) {
        let past = self.state.past_fence(name, fence);
        self.events.push(Event::new(kind, format!("{text}{past}")).of(name));
    }

    /// What there is to say of the guard of a service.
    pub(super) fn guard_of(&self, entry: &Entry) -> Option<GuardStatus> {
        let Guarded { guard, tripped } = entry.guard?;
        let seen = self.windows.get(entry.service.name()).map(Window::seen).unwrap_or_default();
        let tripped = tripped.map(|tripped| TrippedStatus {
            since: UNIX_EPOCH + Duration::from_millis(tripped.at),
            connections: tripped.seen.connections,
            failures: tripped.seen.failures,
            before: tripped.before,
            after: tripped.after,
        });
        let Seen { connections, failures } = seen;
        Some(GuardStatus { guard, connections, failures, tripped })
    }

    /// Looks at every version that has a guard and weight, at a time in milliseconds since whenever;
    /// one that breaks its guard loses its weight.
    pub fn watch_guards(&mut self, now: u64) {
        let armed: Vec<_> = self
            .state
            .services
            .values()
            .filter_map(|entry| Some((entry.service.name().clone(), entry.guard?, entry)))
            .filter(|(_, guarded, _)| guarded.tripped.is_none())
            .map(|(name, guarded, entry)| {
                let weight = entry.service.weights().get(guarded.guard.version);
                (name, guarded.guard, entry.service.signals(), weight)
            })
            .collect();
        self.windows.retain(|name, _| armed.iter().any(|(of, ..)| of == name));
        for (name, guard, signals, weight) in armed {
            let counts = Counts::new(&self.counted(&name)[guard.version], signals);
            let window = self.windows.entry(name.clone()).or_default();
            if let Some(seen) = window.look(now, counts, &guard)
                && weight > Weight::ZERO
                && let Err(error) = self.trip(&name, guard, seen)
            {
                let service = name.as_str();
                tracing::warn!(service, %error, "a guard has tripped and could not take the weight away; it is tried again");
            }
        }
    }

    /// Takes the weight away from a version that has broken its guard.
    fn trip(&mut self, name: &ServiceName, guard: Guard, seen: Seen) -> Result<(), Error> {
        let entry = Arc::clone(self.state.get(name)?);
        let before_weights = *entry.service.weights();
        let after = without(guard.version, guard.fallback, entry.settled, before_weights);
        let tripped = Tripped {
            at: clock::unix_milliseconds(),
            seen,
            before: before_weights,
            after: after.unwrap_or(before_weights),
        };
        let mut next = Next::new(self.state.clone(), clock::seconds());
        if let Some(weights) = after {
            // Whatever is ready: nothing is as bad as what trips a guard.
            next.shift(&entry, weights, true)?;
        }
        next.state = next.state.with_guard(name, Some(Guarded { guard, tripped: Some(tripped) }));
        let before = self.state.clone();
        let names = std::slice::from_ref(name);
        let observed = [(name.clone(), self.observed(name))].into();
        let what = if after.is_some() {
            self.commit(next.state.clone())?;
            self.clean_up(&before);
            self.mark(&before, names);
            let commit = self.commit_answer(Duration::ZERO, false);
            let answer = self.changed(commit, names, &next, &before, &observed);
            answer.changes.iter().map(words::of_change).collect()
        } else {
            self.state = next.state;
            "its weight stays, for no other version has any".to_owned()
        };
        let text = format!("{}; {what}", about(&guard, seen));
        self.events.push(Event::new(Kind::GuardTripped, text).of(name));
        self.windows.remove(name);
        // Nobody has asked, so nobody can be refused. What is not stored, the next agent finds again.
        self.save_or_note();
        Ok(())
    }
}

/// `connect_success of canary was 7.31% within 5s, 38 of 41 connections failed, and must be 50%`
fn about(guard: &Guard, seen: Seen) -> String {
    let Guard { version, metric, least, window, .. } = guard;
    let Seen { connections, failures } = seen;
    let bp = (connections - failures) * 10_000 / connections.max(1);
    let was = percent(u32::try_from(bp).unwrap_or(u32::MAX));
    format!(
        "{metric} of {version} was {was} within {window}, {failures} of {connections} connections \
         failed, and must be {}",
        percent(least.bp())
    )
}

/// Refuses a guard that would never see anything, or that would lead nowhere.
fn check(entry: &Entry, guard: &Guard) -> Result<(), Error> {
    let (service, version) = (&entry.service, guard.version);
    let mut violations = Violations::default();
    if service.signals() == Signals::Off {
        let message = "needs the service's signals, which are off: set them to basic or full";
        violations.push("guard.metric", message);
    }
    if service.listeners().iter().all(|one| one.protocol != Protocol::Tcp) {
        violations.push("guard.metric", "is of TCP, for which the service does not listen");
    }
    if guard.fallback.is_some_and(|weights| weights.get(version) > Weight::ZERO) {
        let message = format!("gives weight to {version}, the version that has to go");
        violations.push("guard.fallback", message);
    }
    violations.into_result().map_err(Error::Invalid)
}
