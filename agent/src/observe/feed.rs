//! The page's feed: one look a second while somebody watches, sent to all of them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;

use super::collect::{Collector, Snapshot};
use super::route::Body;
use super::view;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Clients at once.
pub(super) const CLIENTS: usize = 32;

/// Looks that are kept, oldest first, so that there is something to compare with.
#[derive(Debug, Default)]
pub(super) struct Past(VecDeque<Arc<Snapshot>>);

impl Past {
    /// Time between two that are kept, and for how long.
    const STEP: Duration = Duration::from_secs(5);
    const LENGTH: Duration = Duration::from_secs(30);

    /// Takes a look in. Of another epoch, it has nothing to be compared with.
    pub(super) fn push(&mut self, look: &Arc<Snapshot>) {
        if self.0.back().is_some_and(|last| last.status.epoch != look.status.epoch) {
            self.0.clear();
        }
        let too_old = |old: &Arc<Snapshot>| look.at - old.at > Self::LENGTH + Self::STEP;
        while self.0.front().is_some_and(too_old) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|last| look.at - last.at >= Self::STEP) {
            self.0.push_back(Arc::clone(look));
        }
    }

    /// The youngest that is at least so old, or else the oldest; none from before `look` at all.
    pub(super) fn before(&self, look: &Snapshot, age: Duration) -> Option<&Arc<Snapshot>> {
        let old = self.0.iter().rev().find(|old| old.at + age <= look.at);
        old.or_else(|| self.0.front()).filter(|old| old.at < look.at)
    }
}

/// Sends looks to whoever watches.
#[derive(Debug)]
pub(super) struct Feed {
    latest: watch::Sender<Bytes>,
    past: Arc<Mutex<Past>>,
    room: Arc<Semaphore>,
    _task: JoinSet<()>,
}

impl Feed {
    /// To be called within a tokio runtime.
    pub(super) fn start(collector: Arc<Collector>) -> Self {
        let latest = watch::Sender::new(Bytes::new());
        let past = Arc::<Mutex<Past>>::default();
        let mut task = JoinSet::new();
        task.spawn(run(collector, latest.clone(), Arc::clone(&past)));
        Self { latest, past, room: Arc::new(Semaphore::new(CLIENTS)), _task: task }
    }

    /// A stream of server-sent events without end, if there is room for one more. Who reads slowly
    /// misses looks, and gets the newest.
    pub(super) fn subscribe(&self) -> Option<Body> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok()?;
        // Empty until somebody watches.
        let looks = WatchStream::new(self.latest.subscribe()).filter(|event| !event.is_empty());
        let first = tokio_stream::once(Bytes::from_static(b"retry: 1000\n\n"));
        let frames = first.chain(looks).map(move |event| {
            // Held for as long as the stream lives.
            let _: &OwnedSemaphorePermit = &permit;
            Ok::<_, Infallible>(Frame::data(event))
        });
        Some(StreamBody::new(frames).boxed_unsync())
    }

    /// What one service has done lately, its backends included.
    pub(super) fn service(&self, look: &Snapshot, name: &str) -> Option<Bytes> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let old = past.before(look, Past::LENGTH);
        view::service(look, old.map(Arc::as_ref), name)
    }
}

async fn run(collector: Arc<Collector>, latest: watch::Sender<Bytes>, past: Arc<Mutex<Past>>) {
    let mut pause = PERIOD;
    loop {
        sleep(pause).await;
        pause = PERIOD;
        if latest.is_closed() {
            // Nobody watches. What was seen is too old when somebody does.
            past.lock().unwrap_or_else(PoisonError::into_inner).0.clear();
            latest.send_replace(Bytes::new());
            continue;
        }
        let data = match collector.look().await {
            Ok(look) => {
                // The node has other things to do: at most a fifth of its time is for the page.
                pause = PERIOD.saturating_sub(look.took).max(look.took * 4);
                let mut past = past.lock().unwrap_or_else(PoisonError::into_inner);
                past.push(&look);
                let quick = past.before(&look, Past::STEP).map(Arc::as_ref);
                let slow = past.before(&look, Past::LENGTH).map(Arc::as_ref);
                view::page(&look, quick, slow, pause)
            }
            Err(error) => view::trouble(&error.to_string()),
        };
        latest.send_replace(event(&data));
    }
}

/// A server-sent event. JSON in one line has no line break to escape.
fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}
