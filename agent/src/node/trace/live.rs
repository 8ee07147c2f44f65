//! Live traces: a few tracers at once, each with its own queue of events.
//!
//! The program's ring is emptied every `LOOK` while anybody traces. A tracer whose reader is slow
//! loses events, and is told how many; it slows nobody else. Each trace ends by itself some seconds
//! after the agent has renewed it last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use weir_ebpf::abi::TRACERS;

use crate::dataplane::tap::{Filter, Tap, Told};

/// Time between two looks at the ring.
const LOOK: Duration = Duration::from_millis(10);
/// Events taken in one look: more than the ring holds.
const BATCH: usize = 16_384;
/// Events that wait for a tracer's reader.
pub const QUEUE: usize = 8_192;
/// How often traces are renewed, and how long one lasts without that.
const RENEW: Duration = Duration::from_secs(1);
const LASTS: Duration = Duration::from_secs(5);

/// All tracers. Cheap to clone.
#[derive(Clone)]
pub struct Tracing(Arc<Hub>);

struct Hub {
    state: Mutex<State>,
    /// Told when the first tracer comes.
    begun: Notify,
}

struct State {
    tap: Box<dyn Tap>,
    tracers: [Option<Sink>; TRACERS],
    /// What the tap had lost when it was looked at last.
    lost: [u64; TRACERS],
}

/// Where a tracer's events go.
struct Sink {
    /// Bytes of each frame that it wants.
    frame: usize,
    queue: mpsc::Sender<Told>,
    lost: Arc<AtomicU64>,
}

/// A trace. It ends when this is dropped.
pub struct Trace {
    tracing: Tracing,
    index: usize,
    events: mpsc::Receiver<Told>,
    lost: Arc<AtomicU64>,
}

/// As many trace as can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl std::fmt::Debug for Tracing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracing").finish_non_exhaustive()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, so much later than now.
pub(super) fn monotonic(later: Duration) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from((now + later).as_nanos()).unwrap_or(u64::MAX)
}

impl Tracing {
    /// Serves tracers from this tap, in a task of the current runtime.
    #[must_use]
    pub fn start(tap: Box<dyn Tap>) -> Self {
        let lost = tap.lost();
        let state = State { tap, tracers: [const { None }; TRACERS], lost };
        let tracing = Self(Arc::new(Hub { state: Mutex::new(state), begun: Notify::new() }));
        tokio::spawn(serve(Arc::clone(&tracing.0)));
        tracing
    }

    /// Begins a trace.
    ///
    /// # Errors
    ///
    /// As many trace as can.
    pub fn trace(&self, filter: &Filter) -> Result<Trace, Busy> {
        let mut state = self.0.state();
        let index = state.tracers.iter().position(Option::is_none).ok_or(Busy)?;
        // What is in the ring may be for whoever had this place before.
        state.look();
        let (queue, events) = mpsc::channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let frame = usize::try_from(filter.frame).unwrap_or(usize::MAX);
        state.tracers[index] = Some(Sink { frame, queue, lost: Arc::clone(&lost) });
        state.tap.set(index, Some(filter), monotonic(LASTS));
        drop(state);
        self.0.begun.notify_one();
        Ok(Trace { tracing: self.clone(), index, events, lost })
    }
}

/// Looks after the tracers, until the runtime ends.
async fn serve(hub: Arc<Hub>) {
    let mut renewed = Instant::now();
    loop {
        if !hub.any() {
            hub.begun.notified().await;
        }
        let renew = renewed.elapsed() >= RENEW;
        if renew {
            renewed = Instant::now();
        }
        hub.look(renew);
        sleep(LOOK).await;
    }
}

impl Hub {
    fn any(&self) -> bool {
        self.state().tracers.iter().any(Option::is_some)
    }

    fn look(&self, renew: bool) {
        let mut state = self.state();
        if renew {
            state.tap.renew(monotonic(LASTS));
        }
        state.look();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Empties the ring into the tracers' queues.
    fn look(&mut self) {
        let Self { tap, tracers, .. } = self;
        tap.take(BATCH, &mut |told| {
            let wanted = |index: usize| told.event.tracers >> index & 1 != 0;
            let sinks = tracers.iter().enumerate().filter(|(index, _)| wanted(*index));
            for sink in sinks.filter_map(|(_, sink)| sink.as_ref()) {
                let mut told = told.clone();
                told.frame.truncate(sink.frame);
                if sink.queue.try_send(told).is_err() {
                    sink.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let lost = self.tap.lost();
        for ((sink, now), before) in self.tracers.iter().zip(lost).zip(self.lost) {
            if let Some(sink) = sink {
                sink.lost.fetch_add(now - before, Ordering::Relaxed);
            }
        }
        self.lost = lost;
    }
}

impl Trace {
    /// The next events, some hundred at most; none only if the trace is over.
    pub async fn next(&mut self) -> Vec<Told> {
        let mut events = Vec::new();
        self.events.recv_many(&mut events, 512).await;
        events
    }

    /// Events that were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let mut state = self.tracing.0.state();
        state.tap.set(self.index, None, monotonic(LASTS));
        state.tracers[self.index] = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use weir_ebpf::abi::{Address, FlowKey, NO_SERVICE, TraceEvent};

    use super::*;

    /// What a tap was told, and what it is to tell.
    #[derive(Default)]
    struct Fake {
        on: [bool; TRACERS],
        until: u64,
        waiting: Vec<Told>,
        lost: [u64; TRACERS],
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Fake>>);

    impl Tap for Shared {
        fn set(&mut self, tracer: usize, filter: Option<&Filter>, until: u64) {
            let mut fake = self.0.lock().unwrap();
            (fake.on[tracer], fake.until) = (filter.is_some(), until);
        }

        fn renew(&mut self, until: u64) {
            self.0.lock().unwrap().until = until;
        }

        fn take(&mut self, limit: usize, show: &mut dyn FnMut(Told)) -> usize {
            let mut fake = self.0.lock().unwrap();
            let count = limit.min(fake.waiting.len());
            fake.waiting.drain(..count).for_each(show);
            count
        }

        fn lost(&self) -> [u64; TRACERS] {
            self.0.lock().unwrap().lost
        }
    }

    const ALL: Filter = Filter {
        client: None,
        service: None,
        sent: true,
        dropped: true,
        passed: true,
        sample: 1,
        frame: 0,
    };

    fn told(number: u32, tracers: u8) -> Told {
        let key = FlowKey {
            source: Address::default(),
            destination: Address::default(),
            source_port: 0,
            destination_port: 0,
            protocol: 0,
            pad: [0; 3],
        };
        let event = TraceEvent {
            time: 0,
            key,
            service: NO_SERVICE,
            ifindex: 0,
            length: number,
            captured: 0,
            tag: 0,
            reason: 0,
            backend: 0,
            hook: 0,
            what: 0,
            why: 0,
            opens: 0,
            flags: 0,
            tracers,
        };
        Told { event, frame: Vec::new() }
    }

    impl Shared {
        fn tell(&self, all: impl IntoIterator<Item = Told>) {
            self.0.lock().unwrap().waiting.extend(all);
        }
    }

    fn numbers(told: &[Told]) -> Vec<u32> {
        told.iter().map(|told| told.event.length).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_tracer_gets_its_own_and_the_fifth_none() {
        let tap = Shared::default();
        let tracing = Tracing::start(Box::new(tap.clone()));
        let mut traces: Vec<Trace> = (0..4).map(|_| tracing.trace(&ALL).unwrap()).collect();
        assert!(tracing.trace(&ALL).is_err());
        tap.tell([told(1, 0b0001), told(2, 0b1001), told(3, 0b0110)]);
        for (trace, expected) in traces.iter_mut().zip([vec![1, 2], vec![3], vec![3], vec![2]]) {
            assert_eq!(numbers(&trace.next().await), expected);
        }
        // What is told to who has left is not told to who comes.
        traces.remove(1);
        assert_eq!(tap.0.lock().unwrap().on, [true, false, true, true]);
        tap.tell([told(4, 0b0010)]);
        let mut new = tracing.trace(&ALL).unwrap();
        tap.tell([told(5, 0b0010)]);
        assert_eq!(numbers(&new.next().await), [5]);
        drop((new, traces));
        assert_eq!(tap.0.lock().unwrap().on, [false; TRACERS]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_is_counted_and_harms_nobody_else() {
        let tap = Shared::default();
        tap.0.lock().unwrap().lost = [100; TRACERS];
        let tracing = Tracing::start(Box::new(tap.clone()));
        let (mut slow, mut quick) = (tracing.trace(&ALL).unwrap(), tracing.trace(&ALL).unwrap());
        let (all, mut seen) = (u32::try_from(QUEUE).unwrap() + 500, 0);
        for number in 0..all {
            tap.tell([told(number, 0b11)]);
            if number % 1_000 == 999 || number == all - 1 {
                while seen <= usize::try_from(number).unwrap() {
                    seen += quick.next().await.len();
                }
            }
        }
        tap.0.lock().unwrap().lost[0] += 7;
        sleep(LOOK * 2).await;
        assert_eq!((slow.lost(), quick.lost()), (507, 0), "500 by the queue, 7 by the ring");
        let mut kept = 0;
        while kept < QUEUE {
            kept += slow.next().await.len();
        }
        assert_eq!(kept, QUEUE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_is_renewed_as_long_as_it_runs() {
        let tap = Shared::default();
        let tracing = Tracing::start(Box::new(tap.clone()));
        let trace = tracing.trace(&ALL).unwrap();
        tap.0.lock().unwrap().until = 0;
        sleep(RENEW * 2).await;
        assert!(tap.0.lock().unwrap().until > monotonic(LASTS / 2));
        drop(trace);
        sleep(LOOK * 2).await;
        tap.0.lock().unwrap().until = 0;
        sleep(RENEW * 2).await;
        assert_eq!(tap.0.lock().unwrap().until, 0, "nobody traces");
    }
}
