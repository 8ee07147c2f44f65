//! How long a change of weights takes, from just before a person promotes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use weir_proto::rollout::v1;

use super::{Change, Follower, LIMIT, Plan, each};
use crate::bench::figures::Times;
use crate::fleet::Release;
use crate::interrupt::Interrupt;

/// The candidate's shares, in percent.
const SHARES: [u32; 7] = [5, 10, 20, 30, 50, 70, 90];
/// Connections that the smaller version must expect until its share counts as seen: `EXPECTED` of
/// `model::sample_ratio`.
const EXPECTED: u32 = 40;

/// What each change took.
#[derive(Default)]
struct Taken {
    tables: Vec<Duration>,
    verified: Vec<Duration>,
}

/// Gives the times of each change, and the new connections a second meanwhile.
pub(super) fn measure(
    release: &Release,
    plan: Plan,
    interrupt: &Interrupt,
    progress: &dyn Fn(&str),
) -> Result<(Vec<Change>, f64)> {
    progress("changes of weights");
    let load = release.load(each(plan))?;
    let began = Instant::now();
    let mut follower = Follower::of(&release.coordinator)?;
    let mut taken: Vec<Taken> = SHARES.iter().map(|_| Taken::default()).collect();
    for round in 1..=plan.rounds {
        follower.start(&spec(round))?;
        for (place, (share, taken)) in SHARES.iter().zip(&mut taken).enumerate() {
            // A gate before each change, then the change itself.
            let gate = u32::try_from(2 * place)?;
            follower.until(LIMIT, |one| one.step == gate && one.activity == "gate")?;
            // The counters of the last change are not to count for this one.
            interrupt.sleep(Duration::from_millis(300))?;
            let promoted = follower.command("promote")?;
            let set = |one: &v1::Rollout| {
                one.step > gate + 1 || (one.step == gate + 1 && one.activity == "verifying")
            };
            let tables = follower.until(LIMIT, set)?.duration_since(promoted);
            let verified = if *share == SHARES[SHARES.len() - 1] {
                follower.until(LIMIT, |one| one.step > gate + 1)?
            } else {
                follower.until(LIMIT, |one| one.step == gate + 2)?
            };
            let verified = verified.duration_since(promoted);
            progress(&format!("  {share:>3}%: tables {tables:.0?}, verified {verified:.0?}"));
            taken.tables.push(tables);
            taken.verified.push(verified);
        }
        follower.command("abort")?;
        follower.ends("degraded", LIMIT)?;
    }
    let time = began.elapsed();
    let mut answered = 0;
    for load in load {
        let counts = load.stop()?;
        counts.check()?;
        answered += counts.answered();
    }
    let row = |(share, taken): (&u32, &Taken)| {
        Some(Change {
            share: *share,
            needed: (EXPECTED * 100).div_ceil(*share.min(&(100 - share))),
            tables: Times::of(&taken.tables)?,
            verified: Times::of(&taken.verified)?,
        })
    };
    let rows: Option<Vec<_>> = SHARES.iter().zip(&taken).map(row).collect();
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = answered as f64 / time.as_secs_f64();
    Ok((rows.context("no change was measured")?, rate))
}

fn spec(round: u32) -> String {
    let step = |share: &u32| {
        format!(
            "      - gate: {{ type: manual, timeout: 1h, onTimeout: abort }}\n      \
             - setWeight: {share}%\n"
        )
    };
    let steps: String = SHARES.iter().map(step).collect();
    format!(
        "kind: Rollout\nservice: web\nrevision: change-{round}\nstrategy:\n  canary:\n    steps:\n\
         {steps}      - pause: {{}}\n"
    )
}
