//! Walks through the steps, with load on all the time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use weir::model::TableShare;

use super::judge::{View, farthest};
use super::screen::Screen;
use super::script::{STEPS, Step, changes, openings};
use super::{ECHO, Options, WEB, answers, table};
use crate::interrupt::Interrupt;
use crate::lab::Lab;
use crate::lab::addresses::Family;
use crate::load::fresh::{Fresh, FreshCounts, FreshPlan, Period};
use crate::load::long_lived::{LongLived, LongLivedPlan, LongLivedState};

/// Time between two looks at the connections.
const LOOK: Duration = Duration::from_millis(200);

/// Looks at the connections for each look at the kernel's counters.
const LOOKS: u32 = 5;

/// After its answer has been missing for so long, a long-lived connection has stalled.
const STALLED: Duration = Duration::from_secs(3);

/// The walk under way. Dropping it ends the load.
pub(super) struct Walk<'a> {
    lab: &'a Lab,
    options: Options,
    interrupt: &'a Interrupt,
    screen: &'a mut Screen,
    echo: SocketAddr,
    fresh: Fresh,
    long_lived: Vec<LongLived>,
    seen: Vec<Seen>,
}

/// What was read in a step.
pub(super) struct Seen {
    pub(super) step: Step,
    /// The new connections that belong to it.
    pub(super) period: Period,
    /// Of both services, the shares that are farther from the weights.
    pub(super) tables: [TableShare; 3],
    /// New connections, as the kernel counted them.
    pub(super) counted: [u64; 3],
}

/// What is known when the walk is over.
pub(super) struct Records {
    pub(super) seen: Vec<Seen>,
    pub(super) fresh: FreshCounts,
    /// After a last line on each, the silent ones too.
    pub(super) long_lived: LongLivedState,
}

impl<'a> Walk<'a> {
    /// Starts the new connections.
    pub(super) fn new(
        lab: &'a Lab,
        options: Options,
        interrupt: &'a Interrupt,
        screen: &'a mut Screen,
        web: SocketAddr,
        echo: SocketAddr,
    ) -> Result<Self> {
        let mut plan = FreshPlan::new(web, lab.client_addresses(Family::V4)).rate(options.rate);
        // Enough that connections to a dead version do not hold up those to the others.
        plan.concurrency = plan.concurrency.max(options.rate as usize * 2);
        let fresh = Fresh::start(lab.clients(), plan)?;
        let (long_lived, seen) = (Vec::new(), Vec::new());
        Ok(Self { lab, options, interrupt, screen, echo, fresh, long_lived, seen })
    }

    /// Goes through all steps, ends the new connections and tries the long-lived ones once more.
    pub(super) fn all(mut self) -> Result<Records> {
        let openings = openings(self.options.connections);
        for (index, opens) in openings.into_iter().enumerate() {
            let done = self.shift(index)?;
            let head =
                table::head(self.screen.paint(), index + 1, STEPS.len(), &STEPS[index], &done);
            self.screen.say(&head)?;
            let seen = self.step(STEPS[index], opens)?;
            self.seen.push(seen);
        }
        let Self { screen, fresh, long_lived, seen, interrupt, .. } = self;
        screen.draw("\nending the new connections, trying each long-lived one ...\n")?;
        let fresh = fresh.stop()?;
        let long_lived = together(&long_lived, LongLived::verify);
        // What takes so long is worth a look at the signal.
        interrupt.sleep(Duration::ZERO)?;
        Ok(Records { seen, fresh, long_lived })
    }

    /// Sets the weights of a step; says what was done.
    fn shift(&self, index: usize) -> Result<String> {
        let Some(before) = index.checked_sub(1) else {
            return Ok("as applied".to_owned());
        };
        let changes = changes(STEPS[before].weights, STEPS[index].weights);
        let services = format!("{WEB},{ECHO}");
        let took = answers::shift(self.lab, &services, &changes)?;
        Ok(format!(
            "$ weir shift {services} {}   one commit, {:.1} ms",
            changes.join(" "),
            took.as_secs_f64() * 1e3
        ))
    }

    /// Looks on for the length of a step.
    fn step(&mut self, step: Step, opens: u32) -> Result<Seen> {
        let before = self.counted()?;
        let period = self.fresh.begin_period();
        let begun = Instant::now();
        let mut seen = Seen { step, period, tables: self.tables(&step)?, counted: [0; 3] };
        if opens > 0 {
            let clients = self.lab.client_addresses(Family::V4);
            let plan = LongLivedPlan::new(self.echo, clients, opens).stall_after(STALLED);
            self.long_lived.push(LongLived::open(self.lab.clients(), plan)?);
        }
        let paint = self.screen.paint();
        for look in 1.. {
            let passed = begun.elapsed();
            let view = self.view(&seen);
            let progress = table::progress(paint, passed, self.options.step, &view);
            self.screen.draw(&(table::rows(paint, &view) + &progress))?;
            let Some(left) = self.options.step.checked_sub(passed) else { break };
            self.interrupt.sleep(left.min(LOOK))?;
            if look % LOOKS == 0 {
                seen.counted = since(self.counted()?, before);
            }
        }
        seen.period.end();
        seen.counted = since(self.counted()?, before);
        // Read again at the end: nothing but a shift may change them.
        seen.tables = farthest(&step, &[seen.tables, self.tables(&step)?]);
        let view = self.view(&seen);
        self.screen.say(&(table::rows(paint, &view) + &table::finding(paint, &view)))?;
        Ok(seen)
    }

    fn view(&self, seen: &Seen) -> View {
        seen.view(&together(&self.long_lived, LongLived::state))
    }

    fn tables(&self, step: &Step) -> Result<[TableShare; 3]> {
        Ok(farthest(step, &[answers::tables(self.lab, WEB)?, answers::tables(self.lab, ECHO)?]))
    }

    fn counted(&self) -> Result<[u64; 3]> {
        Ok(answers::by_version(&answers::connections(self.lab)?, WEB))
    }
}

impl Seen {
    /// The step as it is to be shown and judged.
    pub(super) fn view(&self, long_lived: &LongLivedState) -> View {
        View::new(&self.step, self.tables, &self.period.counts(), self.counted, long_lived)
    }
}

/// The state of all groups of connections as one.
fn together(groups: &[LongLived], state: fn(&LongLived) -> LongLivedState) -> LongLivedState {
    let connections = groups.iter().flat_map(|group| state(group).connections).collect();
    LongLivedState { connections }
}

fn since(now: [u64; 3], before: [u64; 3]) -> [u64; 3] {
    [0, 1, 2].map(|index| now[index].saturating_sub(before[index]))
}
