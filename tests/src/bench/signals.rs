//! What each level of signals costs a packet, at each hook and in a mode with answers and one without.
//!
//! The loaded program runs over single frames (`BPF_PROG_TEST_RUN`; nothing is sent), for a program
//! that the kernel itself repeats would meet its own output. All levels take turns, frame by frame, so
//! that what else the machine does meets them alike; the median of all runs counts. Each time holds
//! what the kernel takes for a run of one frame, some ten nanoseconds that are in all of them.

use std::fmt::{self, Write as _};

use anyhow::{Result, anyhow};
use weir::dataplane::kernel::Kernel;

use super::figures::quantile;
use crate::cases::nodes::{AWAY, BARE, Node, Spec};
use crate::frames::{ACK, Frame, PSH, SYN};
use crate::program::{PROGRAMS, Program};

/// Levels, as a user writes them.
pub const LEVELS: [&str; 3] = ["off", "basic", "full"];
/// Modes, likewise.
pub const MODES: [&str; 2] = ["nat", "dsr-ipip"];
/// Where TCP's sequence number is in a frame.
const SEQUENCE: usize = 38;

/// A row of the table: the time of a run at each level, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Row {
    /// Program, mode and packet.
    pub what: String,
    /// By level.
    pub nanoseconds: [f64; LEVELS.len()],
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report(pub Vec<Row>);

/// Measures by so many runs of each. Needs root.
///
/// # Errors
///
/// The program cannot be loaded or run.
pub fn measure(runs: u32, progress: &dyn Fn(&Row)) -> Result<Report> {
    let mut rows = Vec::new();
    for mode in MODES {
        // One node: the levels are three services of it, which differ in nothing else.
        let mut node = node(mode)?;
        for program in PROGRAMS {
            for (packet, flags, new) in
                [("data", PSH | ACK, false), ("SYN again", SYN, false), ("new SYN", SYN, true)]
            {
                let mut times: [Vec<f64>; LEVELS.len()] = Default::default();
                for sequence in 0..runs {
                    for (level, times) in (0..).zip(&mut times) {
                        let sequence = if new { sequence } else { 0 };
                        times.push(run(node.kernel(), program, level, flags, sequence)?);
                    }
                }
                let what = format!("{program:?} {mode}, {packet}");
                let median = |times: Vec<f64>| quantile(&times, 0.5).unwrap_or(f64::NAN);
                let row = Row { what, nanoseconds: times.map(median) };
                progress(&row);
                rows.push(row);
            }
        }
    }
    Ok(Report(rows))
}

fn node(mode: &str) -> Result<Node> {
    let port = if mode == "nat" { ", port: 8080" } else { "" };
    let mut services = String::from("services:\n");
    for (index, level) in LEVELS.iter().enumerate() {
        write!(
            services,
            "  - name: {level}
    listeners: [{{ address: 198.51.100.{index}, port: 80, protocol: tcp }}]
    forwarding: {mode}
    signals: {level}
    versions: {{ blue: {{ weight: 100%, backends: [{{ address: 10.0.{index}.1{port} }}] }} }}
"
        )?;
    }
    let options = crate::program::SMALL;
    let outer = weir::dataplane::OuterSource { v4: Some([203, 0, 113, 1].into()), v6: None };
    let spec = Spec {
        name: "bench",
        services: Box::leak(services.into_boxed_str()),
        hops: &[("10.0.0.1", AWAY), ("10.0.1.1", AWAY), ("10.0.2.1", AWAY)],
        options: weir::dataplane::kernel::Options { outer, ..options },
        ..BARE
    };
    Node::start(&spec)
}

/// Nanoseconds of a run over a packet to the service of this level.
#[allow(clippy::cast_precision_loss, reason = "a time of a run is short")]
fn run(kernel: &Kernel, program: Program, level: u8, flags: u8, sequence: u32) -> Result<f64> {
    let listener = ([198, 51, 100, level], 80).into();
    let mut frame = Frame::tcp(([192, 0, 2, 7], 40_000).into(), listener, flags).bytes();
    frame[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
    let run = match program {
        Program::Xdp => kernel.run_xdp(&frame, 1),
        Program::Tc => kernel.run_tc(&frame, 1),
    };
    let run = run.map_err(|error| anyhow!("the program cannot be run: {error}"))?;
    Ok(run.duration.as_nanos() as f64)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [off, basic, full] = LEVELS;
        writeln!(f, "{:<26}{off:>8}{basic:>8}{full:>8}{:>10}", "ns a packet", "full/off")?;
        for Row { what, nanoseconds: [off, basic, full] } in &self.0 {
            let ratio = full / off;
            writeln!(f, "{what:<26}{off:>8.0}{basic:>8.0}{full:>8.0}{ratio:>10.2}")?;
        }
        Ok(())
    }
}
