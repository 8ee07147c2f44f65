//! Real connections through weir, and through what a user would have instead.
//!
//! Clients, the balancer host and the backends are network namespaces joined by veth pairs, so all
//! of it shares this machine's processors: a rate is what is left of them after clients, servers
//! and both their TCP stacks, whichever way the packets go. How much a way takes shows in the CPU
//! time of a request, against that of plain routing.
//!
//! Every way has a lab of its own. In a round each has its turn; rounds are repeated, and the
//! median counts, so that what else the machine does meets all alike.

mod contender;
mod load;
mod report;
mod server;

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

use super::figures::Spread;
use super::host::Host;
use crate::interrupt::Interrupt;
use crate::lab::Offloads;
use crate::lab::addresses::Family;
use contender::Contender;
pub use contender::Way;
pub use load::Kind;
use load::Load;
pub use report::{Figures, Report, Row, Set};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds.
    pub rounds: u32,
    /// How long each kind of load lasts in a turn.
    pub time: Duration,
    /// Clients at a time.
    pub clients: u32,
    /// Times are measured at a pace that every way keeps: at a rate that fills the processors they only
    /// say how clients and servers wait for each other. Requests a second,
    pub requests: u32,
    /// and connections.
    pub connections: u32,
    /// So many groups of ways, the first ones.
    pub groups: u8,
}

/// Ways that are compared with each other.
struct Group {
    what: &'static str,
    /// Of all versions.
    backends: u16,
    offloads: Offloads,
    ways: &'static [Way],
}

/// Groups of ways that are compared.
pub const GROUPS: u8 = 3;
/// Plain routing first.
const ALL: [Group; GROUPS as usize] = [
    Group {
        what: "veth as the kernel makes it, 6 backends",
        backends: 6,
        offloads: Offloads::On,
        ways: &[
            Way::Plain,
            Way::Weir("tc", "nat"),
            Way::Weir("tc", "dsr-l2"),
            Way::Iptables,
            Way::Nftables,
            Way::Ipvs,
            Way::HaProxy,
            Way::Nginx,
        ],
    },
    Group {
        what: "the same with 999 backends",
        backends: 999,
        offloads: Offloads::On,
        ways: &[Way::Plain, Way::Weir("tc", "nat"), Way::Iptables, Way::Nftables],
    },
    Group {
        what: "veth as for XDP: receive offload on, checksums and segmentation off, 6 backends",
        backends: 6,
        offloads: Offloads::Off,
        ways: &[
            Way::Plain,
            Way::Weir("tc", "nat"),
            Way::Weir("xdp", "nat"),
            Way::Weir("xdp", "dsr-l2"),
        ],
    },
];

/// Measures. Needs root.
///
/// # Errors
///
/// weir or a lab does not start, or it was interrupted.
pub fn measure(plan: Plan, interrupt: &Interrupt, progress: &dyn Fn(&str)) -> Result<Report> {
    let mut sets = Vec::new();
    for group in ALL.iter().take(plan.groups.into()) {
        progress(group.what);
        sets.push(set(group, plan, interrupt, progress)?);
    }
    Ok(Report { host: Host::here(), sets })
}

/// One turn: of each kind of load.
#[derive(Default)]
struct Turns {
    rate: Vec<f64>,
    full_p99: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
    failed: u64,
}

fn set(group: &Group, plan: Plan, interrupt: &Interrupt, progress: &dyn Fn(&str)) -> Result<Set> {
    let (mut contenders, mut skipped) = (Vec::new(), Vec::new());
    for &way in group.ways {
        interrupt.sleep(Duration::ZERO)?;
        match (way, Contender::start(way, group.backends, group.offloads)) {
            (_, Ok(contender)) => contenders.push((contender, <[Turns; 2]>::default())),
            (Way::Plain | Way::Weir(..), Err(error)) => return Err(error.context(way.name())),
            (_, Err(error)) => skipped.push(format!("{}: {error:#}", way.name())),
        }
    }
    for round in 1..=plan.rounds {
        for (contender, turns) in &mut contenders {
            for (kind, turns) in [Kind::KeepAlive, Kind::New].into_iter().zip(turns) {
                interrupt.sleep(Duration::ZERO)?;
                turn(contender, kind, plan, turns)?;
            }
        }
        progress(&format!("  round {round} of {}", plan.rounds));
    }
    let rows = contenders.iter().map(|(contender, [keep_alive, new])| {
        let (keep_alive, new) = (keep_alive.figures()?, new.figures()?);
        Some(Row { what: contender.way.name(), keep_alive, new })
    });
    let rows = rows.collect::<Option<_>>().context("no round was made")?;
    Ok(Set { what: group.what.to_owned(), rows, skipped })
}

/// One kind of load by one way.
fn turn(contender: &Contender, kind: Kind, plan: Plan, turns: &mut Turns) -> Result<()> {
    let load = |pace| Load {
        kind,
        pace,
        targets: contender.targets.clone(),
        clients: contender.lab.client_addresses(Family::V4),
        at_a_time: plan.clients,
        time: plan.time,
    };
    let before = cpu()? + contender.cpu()?;
    let done = load(None).play(contender.lab.clients())?;
    let cpu = cpu()? + contender.cpu()? - before;
    turns.rate.push(done.rate);
    turns.full_p99.push(done.p99);
    #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
    turns.cpu.push(1e6 * cpu / done.answers.max(1) as f64);
    let pace = match kind {
        Kind::KeepAlive => plan.requests,
        Kind::New => plan.connections,
    };
    let paced = load(Some(pace)).play(contender.lab.clients())?;
    turns.p50.push(paced.p50);
    turns.p99.push(paced.p99);
    turns.failed += done.failed + paced.failed;
    Ok(())
}

/// CPU time of this process, in seconds: clients and servers, and what the kernel does when they send.
fn cpu() -> Result<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?).as_secs_f64())
}

impl Turns {
    fn figures(&self) -> Option<Figures> {
        Some(Figures {
            rate: Spread::of(&self.rate)?,
            full_p99: Spread::of(&self.full_p99)?,
            p50: Spread::of(&self.p50)?,
            p99: Spread::of(&self.p99)?,
            cpu: Spread::of(&self.cpu)?,
            failed: self.failed,
        })
    }
}
