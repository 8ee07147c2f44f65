//! What a packet costs: the loaded XDP program, beside others that are run in the same way.
//!
//! A harness of BPF ([`harness`]) puts the headers of the next flow over the frame and calls the program
//! under test, and the kernel repeats it (`BPF_PROG_TEST_RUN`; nothing is sent). What the harness takes
//! with a program that does nothing is taken off. All programs take turns, round by round, so that what
//! else the machine does meets them alike; a ratio is that of one round, and of all rounds the median
//! counts.
//!
//! - [`harness`]: the loaded harness, and the programs that are compared with
//! - [`flows`]: the packets; [`cases`]: nodes, and what is measured at them
//! - [`perf`]: what the processor counts meanwhile, where it lets us
//! - [`report`]: the table, and the same for machines

pub mod cases;
pub mod flows;
pub mod harness;
pub mod perf;
pub mod report;

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{ProgramFd, Xdp};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::figures::Spread;
use super::host::{Host, pin};
use cases::{Case, Setup};
use flows::{Flows, Kind};
use harness::{Harness, Reference};
use perf::Perf;
use report::{Cell, ProgramSize, Report, Row};

/// How many flows are measured.
pub const FLOWS: [usize; 4] = [1, 4_096, 65_536, 1 << 20];
/// The packets that all is compared with.
const PLAIN: Flows = Flows { v6: false, kind: Kind::Established, first: 0, services: 1 };

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Numbers of flows, each a power of two up to the largest of [`FLOWS`].
    pub flows: Vec<usize>,
    /// Rounds of each case at each number of flows.
    pub rounds: usize,
    /// Packets of a run at least; each flow has one.
    pub packets: u32,
    /// Only the few cases of a quick look.
    pub quick: bool,
    /// Only cases of which one of these is the name, or, where it is the name of none, a part of the
    /// name. None: all.
    pub only: Vec<String>,
}

impl Plan {
    /// The setups, with the cases that are to be measured.
    fn setups(&self) -> Vec<Setup> {
        let mut setups = cases::setups();
        let known: Vec<String> =
            setups.iter().flat_map(|setup| &setup.cases).map(|case| case.name.clone()).collect();
        let is_asked = |name: &String| {
            self.only.is_empty()
                || self
                    .only
                    .iter()
                    .any(|one| one == name || !known.contains(one) && name.contains(one.as_str()))
        };
        for setup in &mut setups {
            setup.cases.retain(|case| is_asked(&case.name) && (!self.quick || case.quick));
        }
        setups.retain(|setup| !setup.cases.is_empty());
        setups
    }
}

/// Measures. Needs root.
///
/// # Errors
///
/// The program cannot be loaded or run.
pub fn measure(plan: &Plan, progress: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let most = plan.flows.iter().copied().max().context("no flows")?;
    let perf = Perf::find();
    let processor = last_processor()?;
    let mut bench =
        Bench { plan, harness: Harness::load(2 * most)?, most, written: 0, perf: &perf };
    let mut report = Report {
        host: Host::here(),
        processor,
        flows: plan.flows.clone(),
        rounds: plan.rounds,
        perf: perf.as_ref().err().cloned(),
        programs: bench.harness.sizes()?,
        rows: Vec::new(),
    };
    // A thread for each node: its network namespace ends with it.
    let mut on_a_thread = |setup: Option<&Setup>| {
        let run = || {
            let _pinned = pin(processor)?;
            bench.setup(setup, progress)
        };
        let done = thread::scope(|scope| scope.spawn(run).join());
        let (rows, size) = done.map_err(|_| anyhow!("a measurement has panicked"))??;
        report.rows.extend(rows);
        if let Some(size) = size
            && !report.programs.iter().any(|known| known.name == size.name)
        {
            report.programs.push(size);
        }
        anyhow::Ok(())
    };
    on_a_thread(None)?;
    for setup in plan.setups() {
        on_a_thread(Some(&setup))?;
    }
    Ok(report)
}

/// The processor that runs the programs: the last one of those we may use.
fn last_processor() -> Result<usize> {
    let ours = sched_getaffinity(Pid::from_raw(0))?;
    let mut all = (0..CpuSet::count()).rev();
    all.find(|one| ours.is_set(*one).unwrap_or(false)).context("no processor")
}

/// Of what each round says.
fn spread(rounds: &[Round], of: impl Fn(&Round) -> f64) -> Spread {
    let values: Vec<f64> = rounds.iter().map(of).collect();
    Spread::of(&values).unwrap_or_default()
}

/// What is compared with the references.
enum Subject<'a> {
    Reference(Reference),
    Program(&'a ProgramFd),
}

struct Bench<'a> {
    plan: &'a Plan,
    harness: Harness,
    /// Where the flows of cases begin in its table.
    most: usize,
    /// How many of [`PLAIN`] are at its beginning.
    written: usize,
    perf: &'a Result<Perf, String>,
}

/// One round: nanoseconds of the harness, of the textbook, of the subject.
type Round = [f64; 3];

impl Bench<'_> {
    /// Measures all cases of a node, or the references.
    fn setup(
        &mut self,
        setup: Option<&Setup>,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(Vec<Row>, Option<ProgramSize>)> {
        let Some(setup) = setup else {
            let mut rows = Vec::new();
            for (name, reference) in
                [("floor", Reference::Floor), ("textbook", Reference::Textbook)]
            {
                let case = Case { name: name.to_owned(), flows: PLAIN, opened: false, quick: true };
                rows.push(self.row(&case, &Subject::Reference(reference))?);
                progress(name);
            }
            return Ok((rows, None));
        };
        progress("a node starts");
        let mut node = setup.start()?;
        let program = node.kernel().xdp_program()?;
        let size = ProgramSize::of("weir_xdp", program)?;
        let subject = program.fd()?.try_clone()?;
        let mut rows = Vec::new();
        for case in &setup.cases {
            rows.push(self.row(case, &Subject::Program(&subject))?);
            progress(&case.name);
        }
        Ok((rows, Some(size)))
    }

    fn row(&mut self, case: &Case, subject: &Subject) -> Result<Row> {
        let counts = self.plan.flows.clone();
        let cells = counts.into_iter().map(|count| self.cell(case, subject, count));
        let cells = cells.collect::<Result<_>>().with_context(|| case.name.clone())?;
        Ok(Row { case: case.name.clone(), cells })
    }

    /// Measures a case at so many flows.
    fn cell(&mut self, case: &Case, subject: &Subject, count: usize) -> Result<Cell> {
        let packets = self.plan.packets.max(u32::try_from(count)?);
        if self.written != count {
            self.harness.write(0, PLAIN.headers(count))?;
            self.written = count;
        }
        if case.opened {
            let opening = Flows { kind: Kind::Syn, ..case.flows };
            self.harness.write(self.most, opening.headers(count))?;
            self.one(subject, self.most, count, u32::try_from(count)?)?;
        }
        self.harness.write(self.most, case.flows.headers(count))?;
        // Once for nothing, so that all is in the caches that will be, and known that will be.
        self.round(subject, count, packets)?;
        let rounds: Vec<Round> = (0..self.plan.rounds)
            .map(|_| self.round(subject, count, packets))
            .collect::<Result<_>>()?;
        let counted = match self.perf {
            Ok(perf) => Some(
                perf.during(packets, || self.one(subject, self.most, count, packets).map(drop))?,
            ),
            Err(_) => None,
        };
        Ok(Cell {
            flows: count,
            harness: spread(&rounds, |[nothing, ..]| *nothing),
            nanoseconds: spread(&rounds, |[nothing, _, own]| own - nothing),
            ratio: spread(&rounds, |[nothing, book, own]| (own - nothing) / (book - nothing)),
            counted,
        })
    }

    fn round(&mut self, subject: &Subject, count: usize, packets: u32) -> Result<Round> {
        Ok([
            self.one(&Subject::Reference(Reference::Nothing), self.most, count, packets)?,
            self.one(&Subject::Reference(Reference::Textbook), 0, count, packets)?,
            self.one(subject, self.most, count, packets)?,
        ])
    }

    fn one(&mut self, subject: &Subject, first: usize, count: usize, packets: u32) -> Result<f64> {
        match subject {
            Subject::Reference(reference) => self.harness.call_reference(*reference)?,
            Subject::Program(program) => self.harness.call(program)?,
        }
        self.harness.use_flows(first, count)?;
        self.harness.run(packets)
    }
}

impl ProgramSize {
    fn of(name: &str, program: &Xdp) -> Result<Self> {
        let info = program.info()?;
        Ok(Self {
            name: name.to_owned(),
            verified: info.verified_instruction_count().unwrap_or(0),
            instructions: info.size_translated().unwrap_or(0) / 8,
            machine_bytes: info.size_jitted(),
        })
    }
}

impl Harness {
    fn sizes(&mut self) -> Result<Vec<ProgramSize>> {
        let references = [Reference::Floor, Reference::Textbook];
        references
            .map(|one| ProgramSize::of(one.name(), self.reference(one)?))
            .into_iter()
            .collect()
    }
}
