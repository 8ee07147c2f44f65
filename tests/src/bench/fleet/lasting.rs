//! Connections that stay open through all that a rollout does, and through what happens to who does it.

use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{Follower, LIMIT, Lasting, Plan, millis};
use crate::fleet::Release;
use crate::fleet::release::{at, small_lab};
use crate::interrupt::Interrupt;
use crate::lab::addresses::{ECHO_PORT, Family};
use crate::load::Fault;
use crate::load::long_lived::{LongLived, LongLivedPlan};
use std::time::Duration;

/// Each of the half that talks does so this often.
const PACE: Duration = Duration::from_secs(5);
/// On a busy machine an answer may take long; that is no reset.
const STALLED: Duration = Duration::from_secs(20);

const SPEC: &str = "\
kind: Rollout
service: web
revision: REVISION
strategy:
  canary:
    steps:
      - setWeight: 50%
      - pause: {}
bake: 2s
verify: { timeout: 2s }
drain: { idle: 1s, timeout: 3s }
";

/// The connections, and what was seen of them so far.
struct Watch<'a> {
    held: Vec<LongLived>,
    rows: Vec<Lasting>,
    interrupt: &'a Interrupt,
    progress: &'a dyn Fn(&str),
}

impl Watch<'_> {
    /// Says a line on each connection, and notes how they are after `what`.
    fn after(&mut self, what: &str, began: Instant) -> Result<()> {
        let took = millis(began.elapsed());
        let mut row = Lasting { what: what.to_owned(), seconds: took / 1e3, ..Lasting::default() };
        for some in &self.held {
            let state = some.verify();
            row.open += state.connections.len();
            row.whole += state.healthy();
            row.resets += state.faults().get(&Fault::Reset).copied().unwrap_or(0);
            for (sum, count) in row.by_version.iter_mut().zip(state.by_version()) {
                *sum += count;
            }
        }
        (self.progress)(&format!("  {row}"));
        self.rows.push(row);
        self.interrupt.sleep(Duration::ZERO)
    }
}

pub(super) fn measure(
    plan: Plan,
    interrupt: &Interrupt,
    progress: &dyn Fn(&str),
) -> Result<Vec<Lasting>> {
    progress(&format!("{} connections that stay open", plan.connections));
    let mut release = Release::start(plan.agents, small_lab().files_apart(), &[])?;
    let agents = u32::try_from(plan.agents)?;
    let half = (plan.connections / 2).div_ceil(agents);
    let open = |release: &Release| {
        release.fleet.long_lived(|lab| {
            let clients = lab.client_addresses(Family::V4);
            LongLivedPlan::new(at(ECHO_PORT), clients, half)
                .talking(half / 2, PACE)
                .stall_after(STALLED)
        })
    };
    let began = Instant::now();
    let mut watch = Watch { held: open(&release)?, rows: Vec::new(), interrupt, progress };
    watch.after("half of them are open", began)?;

    let mut follower = Follower::of(&release.coordinator)?;
    let began = follower.start(&SPEC.replace("REVISION", "one"))?;
    follower.until(LIMIT, |one| one.step == 1 && one.activity == "waiting")?;
    watch.held.extend(open(&release)?);
    watch.after("canary at 50 %, the others are open", began)?;

    let began = follower.command("abort")?;
    follower.ends("degraded", LIMIT)?;
    watch.after("rollback", began)?;

    let began = follower.start(&SPEC.replace("REVISION", "two"))?;
    follower.until(LIMIT, |one| one.step == 1 && one.activity == "waiting")?;
    watch.after("canary at 50 % again", began)?;

    let began = Instant::now();
    let members = release.fleet.members_mut();
    members[0].kill()?;
    members[0].restart()?;
    watch.after("an agent killed by SIGKILL, and started", began)?;

    let began = Instant::now();
    release.coordinator.signal(Signal::SIGKILL)?;
    // Until it is gone, its socket is its own.
    release.coordinator.ends(LIMIT)?.context("it lives on")?;
    release.coordinator = Release::coordinator(&release.fleet, "coordinator", &[])?;
    release.coordinator.leads()?;
    follower = Follower::of(&release.coordinator)?;
    follower.follow("two")?;
    watch.after("the coordinator killed by SIGKILL, and started", began)?;

    let began = follower.command("promote")?;
    follower.ends("healthy", LIMIT)?;
    watch.after("promoted to the end, baked, drained", began)?;

    let began = follower.command("undo")?;
    follower.until(LIMIT, |one| one.phase == "rolling-back")?;
    follower.ends("healthy", LIMIT)?;
    watch.after("undo", began)?;
    Ok(watch.rows)
}
