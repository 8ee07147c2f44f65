//! What the virtual machine says on its console, and what follows from it. Pure.

/// The program that is no test: what it says is what was wanted.
pub(super) const BENCH: &str = "weir-bench";

/// What a line means to whoever waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A program of tests begins.
    Begin(String),
    /// A test has ended: its line.
    Test(String),
    /// A line of a benchmark.
    Said(String),
    /// A program has ended, with this exit code.
    End(String, i32),
    /// The machine is in trouble, or says something of its own.
    Note(String),
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All programs ran to their end, and so many tests passed.
    Passed { tests: u32 },
    /// Why it did not pass.
    Failed(String),
}

/// Everything said so far, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Console {
    passed: u32,
    failed: Vec<String>,
    running: Option<String>,
    panic: Option<String>,
    up: bool,
    done: bool,
}

impl Console {
    /// Takes the next line.
    pub(super) fn line(&mut self, line: &str) -> Option<Event> {
        let line = line.trim_end();
        if let Some(said) = line.strip_prefix("vm: ") {
            return Some(self.marker(said));
        }
        if line.contains("Kernel panic - not syncing") {
            self.panic.get_or_insert_with(|| line.to_owned());
            return Some(Event::Note(line.to_owned()));
        }
        if self.running() == Some(BENCH) {
            return Some(Event::Said(line.to_owned()));
        }
        if let Some(rest) = line.strip_prefix("test result: ") {
            let passed = rest.split_once(". ").and_then(|(_, counts)| counts.split_once(' '));
            self.passed += passed.and_then(|(count, _)| count.parse().ok()).unwrap_or(0);
            return None;
        }
        let test = line.strip_prefix("test ").filter(|rest| rest.contains(" ... "))?;
        Some(Event::Test(test.to_owned()))
    }

    fn marker(&mut self, said: &str) -> Event {
        let words: Vec<&str> = said.split_whitespace().collect();
        match words[..] {
            ["begin", name] => {
                self.running = Some(name.to_owned());
                Event::Begin(name.to_owned())
            }
            ["end", name, code] => {
                self.running = None;
                let code = code.parse().unwrap_or(-1);
                if code != 0 {
                    self.failed.push(name.to_owned());
                } else if name == BENCH {
                    self.passed += 1;
                }
                Event::End(name.to_owned(), code)
            }
            ["up"] => {
                self.up = true;
                Event::Note("the machine is up".to_owned())
            }
            ["done"] => {
                self.done = true;
                Event::Note("all programs have ended".to_owned())
            }
            _ => Event::Note(said.to_owned()),
        }
    }

    /// Whether its first process has begun.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// The program that runs now.
    pub(super) fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// What follows when nothing more is said.
    pub(super) fn verdict(self) -> Verdict {
        let failed = self.failed.join(", ");
        let at = self.running.map_or(String::new(), |name| format!(" in {name}"));
        Verdict::Failed(match self {
            Self { panic: Some(panic), .. } => format!("the kernel panicked{at}: {panic}"),
            Self { done: false, .. } => format!("the machine ended early{at}"),
            Self { .. } if !failed.is_empty() => format!("tests failed in {failed}"),
            Self { passed: 0, .. } => "no test has this name".to_owned(),
            Self { passed, .. } => return Verdict::Passed { tests: passed },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(lines: &[&str]) -> (Vec<Event>, Verdict) {
        let mut console = Console::default();
        let events = lines.iter().filter_map(|line| console.line(line)).collect();
        (events, console.verdict())
    }

    const GOOD: &[&str] = &[
        "[    0.000000] Linux version 6.1.0-56-cloud-amd64\r",
        "vm: begin udp\r",
        "running 2 tests\r",
        "test flows_stay ... ok\r",
        "test result: ok. 2 passed; 0 failed; 0 ignored; finished in 3.01s\r",
        "vm: end udp 0\r",
        "vm: done\r",
    ];

    #[test]
    fn hears_what_runs_and_that_all_passed() {
        let (events, verdict) = hear(GOOD);
        let expected = [
            Event::Begin("udp".to_owned()),
            Event::Test("flows_stay ... ok".to_owned()),
            Event::End("udp".to_owned(), 0),
            Event::Note("all programs have ended".to_owned()),
        ];
        assert_eq!(events, expected);
        assert_eq!(verdict, Verdict::Passed { tests: 2 });
    }

    #[test]
    fn a_benchmark_is_heard_whole() {
        let said = |text: &str| Event::Said(text.to_owned());
        let lines = [
            "vm: begin weir-bench",
            "way   ratio",
            "test   1.0\r",
            "vm: end weir-bench 0",
            "vm: done",
        ];
        let (events, verdict) = hear(&lines);
        assert_eq!(events[1..3], [said("way   ratio"), said("test   1.0")]);
        assert_eq!(verdict, Verdict::Passed { tests: 1 });
    }

    #[test]
    fn passes_nothing_that_did_not_end_well() {
        let why = |lines: &[&str]| match hear(lines).1 {
            Verdict::Failed(why) => why,
            Verdict::Passed { .. } => "passed".to_owned(),
        };
        assert_eq!(why(&GOOD[..6]), "the machine ended early");
        assert_eq!(why(&GOOD[..3]), "the machine ended early in udp");
        assert_eq!(why(&["vm: begin a", "vm: end a 101", "vm: done"]), "tests failed in a");
        assert_eq!(why(&["vm: begin a", "vm: end a 0", "vm: done"]), "no test has this name");
        let panic = "[    9.1] Kernel panic - not syncing: Fatal exception";
        let lines = [&GOOD[..2], &[panic]].concat();
        assert_eq!(why(&lines), format!("the kernel panicked in udp: {panic}"));
    }
}
