//! To lead: a number that only grows, and a time until which it is sure.

use std::fmt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// How often a waiting [`Leadership::lost`] looks at the clock: after a pause of this process the
/// runtime's own timers may be late.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a resignation may take; a lease that could not be given back runs out by itself.
const RESIGN_LIMIT: Duration = Duration::from_secs(3);

/// The number of a leadership: greater than that of every one before. Stores and agents refuse a
/// smaller one than they have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// As it calls itself in the store's options; may hold the address of its API.
    pub name: String,
    /// Its fence.
    pub fence: Fence,
}

/// Until when it is sure that this process leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sure {
    /// Until something else is said.
    Always,
    /// Until this time of [`now`]. Whoever renews a lease moves it on.
    Until(Duration),
    /// No longer, for this reason.
    Over(String),
}

/// That this process leads. It ends when it is dropped, and may end before: ask
/// [`Leadership::check`] before each effect.
#[derive(Debug)]
pub struct Leadership {
    fence: Fence,
    claim: Claim,
}

/// What the leader, or who wants to be it, has of what the store holds for it.
#[derive(Debug)]
pub(super) struct Claim {
    sure: watch::Receiver<Sure>,
    /// Closed or told, the holder gives up what it holds; told, it says when that is done.
    end: mpsc::Sender<oneshot::Sender<()>>,
}

/// The other side of a [`Claim`]: for whoever holds the lock or the lease.
#[derive(Debug)]
pub(super) struct Holding {
    /// To say for how long it is sure.
    pub(super) sure: watch::Sender<Sure>,
    /// Ends, or brings a resignation, when the claim is given up.
    pub(super) end: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Both sides.
pub(super) fn claim(sure: Sure) -> (Claim, Holding) {
    let (say, sure) = watch::channel(sure);
    let (tell, end) = mpsc::channel(1);
    (Claim { sure, end: tell }, Holding { sure: say, end })
}

impl Claim {
    /// It has become a leadership with this number.
    pub(super) fn leads(self, fence: Fence) -> Leadership {
        Leadership { fence, claim: self }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match &*self.sure.borrow() {
            Sure::Over(why) => return Err(why.clone()),
            Sure::Until(deadline) if now() >= *deadline => {
                return Err("the lease could not be renewed in time".to_owned());
            }
            Sure::Always | Sure::Until(_) => {}
        }
        // An error: the other side has ended.
        self.sure.has_changed().map(drop).map_err(|_| "what kept the claim has ended".to_owned())
    }

    pub(super) async fn lost(&self) -> String {
        let mut sure = self.sure.clone();
        loop {
            if let Err(why) = self.check() {
                return why;
            }
            let _ = timeout(LOOK_EVERY, sure.changed()).await;
        }
    }
}

impl Leadership {
    /// Its number.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// That this process still leads, by the clock of this instant: right also at the first
    /// instruction after a pause of the process or of the machine.
    ///
    /// # Errors
    ///
    /// Why it leads no longer: no effect may follow.
    pub fn check(&self) -> Result<(), String> {
        self.claim.check()
    }

    /// Waits until this process leads no longer, and says why.
    pub async fn lost(&self) -> String {
        self.claim.lost().await
    }

    /// Gives it up, so that another can lead at once. If the store does not answer, the lease runs
    /// out by itself.
    pub async fn resign(self) {
        let (done, is_done) = oneshot::channel();
        if self.claim.end.send(done).await.is_ok() {
            let _ = timeout(RESIGN_LIMIT, is_done).await;
        }
    }
}

/// Time since the machine started, also what it has slept. It never jumps.
pub(super) fn now() -> Duration {
    // It cannot fail on Linux; a clock that stood still would let a lease be sure for ever, so
    // that the end of time is the safe answer.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::time::sleep;

    fn leads(sure: Sure) -> (Leadership, Holding) {
        let (claim, holding) = claim(sure);
        (claim.leads(Fence(3)), holding)
    }

    #[tokio::test]
    async fn a_lease_is_sure_until_its_time_and_no_longer() {
        let soon = now() + Duration::from_millis(300);
        let (leadership, holding) = leads(Sure::Until(soon));
        leadership.check().unwrap();
        let later = soon + Duration::from_millis(300);
        holding.sure.send_replace(Sure::Until(later));
        let why = timeout(Duration::from_secs(5), leadership.lost()).await.unwrap();
        assert!(now() >= later, "renewed, it held on");
        assert!(why.contains("renewed"), "{why}");
        assert!(leadership.check().is_err());
    }

    #[tokio::test]
    async fn what_ends_the_holder_ends_the_leadership() {
        let (leadership, holding) = leads(Sure::Always);
        holding.sure.send_replace(Sure::Over("no more".to_owned()));
        assert_eq!(leadership.lost().await, "no more");

        let (leadership, holding) = leads(Sure::Always);
        leadership.check().unwrap();
        drop(holding);
        assert!(leadership.lost().await.contains("ended"));
    }

    #[tokio::test]
    async fn a_resignation_waits_for_the_holder() {
        let (leadership, mut holding) = leads(Sure::Always);
        let holder = tokio::spawn(async move {
            let done = holding.end.recv().await.unwrap();
            sleep(Duration::from_millis(50)).await;
            done.send(()).unwrap();
        });
        leadership.resign().await;
        assert!(timeout(Duration::from_millis(20), holder).await.is_ok());

        let (leadership, mut holding) = leads(Sure::Always);
        drop(leadership);
        assert!(holding.end.recv().await.is_none());
    }
}
