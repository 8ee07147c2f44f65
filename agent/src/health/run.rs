//! The task that makes the checks, each at its time.
//!
//! *No storm.* Each backend has a place in the period, which is 90 % of the interval, by a hash; so many
//! backends are spread evenly and stay so. Each check begins up to a tenth of the interval after that
//! place. From one check to the next it is thus 80 to 100 % of the interval: a jitter of ±10 %, which never
//! makes it longer than asked for, so that `fall` × interval + timeout holds. At most [`PLACES`] checks are
//! under way at a time. One that is due and finds no place waits its turn; that is counted, and says
//! nothing of the backend.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::board::{Board, TaskSide};
use super::judge::Judge;
use super::{Asked, Order, Outcome, Report, Subject, Wanted};
use crate::model::Health;

/// The most checks at a time.
pub const PLACES: usize = 512;
/// The first check of a backend comes within this time, even if its interval is longer.
pub const FIRST: Duration = Duration::from_secs(10);

/// Makes the checks that are asked for, until nobody can ask any more. `check` makes one of them and is
/// bounded in time by itself.
pub async fn run<F>(task: TaskSide, places: usize, check: impl Fn(Order) -> F)
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let TaskSide { mut wanted, board } = task;
    let mut schedule = Schedule::new(board);
    let mut running = JoinSet::new();
    let mut numbers = HashMap::new();
    wanted.mark_changed();
    loop {
        while running.len() < places
            && let Some((number, order)) = schedule.take(Instant::now())
        {
            let outcome = check(order);
            numbers.insert(running.spawn(outcome).id(), number);
        }
        schedule.queue(Instant::now());
        schedule.board.note(running.len(), schedule.waiting.len());
        let next = schedule.due.first().map(|(at, _)| *at);
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Arc::clone(&wanted.borrow_and_update());
                schedule.follow(&now, Instant::now());
            }
            Some(ended) = running.join_next_with_id() => {
                let (id, outcome) = ended.unwrap_or_else(|error| {
                    (error.id(), Outcome::Unknown("the check failed by itself".to_owned()))
                });
                if let Some(number) = numbers.remove(&id) {
                    schedule.hear(number, outcome, Instant::now());
                }
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// A backend that is checked.
struct Watched {
    subject: Subject,
    health: Arc<Health>,
    judge: Judge,
    /// Checks begun.
    begun: u64,
    slot: Slot,
    state: State,
}

/// A backend's place in the next period.
#[derive(Clone, Copy)]
struct Slot(Instant);

impl Slot {
    /// When the first check is, and the place for the one after it.
    fn first(health: &Health, hash: u64, now: Instant) -> (Instant, Self) {
        let period = Self::period(health);
        let place = now + part(period, hash);
        if period > FIRST {
            (now + part(FIRST, hash), Self(place))
        } else {
            (place, Self(place + period))
        }
    }

    /// When the next check is, after one that has ended now.
    fn next(&mut self, health: &Health, random: u64, now: Instant) -> Instant {
        let period = Self::period(health);
        // What was missed, for want of places, is not made up for.
        let missed = now.saturating_duration_since(self.0).as_nanos() / period.as_nanos();
        let place = self.0 + period * u32::try_from(missed).unwrap_or(u32::MAX);
        self.0 = place + period;
        (place + part(health.interval() / 10, random)).max(now)
    }

    fn period(health: &Health) -> Duration {
        health.interval() * 9 / 10
    }
}

/// Where a backend is between two checks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Due at this time.
    Due(Instant),
    /// Due, but without a place.
    Waits,
    /// Being checked.
    Runs,
}

/// All backends that are checked, by numbers that are never used again.
struct Schedule {
    board: Arc<Board>,
    numbers: BTreeMap<Subject, u64>,
    watched: HashMap<u64, Watched>,
    due: BTreeSet<(Instant, u64)>,
    waiting: VecDeque<u64>,
    last: u64,
    spread: RandomState,
    began: Instant,
}

impl Schedule {
    fn new(board: Arc<Board>) -> Self {
        Self {
            board,
            numbers: BTreeMap::new(),
            watched: HashMap::new(),
            due: BTreeSet::new(),
            waiting: VecDeque::new(),
            last: 0,
            spread: RandomState::new(),
            began: Instant::now(),
        }
    }

    /// The next check that is to be made now, if there is one. Those that wait come first.
    fn take(&mut self, now: Instant) -> Option<(u64, Order)> {
        loop {
            let number = match self.waiting.pop_front() {
                Some(number) => number,
                None => self.pop_due(now)?,
            };
            // Of those that wait some may be gone.
            let Some(watched) = self.watched.get_mut(&number) else { continue };
            watched.state = State::Runs;
            watched.begun += 1;
            let (subject, health) = (&watched.subject, Arc::clone(&watched.health));
            let address = SocketAddr::new(subject.address, health.port(subject.port));
            if let Some(report) = self.board.reports().get_mut(subject) {
                report.next = None;
            }
            self.board.count_made();
            return Some((number, Order { address, health }));
        }
    }

    /// Lets what is due but has found no place wait.
    fn queue(&mut self, now: Instant) {
        while let Some(number) = self.pop_due(now) {
            self.waiting.push_back(number);
            self.board.count_waited();
            if let Some(watched) = self.watched.get_mut(&number) {
                watched.state = State::Waits;
                if let Some(report) = self.board.reports().get_mut(&watched.subject) {
                    report.next = None;
                }
            }
        }
    }

    fn pop_due(&mut self, now: Instant) -> Option<u64> {
        let first = *self.due.first()?;
        (first.0 <= now && self.due.remove(&first)).then_some(first.1)
    }

    /// Checks exactly these from now on.
    fn follow(&mut self, wanted: &Wanted, now: Instant) {
        let gone: Vec<Subject> =
            self.numbers.keys().filter(|one| !wanted.contains_key(*one)).cloned().collect();
        for subject in gone {
            let watched = self.numbers.remove(&subject).and_then(|n| self.watched.remove_entry(&n));
            if let Some((number, Watched { state: State::Due(at), .. })) = watched {
                self.due.remove(&(at, number));
            }
            self.board.reports().remove(&subject);
        }
        // A check that ends after this is of a number that nobody has.
        self.waiting.retain(|number| self.watched.contains_key(number));
        for (subject, asked) in wanted {
            match self.numbers.get(subject) {
                None => self.begin(subject, asked, now),
                Some(number) => self.ask_otherwise(*number, &asked.health, now),
            }
        }
    }

    /// Begins to check a backend.
    fn begin(&mut self, subject: &Subject, asked: &Asked, now: Instant) {
        self.last += 1;
        let number = self.last;
        let (at, slot) = Slot::first(&asked.health, self.spread.hash_one(subject), now);
        let judge = Judge::new(!asked.failing);
        let report = Report {
            failing: asked.failing,
            since: SystemTime::now(),
            error: None,
            against: (
                0,
                judge.needed(self.began.elapsed(), asked.health.rise(), asked.health.fall()),
            ),
            next: Some(at),
        };
        self.board.reports().insert(subject.clone(), report);
        let (health, state) = (Arc::clone(&asked.health), State::Due(at));
        let watched = Watched { subject: subject.clone(), health, judge, begun: 0, slot, state };
        self.watched.insert(number, watched);
        self.numbers.insert(subject.clone(), number);
        self.due.insert((at, number));
    }

    /// Asks a backend otherwise, if it is otherwise. What it is, it stays until then.
    fn ask_otherwise(&mut self, number: u64, health: &Arc<Health>, now: Instant) {
        let Some(watched) = self.watched.get_mut(&number).filter(|one| one.health != *health)
        else {
            return;
        };
        watched.health = Arc::clone(health);
        watched.judge.restart();
        let (sooner, slot) = Slot::first(health, self.spread.hash_one(&watched.subject), now);
        watched.slot = slot;
        if let State::Due(at) = watched.state {
            self.due.remove(&(at, number));
            self.due.insert((sooner, number));
            watched.state = State::Due(sooner);
            if let Some(report) = self.board.reports().get_mut(&watched.subject) {
                report.next = Some(sooner);
            }
        }
    }

    /// Takes what a check has found, and says when the next one is.
    fn hear(&mut self, number: u64, outcome: Outcome, now: Instant) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        if watched.state != State::Runs {
            return;
        }
        let (rise, fall) = (watched.health.rise(), watched.health.fall());
        let time = now - self.began;
        let (well, error) = match outcome {
            Outcome::Well => (Some(true), None),
            Outcome::Ill(error) => (Some(false), Some(error)),
            Outcome::Unknown(error) => (None, Some(format!("not checked: {error}"))),
        };
        let changed = well.is_some_and(|well| watched.judge.hear(well, time, rise, fall));
        let next =
            watched.slot.next(&watched.health, self.spread.hash_one((number, watched.begun)), now);
        watched.state = State::Due(next);
        self.due.insert((next, number));
        if let Some(report) = self.board.reports().get_mut(&watched.subject) {
            report.failing = !watched.judge.is_up();
            // The one that brought it down stands until it is well again.
            report.error = error;
            report.against = (watched.judge.against(), watched.judge.needed(time, rise, fall));
            report.next = Some(next);
            if changed {
                report.since = SystemTime::now();
            }
        }
        if changed {
            self.board.tell();
        }
    }
}

/// A part of a time, as a hash chooses.
fn part(of: Duration, hash: u64) -> Duration {
    // An hour in nanoseconds, times 2^64, is within 128 bits.
    let nanos = (of.as_nanos() * u128::from(hash)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
