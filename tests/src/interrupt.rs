//! Ctrl-C as a value, so that a program can leave in order and clean up.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Set once SIGINT, SIGTERM or SIGHUP has arrived.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<(Mutex<bool>, Condvar)>);

impl Interrupt {
    /// Takes these signals over for the rest of the process. Install it before the lab starts:
    /// a signal during the start then still ends in an orderly clean-up.
    pub fn install() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("starting the signal thread's runtime")?;
        // Registered here and not in the thread: from this line on no signal is lost.
        let context = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        drop(context);

        let state = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hang_up.recv() => {}
                    }
                });
                *shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                shared.1.notify_all();
            })
            .context("starting the signal thread")?;
        Ok(Self(state))
    }

    /// Waits until interrupted or `limit` has passed; says whether it was interrupted.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let (set, changed) = &*self.0;
        let guard = set.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = changed
            .wait_timeout_while(guard, limit, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }

    /// Sleeps for `time`; an interrupt ends the sleep with an error, for use with `?`.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        if self.wait(time) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps until `instant`; an interrupt ends the sleep with an error, for use with `?`.
    pub fn sleep_until(&self, instant: Instant) -> Result<()> {
        self.sleep(instant.saturating_duration_since(Instant::now()))
    }
}
