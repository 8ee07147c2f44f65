//! `weir rollout lint`

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    cli::{
        fail::Failure,
        output::{Output, print},
    },
    rollout::spec::{self, Rollout},
};

/// The longest document, in bytes.
const MAX_DOCUMENT: u64 = 1 << 20;

/// Say what is wrong with a rollout's document, with line and column. Asks nobody.
#[derive(Debug, Args)]
pub(super) struct Lint {
    /// The documents, as YAML; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Lint {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        for file in &self.files {
            match read(file).and_then(|text| parse(file, &text)) {
                Ok(rollout) if output.is_table() => {
                    let Rollout { service, revision, strategy, .. } = &rollout;
                    let strategy = strategy.name();
                    let file = file.display();
                    print(&format!("{file}: {service} {revision}, {strategy}: good\n"))?;
                }
                Ok(rollout) => output.answer(&rollout, |_, _| String::new())?,
                Err(Failure::Refused(message)) => wrong.push(message),
                Err(other) => return Err(other),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failure::Refused(wrong.join("\n"))) }
    }
}

/// Reads a document.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::Read::take(io::stdin(), MAX_DOCUMENT))
    } else {
        fs::metadata(file).and_then(|about| match about.len() {
            0..=MAX_DOCUMENT => fs::read_to_string(file),
            _ => Err(io::Error::other("it is longer than 1 MiB")),
        })
    };
    text.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

/// The rollout, or all that is wrong with its document.
pub(super) fn parse(file: &Path, text: &str) -> Result<Rollout, Failure> {
    spec::parse(text).map_err(|problems| {
        let line = |problem: &spec::Problem| format!("{}: {problem}", file.display());
        Failure::Refused(problems.iter().map(line).collect::<Vec<_>>().join("\n"))
    })
}
