//! Runs of the programs over a frame, as `BPF_PROG_TEST_RUN` does it: without an interface. They
//! count and remember, but send nothing.

use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp};

use super::Kernel;

/// Bytes by which a program may make a frame longer.
const ROOM: usize = 256;

/// A run of a program over one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The program's verdict: an XDP action, or a TC action.
    pub verdict: i32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Time of one run, on average over all repeats.
    pub duration: Duration,
}

impl Kernel {
    /// Runs the XDP program over a frame `repeat` times. Each run begins with what the one before
    /// has left: a frame that was rewritten is not rewritten again.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn run_xdp(&self, frame: &[u8], repeat: u32) -> Result<Run, ProgramError> {
        run(self.programs.xdp()?, frame, repeat)
    }

    /// The XDP program, for who runs it otherwise.
    ///
    /// # Errors
    ///
    /// It is not loaded.
    pub fn xdp_program(&self) -> Result<&Xdp, ProgramError> {
        self.programs.xdp()
    }

    /// Runs the TC program likewise.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn run_tc(&self, frame: &[u8], repeat: u32) -> Result<Run, ProgramError> {
        run(self.programs.tc()?, frame, repeat)
    }

    /// A handle of its own on the TC program, so that it can be run while this one commits.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn runner(&self) -> Result<Runner, ProgramError> {
        let info = self.programs.tc()?.info()?;
        Ok(Runner(SchedClassifier::from_program_info(info, "".into())?))
    }
}

/// Runs the TC program of a [`Kernel`], from any thread.
#[derive(Debug)]
pub struct Runner(SchedClassifier);

impl Runner {
    /// As [`Kernel::run_tc`].
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn run_tc(&self, frame: &[u8], repeat: u32) -> Result<Run, ProgramError> {
        run(&self.0, frame, repeat)
    }
}

/// Runs a program over a frame `repeat` times.
pub(crate) fn run<P>(program: &P, frame: &[u8], repeat: u32) -> Result<Run, ProgramError>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut out = vec![0; frame.len() + ROOM];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    options.repeat = repeat;
    let result = program.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok(Run { verdict: result.return_value.cast_signed(), frame: out, duration: result.duration })
}
