//! Runs cases through the loaded programs. Each node is a thread with a network namespace of its
//! own; no more run at once than there are processors.

use std::collections::VecDeque;
use std::num::NonZero;
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::time::{ClockId, clock_gettime};
use weir_ebpf::abi::{Counters, FlowKey, HOOKS, Reason, Signals};

use super::hashed::Shown;
use super::nodes::{Node, Spec};
use super::{Before, Case, entry};
use crate::packet::{Body, Packet, diff::diff, eyes};
use crate::program::{Counts, PROGRAMS, Program, Verdict};

/// How often each input comes: once to be met for the first time, then as one that is known.
pub const ROUNDS: usize = 3;
/// Runs of which the time is the median.
pub const MEASURED: usize = 1_000;

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its place among the cases that were run.
    pub case: usize,
    /// At each hook: XDP, TC.
    pub hooks: [AtHook; 2],
}

/// What came of a case at one hook.
#[derive(Clone, Debug, Default)]
pub struct AtHook {
    /// The verdict; nothing if the kernel does not take such a frame for a trial.
    pub verdict: Option<Verdict>,
    /// The frame that was sent.
    pub sent: Option<Vec<u8>>,
    /// What was otherwise than expected, a line each.
    pub complaints: Vec<String>,
    /// Median time of a run in nanoseconds, if it was measured.
    pub nanoseconds: Option<u64>,
}

impl Report {
    /// Whether all was as expected.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.hooks.iter().all(|hook| hook.complaints.is_empty())
    }

    /// What was otherwise, in words; nothing if all was well.
    #[must_use]
    pub fn complaint(&self, cases: &[Case]) -> String {
        let case = &cases[self.case];
        let mut lines = Vec::new();
        for (program, hook) in PROGRAMS.iter().zip(&self.hooks) {
            if !hook.complaints.is_empty() {
                lines.push(format!("{} on node {}, {program:?}:", case.name, case.node.name));
                lines.extend(hook.complaints.iter().map(|line| format!("    {line}")));
            }
        }
        lines.join("\n")
    }
}

/// Runs all of `cases`, and gives a report of each, in their order. Measures them if asked.
pub fn run(cases: &[Case], measure: bool) -> Result<Vec<Report>> {
    let mut groups: Vec<(&'static Spec, Vec<usize>)> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        match groups.iter_mut().find(|(spec, _)| ptr::eq(*spec, case.node)) {
            Some((_, group)) => group.push(index),
            None => groups.push((case.node, vec![index])),
        }
    }
    let at_once = thread::available_parallelism().map_or(1, NonZero::get).min(groups.len());
    let left = Mutex::new(VecDeque::from(groups));
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let worker = || {
            loop {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((spec, group)) = next else { return };
                // A thread for each node: a namespace ends with its thread.
                let run = || run_group(spec, &group, cases, measure);
                let reports = thread::scope(|scope| scope.spawn(run).join());
                let reports = reports.unwrap_or_else(|panic| Err(anyhow!(said(&*panic))));
                let reports = reports.with_context(|| format!("node {}", spec.name));
                done.lock().unwrap_or_else(PoisonError::into_inner).push(reports);
            }
        };
        for _ in 0..at_once {
            scope.spawn(worker);
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut reports: Vec<Report> =
        done.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    reports.sort_by_key(|report| report.case);
    Ok(reports)
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

fn run_group(spec: &Spec, group: &[usize], cases: &[Case], measure: bool) -> Result<Vec<Report>> {
    let mut node = Node::start(spec)?;
    Ok(group
        .iter()
        .map(|index| {
            let case = &cases[*index];
            let mut shown = Shown::default();
            let hooks = PROGRAMS.map(|program| {
                let mut hook = check(&mut node, case, program, &mut shown);
                if measure && hook.verdict.is_some() {
                    hook.nanoseconds = Some(time(&mut node, case, program));
                }
                hook
            });
            Report { case: *index, hooks }
        })
        .collect())
}

/// Runs a case at one hook.
fn check(node: &mut Node, case: &Case, program: Program, shown: &mut Shown) -> AtHook {
    let input = case.input.bytes();
    let mut hook = AtHook::default();
    if !case.input.broken
        && let Err(error) = eyes::look(&input)
    {
        hook.complaints.push(format!("the input: {error}"));
    }
    if !program.takes(&input) {
        return hook;
    }
    prepare(node, case, program, shown);
    for round in 0..ROUNDS {
        let wrong = check_round(node, case, program, round, &input, shown, &mut hook);
        if !wrong.is_empty() {
            hook.complaints.push(format!("packet {} of {ROUNDS}", round + 1));
            hook.complaints.extend(wrong);
            break; // what follows would be wrong for the same cause
        }
    }
    hook
}

fn check_round(
    node: &mut Node,
    case: &Case,
    program: Program,
    round: usize,
    input: &[u8],
    shown: &mut Shown,
    hook: &mut AtHook,
) -> Vec<String> {
    let outcome = case.outcome(program);
    let count = u16::try_from(node.backends().len()).unwrap_or(u16::MAX);
    let flows = node.flows();
    let before = Counts::read(node.kernel(), count);
    let run = program.run_once(node.kernel(), input);
    let counted = Counts::read(node.kernel(), count).since(&before);
    let mut wrong = Vec::new();

    let verdict = program.verdict(run.verdict);
    hook.verdict = verdict;
    if verdict != Some(outcome.verdict) {
        let got = verdict.map_or_else(|| run.verdict.to_string(), |verdict| format!("{verdict:?}"));
        wrong.push(format!("verdict: expected {:?}, got {got}", outcome.verdict));
    }
    let frame = outcome.frame.as_ref().unwrap_or(&case.input);
    match shown.complete(frame, &run.frame) {
        Ok(frame) => wrong.extend(diff(&frame, &run.frame)),
        Err(error) => wrong.push(error),
    }
    if matches!(verdict, Some(Verdict::Back | Verdict::Redirect)) {
        if !frame.broken
            && let Err(error) = eyes::look(&run.frame)
        {
            wrong.push(format!("the output: {error}"));
        }
        hook.sent = Some(run.frame);
    }

    let expected = outcome.rises.iter().fold(Counts::none(count), |counts, rise| {
        rise.add(counts, node, program, round, &case.input)
    });
    wrong.extend(counters(node, &expected, &counted));
    let remembered: u64 = outcome.rises.iter().map(|rise| rise.remembers(round)).sum();
    let new = node.flows() - flows;
    // One that was there may be written over.
    if case.before.is_empty() && new as u64 != remembered {
        wrong.push(format!("flows remembered: expected {remembered}, got {new}"));
    }
    wrong
}

/// Makes what was before the case.
fn prepare(node: &mut Node, case: &Case, program: Program, shown: &mut Shown) {
    node.forget();
    for before in &case.before {
        match before {
            Before::Came(packet) => {
                let run = program.run_once(node.kernel(), &packet.bytes());
                if matches!(program.verdict(run.verdict), Some(Verdict::Back | Verdict::Redirect)) {
                    shown.learn(&run.frame);
                }
            }
            Before::Remembered(packet, backend, client) => {
                let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec());
                // In a second that has begun for another processor alone, as it can be.
                let seen = u32::try_from(now + 1).unwrap_or(u32::MAX);
                let entry = entry(node.index(backend), *client, seen);
                node.kernel().put_flow(&key(packet), entry).expect("room for a flow");
            }
        }
    }
}

/// The flow of a TCP or UDP packet.
fn key(packet: &Packet) -> FlowKey {
    use crate::frames::address;
    let ip = packet.inner();
    let (ports, protocol) = match &ip.body {
        Body::Tcp(tcp) => (tcp.ports, 6),
        Body::Udp(udp) => (udp.ports, 17),
        body => panic!("no flow: {body:?}"),
    };
    FlowKey {
        source: address(ip.source),
        destination: address(ip.destination),
        source_port: ports[0].to_be(),
        destination_port: ports[1].to_be(),
        protocol,
        pad: [0; 3],
    }
}

/// The median time of single runs, each over the frame as it came in: a program that is repeated by
/// the kernel itself would meet its own output.
fn time(node: &mut Node, case: &Case, program: Program) -> u64 {
    prepare(node, case, program, &mut Shown::default());
    let input = case.input.bytes();
    let mut times: Vec<u64> = (0..MEASURED)
        .map(|_| program.run_once(node.kernel(), &input).duration)
        .map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        .collect();
    let (_, median, _) = times.select_nth_unstable(MEASURED / 2);
    *median
}

/// Counters that rose otherwise than expected, a line each.
fn counters(node: &Node, expected: &Counts, got: &Counts) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: String, expected: u64, got: u64| {
        if expected != got {
            wrong.push(format!("counter {what}: expected +{expected}, got +{got}"));
        }
    };
    let pairs = expected.backends.iter().zip(&got.backends);
    for (backend, (expected, got)) in node.backends().iter().zip(pairs) {
        for ((name, expected), (_, got)) in fields(expected).into_iter().zip(fields(got)) {
            compare(format!("{name} of {backend}"), expected, got);
        }
    }
    let pairs = expected.signals.iter().zip(&got.signals);
    for (backend, (expected, got)) in node.backends().iter().zip(pairs) {
        for ((name, expected), (_, got)) in signals(expected).into_iter().zip(signals(got)) {
            compare(format!("{name} of {backend}"), expected, got);
        }
    }
    for hook in 0..HOOKS as usize {
        let program = PROGRAMS.iter().find(|program| program.hook() == hook);
        for reason in Reason::ALL {
            let at = reason as usize;
            let what = format!("{reason:?} at {:?}", program.unwrap_or(&Program::Tc));
            compare(what, expected.reasons[hook][at], got.reasons[hook][at]);
        }
    }
    wrong
}

fn fields(counters: &Counters) -> [(&'static str, u64); 8] {
    [
        ("connections", counters.connections),
        ("packets_in", counters.packets_in),
        ("bytes_in", counters.bytes_in),
        ("packets_out", counters.packets_out),
        ("bytes_out", counters.bytes_out),
        ("tracked", counters.tracked),
        ("fallback_full", counters.fallback_full),
        ("fallback_flood", counters.fallback_flood),
    ]
}

fn signals(signals: &Signals) -> [(&'static str, u64); 13] {
    [
        ("retransmissions", signals.retransmissions),
        ("established", signals.established),
        ("refused", signals.refused),
        ("unanswered", signals.unanswered),
        ("abandoned", signals.abandoned),
        ("lost_samples", signals.lost_samples),
        ("resets_in", signals.resets_in),
        ("resets_out", signals.resets_out),
        ("early_resets", signals.early_resets),
        ("fins_in", signals.fins_in),
        ("fins_out", signals.fins_out),
        ("failing_clients", signals.failing_clients),
        ("steered", signals.steered),
    ]
}
