//! What is asked of the checks, and what they have found: between the owner of the node, who reads and
//! writes it at any time, and the task that makes the checks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Subject;
use crate::model::Health;

/// What is asked of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How it is checked.
    pub health: Arc<Health>,
    /// What is taken to be so of a backend that is new, until checks say otherwise.
    pub failing: bool,
}

/// All backends that are to be checked.
pub type Wanted = BTreeMap<Subject, Asked>;

/// What is known of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// It is down.
    pub failing: bool,
    /// Since when it is what it is, as far as this agent has seen.
    pub since: SystemTime,
    /// What the last check found wrong; nothing if it was good, or if there was none yet.
    pub error: Option<String>,
    /// Results in a row that speak against what it is, and how many it takes.
    pub against: (u32, u32),
    /// When it is checked next; nothing while it is being checked, or waits for a place.
    pub next: Option<Instant>,
}

/// What the checks come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Backends that are checked.
    pub backends: u64,
    /// Those that are down.
    pub failing: u64,
    /// Checks under way.
    pub in_flight: u64,
    /// Checks that are due and wait for a place.
    pub waiting: u64,
    /// Checks made since the agent started.
    pub made: u64,
    /// Checks that had to wait for a place.
    pub waited: u64,
}

/// The owner's side.
#[derive(Debug, Clone)]
pub struct Checks {
    wanted: Arc<watch::Sender<Arc<Wanted>>>,
    board: Arc<Board>,
}

/// The side of the task that makes the checks.
#[derive(Debug)]
pub struct TaskSide {
    pub(super) wanted: watch::Receiver<Arc<Wanted>>,
    pub(super) board: Arc<Board>,
}

#[derive(Debug, Default)]
pub(super) struct Board {
    reports: Mutex<BTreeMap<Subject, Report>>,
    news: Notify,
    in_flight: AtomicU64,
    waiting: AtomicU64,
    made: AtomicU64,
    waited: AtomicU64,
}

/// Both sides, with nothing asked.
#[must_use]
pub fn new() -> (Checks, TaskSide) {
    let (sender, wanted) = watch::channel(Arc::default());
    let board = Arc::<Board>::default();
    (Checks { wanted: Arc::new(sender), board: Arc::clone(&board) }, TaskSide { wanted, board })
}

impl Default for Checks {
    /// Nobody makes these.
    fn default() -> Self {
        new().0
    }
}

impl Checks {
    /// From now on exactly these are checked.
    pub fn ask(&self, wanted: Wanted) {
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// What is asked.
    #[must_use]
    pub fn asked(&self) -> Arc<Wanted> {
        Arc::clone(&self.wanted.borrow())
    }

    /// Waits until a backend has changed since the last wait. Changes meanwhile count once.
    pub async fn changed(&self) {
        self.board.news.notified().await;
    }

    /// What is known of a backend; nothing if it is not checked, or not known to the checks yet.
    #[must_use]
    pub fn report(&self, subject: &Subject) -> Option<Report> {
        self.board.reports().get(subject).cloned()
    }

    /// What is known of all of them.
    pub fn reports<T>(&self, look: impl FnOnce(&BTreeMap<Subject, Report>) -> T) -> T {
        look(&self.board.reports())
    }

    /// Says what a check has found, in place of one.
    pub fn find(&self, subject: &Subject, error: Option<&str>) {
        let report = Report {
            failing: error.is_some(),
            since: SystemTime::now(),
            error: error.map(str::to_owned),
            against: (0, 2),
            next: None,
        };
        self.board.reports().insert(subject.clone(), report);
        self.board.tell();
    }

    /// What the checks come to.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (backends, failing) = self.reports(|reports| {
            (reports.len(), reports.values().filter(|report| report.failing).count())
        });
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            backends: backends as u64,
            failing: failing as u64,
            in_flight: read(&self.board.in_flight),
            waiting: read(&self.board.waiting),
            made: read(&self.board.made),
            waited: read(&self.board.waited),
        }
    }
}

impl Board {
    /// A holder that panicked has left whole reports.
    pub(super) fn reports(&self) -> MutexGuard<'_, BTreeMap<Subject, Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a backend has changed.
    pub(super) fn tell(&self) {
        self.news.notify_one();
    }

    /// Takes note of what goes on.
    pub(super) fn note(&self, in_flight: usize, waiting: usize) {
        self.in_flight.store(in_flight as u64, Ordering::Relaxed);
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    pub(super) fn count_made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_waited(&self) {
        self.waited.fetch_add(1, Ordering::Relaxed);
    }
}

impl Report {
    /// How long until the next check, if it is waited for.
    #[must_use]
    pub fn next_in(&self) -> Option<Duration> {
        self.next.map(|next| next.saturating_duration_since(Instant::now()))
    }
}
