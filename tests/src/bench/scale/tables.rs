//! The tables of a service, reckoned in this process: what is left of an apply without an agent.

use std::time::Instant;

use serde::Serialize;
use weir::model::Version;
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::VERSIONS;

use crate::bench::crowd::Crowd;
use crate::frames::address;

/// The tables of one of the services.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tables {
    /// From nothing, in milliseconds.
    pub build: f64,
    /// The same for other weights, in milliseconds.
    pub shift: f64,
    /// In the kernel, in KiB.
    pub kib: usize,
}

/// Builds them: the shortest of some times, for what disturbs makes only longer.
pub(super) fn build(crowd: Crowd) -> Tables {
    let candidates = Version::ALL.map(|version| -> Vec<Candidate> {
        let identity = |ip| Identity { address: address(ip), port: 80_u16.to_be() };
        crowd
            .addresses(0, version)
            .map(|ip| Candidate { identity: identity(ip.into()), weight: 100 })
            .collect()
    });
    let candidates = candidates.each_ref().map(Vec::as_slice);
    let lead = |goal: &Goal, from: Option<&ServiceTables>| {
        let mut next = 0;
        let target = goal.on_this_node(&mut |_, _| {
            next += 1;
            next - 1
        });
        transition(from, &target, &|_| false).tables
    };
    let mut best: Option<Tables> = None;
    for _ in 0..5 {
        let began = Instant::now();
        let goal = Goal::new([7; 16], [10_000, 0, 0], candidates);
        let tables = lead(&goal, None);
        let build = began.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        let _ = lead(&goal.with_weights([0, 0, 10_000]), Some(&tables));
        let shift = began.elapsed().as_secs_f64() * 1e3;
        let lines: usize = (0..VERSIONS).map(|v| tables.backends()[v].lines().len()).sum();
        let kib = (tables.version_lines().len() + lines) * 64 / 1_024;
        let least =
            |before: fn(&Tables) -> f64, now: f64| best.as_ref().map_or(now, before).min(now);
        best = Some(Tables {
            build: least(|t| t.build, build),
            shift: least(|t| t.shift, shift),
            kib,
        });
    }
    best.unwrap_or(Tables { build: 0.0, shift: 0.0, kib: 0 })
}
