//! News for hooks whose answer changes nothing: in order, at least once, and never in the way.

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::machine::Event;
use super::super::spec::{Hook, Stage};
use super::Http;
use super::contract::{About, Attempt, Told};
use super::hooks::{attempt, waits};

/// News that wait for one hook; more are dropped, and that is logged.
const MAX_WAITING: usize = 256;
/// Hooks that are told at the same time.
const MAX_HOOKS: usize = 64;

/// Tells of events. Dropping it ends it; what was not told by then is told by whoever leads next,
/// if the state still names it.
#[derive(Debug)]
pub struct Notifier {
    http: Http,
    /// The number of the last event that was taken.
    taken: u64,
    /// One queue a hook, so that a slow one holds nobody up.
    queues: Vec<(Hook, mpsc::Sender<Told>)>,
    tasks: JoinSet<()>,
}

impl Notifier {
    /// Nobody is told yet.
    #[must_use]
    pub fn new(http: Http) -> Self {
        Self { http, taken: 0, queues: Vec::new(), tasks: JoinSet::new() }
    }

    /// Takes an event for all hooks of stage `event`, each event once by its number. It does not
    /// wait. A hook that does not take an event within its time-out is not told of it.
    pub fn notify(&mut self, about: &About, hooks: &[Hook], event: &Event) {
        if event.number <= self.taken {
            return;
        }
        self.taken = event.number;
        for hook in hooks.iter().filter(|hook| hook.stage == Stage::Event) {
            self.queue(hook, Told::event(about, event));
        }
    }

    fn queue(&mut self, hook: &Hook, told: Told) {
        // A hook that no rollout names any longer: its queue ends when it is empty.
        if self.queues.len() >= MAX_HOOKS {
            self.queues.remove(0);
        }
        while self.tasks.try_join_next().is_some() {}
        let at = self.queues.iter().position(|(known, _)| known == hook);
        let at = at.unwrap_or_else(|| {
            let (queue, waiting) = mpsc::channel(MAX_WAITING);
            self.tasks.spawn(tell(self.http.clone(), hook.clone(), waiting));
            self.queues.push((hook.clone(), queue));
            self.queues.len() - 1
        });
        let id = told.id.clone();
        match self.queues[at].1.try_send(told) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(id, "a hook is not told of an event: {MAX_WAITING} wait for it");
            }
            Err(TrySendError::Closed(_)) => {
                self.queues.remove(at);
            }
        }
    }
}

/// Tells a hook of one event after the other.
async fn tell(http: Http, hook: Hook, mut waiting: mpsc::Receiver<Told>) {
    while let Some(told) = waiting.recv().await {
        let deadline = Instant::now() + hook.timeout.duration();
        for wait in waits() {
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match attempt(&http, &hook.target, &told, left).await {
                // Whoever has taken it need not say when it has done something with it.
                Attempt::Succeeded | Attempt::InProgress(_) => break,
                Attempt::Failed(why) => why,
                Attempt::Unclear(why) if left <= wait => why,
                Attempt::Unclear(_) => {
                    sleep(wait).await;
                    continue;
                }
            };
            tracing::warn!(id = told.id, "a hook was not told of an event: {why}");
            break;
        }
    }
}
