//! Hooks, called beside the rollout until they succeed, fail, or run out of time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::machine::{HookAnswer, HookCall, HookKey};
use super::super::spec::Target;
use super::contract::{About, Attempt, Told, answered};
use super::{Http, command};

/// Calls at the same time; more wait, and their time runs.
const MAX_CALLS: usize = 32;
/// Calls that are known: those under way, and those that have ended last.
const MAX_KNOWN: usize = 512;
/// How long one attempt of a web hook may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The shortest and the longest time between attempts.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// The calls of one service's hooks. Dropping it ends them; commands are killed.
#[derive(Debug)]
pub struct Hooks {
    http: Http,
    board: Arc<Board>,
    permits: Arc<Semaphore>,
    calls: JoinSet<()>,
}

/// What is known.
#[derive(Debug, Default)]
struct Board {
    answers: Mutex<BTreeMap<HookKey, HookAnswer>>,
    news: Notify,
}

impl Hooks {
    /// Nothing is called yet.
    #[must_use]
    pub fn new(http: Http) -> Self {
        Self {
            http,
            board: Arc::default(),
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            calls: JoinSet::new(),
        }
    }

    /// The answers so far: [`HookAnswer::InProgress`] from the moment a hook is called.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<HookKey, HookAnswer> {
        self.board.lock().clone()
    }

    /// Waits until an answer has come since this was last waited for.
    pub async fn news(&self) {
        self.board.news.notified().await;
    }

    /// Calls what is asked for, each key once: to ask again for what is called is harmless.
    pub fn call(&mut self, about: &About, asked: impl IntoIterator<Item = (HookKey, HookCall)>) {
        while self.calls.try_join_next().is_some() {}
        for (key, call) in asked {
            if !self.board.begin(&key) {
                continue;
            }
            let told = Told::of(about, &key, &call);
            let (http, board, permits) =
                (self.http.clone(), Arc::clone(&self.board), Arc::clone(&self.permits));
            self.calls.spawn(async move {
                let answer = finish(&http, &permits, &call, &told).await;
                board.answer(key, answer);
            });
        }
    }
}

impl Board {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<HookKey, HookAnswer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the call is new; it is known from now on. What has ended longest ago is forgotten
    /// where there is no room; where all are under way, it is not begun now.
    fn begin(&self, key: &HookKey) -> bool {
        let mut answers = self.lock();
        if answers.contains_key(key) {
            return false;
        }
        if answers.len() >= MAX_KNOWN {
            let ended = answers.iter().find(|(_, answer)| **answer != HookAnswer::InProgress);
            let Some(ended) = ended.map(|(key, _)| key.clone()) else { return false };
            answers.remove(&ended);
        }
        answers.insert(key.clone(), HookAnswer::InProgress);
        true
    }

    fn answer(&self, key: HookKey, answer: HookAnswer) {
        self.lock().insert(key, answer);
        self.news.notify_one();
    }
}

/// Asks until there is an answer, or no time.
async fn finish(http: &Http, permits: &Semaphore, call: &HookCall, told: &Told) -> HookAnswer {
    let time = call.timeout.duration();
    let deadline = Instant::now() + time;
    let mut last = "it was not asked".to_owned();
    let Ok(_permit) = permits.acquire().await else { return HookAnswer::Failed(last) };
    for wait in waits() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match attempt(http, &call.target, told, left).await {
            Attempt::Succeeded => return HookAnswer::Succeeded,
            Attempt::Failed(why) => return HookAnswer::Failed(why),
            Attempt::InProgress(said) if said.is_empty() => {
                "it is in progress".clone_into(&mut last);
            }
            Attempt::InProgress(said) => last = format!("it is in progress: {said}"),
            Attempt::Unclear(why) => last = why,
        }
        sleep(wait.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    let time = humantime::format_duration(time);
    HookAnswer::Failed(format!("it was not done within {time}; at last: {last}"))
}

/// The times between attempts; without an end.
pub(super) fn waits() -> impl Iterator<Item = Duration> {
    let (shortest, longest) = WAITS;
    let waits = ExponentialBuilder::default()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .with_factor(1.5)
        .without_max_times();
    waits.build()
}

/// Asks once.
pub(super) async fn attempt(http: &Http, target: &Target, told: &Told, left: Duration) -> Attempt {
    match target {
        Target::Command(words) => command::run(words, told, left).await,
        Target::Url(url) => {
            let body = match serde_json::to_vec(told) {
                Ok(body) => body,
                Err(error) => return Attempt::Failed(error.to_string()),
            };
            match http.post(url, body, &told.id, ATTEMPT.min(left)).await {
                Ok(answer) => answered(answer.status, &answer.body),
                Err(why) => Attempt::Unclear(why),
            }
        }
    }
}
