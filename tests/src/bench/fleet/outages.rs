//! A canary that serves nobody: how many connections it harms until all traffic is back.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use weir_proto::rollout::v1;

use super::{Follower, LIMIT, Outage, Plan, each};
use crate::fleet::Release;
use crate::fleet::release::short;
use crate::identity::Version::Canary;
use crate::interrupt::Interrupt;
use crate::lab::addresses::Family::V4;
use crate::load::fresh::FreshCounts;

/// Connections at a time through each agent: those to a canary that is silent wait long.
const AT_A_TIME: usize = 1_024;
/// A client that waits longer has given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// What was there before is not what is measured.
const STEADY: Duration = Duration::from_secs(3);

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refuses,
    Silent,
}

/// A case.
#[derive(Debug, Clone, Copy)]
struct Case {
    fault: Fault,
    /// It serves at first.
    later: bool,
    watched: Watched,
}

/// Who watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// The agents guard it, and the coordinator judges it.
    Guarded,
    Judged,
    /// The judge looks at SYNs that are sent again, too.
    BySyns,
}

const fn case(fault: Fault, later: bool, watched: Watched) -> Case {
    Case { fault, later, watched }
}

const CASES: [Case; 8] = [
    case(Fault::Refuses, false, Watched::Guarded),
    case(Fault::Refuses, false, Watched::Judged),
    case(Fault::Refuses, true, Watched::Guarded),
    case(Fault::Silent, false, Watched::Guarded),
    case(Fault::Silent, false, Watched::Judged),
    case(Fault::Silent, false, Watched::BySyns),
    case(Fault::Silent, true, Watched::Guarded),
    case(Fault::Silent, true, Watched::BySyns),
];

impl Watched {
    const fn name(self) -> &'static str {
        match self {
            Self::Guarded => "guard, judge",
            Self::Judged => "judge",
            Self::BySyns => "judge, by SYNs",
        }
    }
}

impl Case {
    fn name(self) -> String {
        let fault = match self.fault {
            Fault::Refuses => "refuses",
            Fault::Silent => "is silent",
        };
        format!("{fault} {}", if self.later { "after 5 s at 5 %" } else { "from the start" })
    }

    fn spec(self, number: usize) -> String {
        let (guard, metrics) = match self.watched {
            Watched::Guarded => {
                let guard =
                    "guard: { connectSuccess: \">= 50%\", minConnections: 20, window: 5s }\n";
                (guard, "connectSuccess")
            }
            Watched::Judged => ("", "connectSuccess"),
            Watched::BySyns => ("", "connectSuccess, retransmissions"),
        };
        format!(
            "kind: Rollout\nservice: web\nrevision: outage-{number}\nstrategy:\n  canary:\n    \
             steps:\n      - setWeight: 5%\n      - analysis: {{ minDuration: 30s, maxDuration: 60s }}\n\
             analysis: {{ metrics: [{metrics}] }}\n{guard}"
        )
    }
}

pub(super) fn measure(
    release: &mut Release,
    plan: Plan,
    interrupt: &Interrupt,
    progress: &dyn Fn(&str),
) -> Result<Vec<Outage>> {
    let mut rows = Vec::new();
    for (number, case) in CASES.into_iter().enumerate() {
        let row = one(release, plan, (number, case), interrupt)
            .with_context(|| format!("a canary that {}", case.name()))?;
        progress(&format!("  a canary that {row}"));
        well(release, case.fault)?;
        rows.push(row);
        interrupt.sleep(Duration::from_secs(1))?;
    }
    Ok(rows)
}

fn one(
    release: &mut Release,
    plan: Plan,
    (number, case): (usize, Case),
    interrupt: &Interrupt,
) -> Result<Outage> {
    let load = release.fleet.load(|lab| {
        let mut plan = short(lab, each(plan)).limit(PATIENCE);
        plan.concurrency = AT_A_TIME;
        plan
    })?;
    let began = Instant::now();
    interrupt.sleep(STEADY)?;
    let mut follower = Follower::of(&release.coordinator)?;
    let ill_at = if case.later {
        follower.start(&case.spec(number))?;
        follower.until(LIMIT, |one| one.activity == "analyzing")?;
        interrupt.sleep(Duration::from_secs(5))?;
        let at = now_ms();
        ill(release, case.fault)?;
        at
    } else {
        ill(release, case.fault)?;
        follower.start(&case.spec(number))?;
        0
    };
    follower.ends("degraded", LIMIT)?;
    // Who waits for a silent canary is harmed, and finds out later.
    sleep(PATIENCE + Duration::from_millis(500));
    let time = began.elapsed();
    let mut counts = Vec::new();
    for load in load {
        counts.push(load.stop()?);
    }
    let (harmed, all): (u64, u64) = (
        counts.iter().map(FreshCounts::failed).sum(),
        counts.iter().map(|one| one.failed() + one.answered()).sum(),
    );
    let events = follower.events()?;
    let since = events.iter().rposition(|event| event.after == "preflight").unwrap_or(0);
    let events = &events[since..];
    let at = |wanted: &dyn Fn(&v1::Event) -> bool| {
        events.iter().find(|event| wanted(event)).map(|event| event.at_ms)
    };
    let weight = at(&|event| event.after == "progressing").context("no weight was set")?;
    let ill_at = ill_at.max(weight);
    let aborted = |event: &v1::Event| ["aborting", "rolling-back"].contains(&event.after.as_str());
    let found = events.iter().find(|event| aborted(event)).context("it was not aborted")?;
    let back = at(&|event| event.after == "degraded").context("it did not go back")?;
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    Ok(Outage {
        case: case.name(),
        watched_by: case.watched.name(),
        rate: all as f64 / time.as_secs_f64(),
        harmed,
        found: seconds(found.at_ms - ill_at),
        back: seconds(back - ill_at),
        reason: found.reason.clone(),
    })
}

fn ill(release: &mut Release, fault: Fault) -> Result<()> {
    for member in release.fleet.members_mut() {
        match fault {
            Fault::Refuses => member.lab_mut().stop_servers(Canary),
            Fault::Silent => member.lab().silence(Canary, V4)?,
        }
    }
    Ok(())
}

fn well(release: &mut Release, fault: Fault) -> Result<()> {
    for member in release.fleet.members_mut() {
        match fault {
            Fault::Refuses => member.lab_mut().start_servers(Canary)?,
            Fault::Silent => member.lab().unsilence(Canary, V4)?,
        }
    }
    Ok(())
}

/// As events have it.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "less than an hour")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}
