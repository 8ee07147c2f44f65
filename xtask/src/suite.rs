//! The test programs of the workspace, as many at a time as there are processors.
//!
//! Tests with real traffic wait for the most part, so that one program after the other leaves a
//! processor idle. But load disturbs load: a test of the lab that fails beside others runs once more,
//! by itself, and that counts. It is named as unsteady, with what it said first.
//!
//! A person sees a line for each program. Where the output is kept (no terminal), each program's own
//! follows that line, as after `cargo test`, so that what reads the one reads the other.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::programs::{self, LAB, Program};
use crate::setup::Rights;
use crate::{bpf, run};

/// The longest that a program may take.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How often a program is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The most programs at a time.
const MOST_AT_A_TIME: usize = 8;
/// More failures than this are no accidents of load: none runs again.
const MOST_AGAIN: usize = 5;

/// What the test programs need to know.
pub(crate) struct Suite<'a> {
    /// The top of the workspace.
    pub(crate) root: &'a Path,
    /// How they may make network namespaces.
    pub(crate) rights: Rights,
    /// Their environment.
    pub(crate) variables: Vec<(&'a str, PathBuf)>,
}

/// How a program has ended.
struct Ended {
    program: Program,
    passed: bool,
    took: Duration,
    log: PathBuf,
}

impl Suite<'_> {
    /// Runs the programs with these names, or all. Says for the last line how it went.
    pub(crate) fn run(&self, names: &[String]) -> Result<String> {
        let programs = self.build(names)?;
        let logs = bpf::target_dir(self.root).join("test-logs");
        fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make the directory {}", logs.display()))?;
        let count = programs.len();
        let cores = thread::available_parallelism().map_or(1, usize::from).min(MOST_AT_A_TIME);
        run::say(&format!(
            "\n{}",
            run::bold(&format!("== {count} test programs, {cores} at a time"))
        ));
        let ended = self.all(programs, cores, &logs)?;
        let unsteady = self.again(&ended, &logs)?;
        Ok(match unsteady {
            0 => format!("{count} test programs"),
            some => format!("{count} test programs ({some} unsteady tests, see above)"),
        })
    }

    /// Builds every test program, and gives those that are asked for.
    fn build(&self, names: &[String]) -> Result<Vec<Program>> {
        let mut programs = programs::build(self.root)?;
        if let Some(name) = names.iter().find(|name| !programs.iter().any(|one| one.name == **name))
        {
            bail!("there is no test program {name:?}; `cargo test --workspace --no-run` names all");
        }
        programs.retain(|one| names.is_empty() || names.contains(&one.name));
        Ok(programs)
    }

    /// Runs programs, so many at a time.
    fn all(&self, programs: Vec<Program>, cores: usize, logs: &Path) -> Result<Vec<Ended>> {
        let queue = Mutex::new(VecDeque::from(programs));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || -> Result<Vec<Ended>> {
            let mut ended = Vec::new();
            while let Some(program) = next() {
                let log = program.log(logs, "");
                let start = Instant::now();
                let passed = self.start(&program, &["--test-threads=1"], &log)?.success();
                let one = Ended { program, passed, took: start.elapsed(), log };
                one.report()?;
                ended.push(one);
            }
            Ok(ended)
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().map_err(|_| anyhow!("a worker has panicked"))??);
            }
            Ok(all)
        })
    }

    /// Runs a program to its end, with its output in the file `log`.
    fn start(&self, program: &Program, arguments: &[&str], log: &Path) -> Result<ExitStatus> {
        let mut command = match self.rights {
            Rights::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-E", "--"]).arg(&program.path);
                command
            }
            Rights::Root | Rights::None => Command::new(&program.path),
        };
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.args(arguments).current_dir(&program.directory).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, path)| (name, path)));
        command.stdout(file.try_clone()?).stderr(file);
        let cannot = || format!("cannot run {}", program.path.display());
        let mut child = command.spawn().with_context(cannot)?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > LONGEST {
                child.kill()?;
                run::say(&format!("   {} has not ended in {} s", program.name, LONGEST.as_secs()));
                return Ok(child.wait()?);
            }
            thread::sleep(LOOK);
        }
    }

    /// Gives failed tests of the lab a second chance, each by itself, and counts those that took it.
    /// What is said of the rest ends the run.
    fn again(&self, ended: &[Ended], logs: &Path) -> Result<usize> {
        let tests: Vec<(&Ended, Vec<String>)> = ended
            .iter()
            .filter(|one| !one.passed)
            .map(|one| Ok((one, failures(&read(&one.log)?))))
            .collect::<Result<_>>()?;
        let count: usize = tests.iter().map(|(_, names)| names.len()).sum();
        let mut red = Vec::new();
        for (one, names) in &tests {
            run::say(&format!("\n{}", run::bold(&format!("== {}", one.program.name))));
            if names.is_empty() || one.program.package != LAB || count > MOST_AGAIN {
                pass_on(&read(&one.log)?)?;
                red.push(format!("{} ({})", one.program.name, names.join(", ")));
                continue;
            }
            pass_on(&quote(&read(&one.log)?))?;
            for name in names {
                let log = one.program.log(logs, &format!(".{name}.again"));
                run::say(&format!("   {name} runs again, by itself ..."));
                let passed = self.start(&one.program, &["--exact", name], &log)?.success();
                pass_on(&read(&log)?)?;
                if passed {
                    run::say(&format!("   unsteady: {name} passed; what it said first is above"));
                } else {
                    red.push(format!("{} ({name})", one.program.name));
                }
            }
        }
        if red.is_empty() { Ok(count) } else { bail!("failed: {}", red.join("; ")) }
    }
}

impl Ended {
    /// One line: how it ended, how long it took, how many tests passed; then, where no person looks
    /// on, what the program said. What a failed one said comes with its second chance.
    fn report(&self) -> Result<()> {
        let said = read(&self.log)?;
        let verdict = if self.passed { "ok    " } else { "FAILED" };
        let passed = said.lines().filter(|line| line.ends_with(" ... ok")).count();
        let (took, Program { package, name, .. }) = (run::seconds(self.took), &self.program);
        let together = stdout().lock();
        run::say(&format!("   {verdict} {took:>8}  {package:<10}  {name}: {passed} passed"));
        if self.passed && !together.is_terminal() {
            pass_on(&said)?;
        }
        Ok(())
    }
}

/// A program's output, where cargo would have it.
fn pass_on(output: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

fn read(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Output that is shown, but is not the last word on its tests.
fn quote(output: &str) -> String {
    format!("   | {}\n", output.trim_end().replace('\n', "\n   | "))
}

/// The names below the last `failures:` of a test program's output.
fn failures(output: &str) -> Vec<String> {
    let Some((_, list)) = output.rsplit_once("\nfailures:\n") else { return Vec::new() };
    let names = list.lines().map_while(|line| line.strip_prefix("    "));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_those_of_the_list() {
        let output = "running 2 tests\ntest a ... FAILED\ntest b ... ok\n\nfailures:\n\n---- a stdout ----\n    no\n\n
failures:\n    a\n    c::d\n\ntest result: FAILED. 1 passed";
        assert_eq!(failures(output), ["a", "c::d"]);
        assert_eq!(failures("Segmentation fault"), Vec::<String>::new());
    }
}
