//! `weir apply`

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    change::{self, ChangeArgs},
    fail::Failure,
    output::Output,
};
use crate::{
    api::MAX_MESSAGE,
    client::Client,
    model::{ServiceSpec, SpecFile},
    node::messages::ChangeOptions,
};

/// Create or replace the services of a file, in one atomic commit. Other services stay as they are.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The file, in YAML; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Apply {
    /// What the file asks for. Read before an agent is looked for, so that a file can be checked
    /// anywhere.
    pub(super) fn read(self) -> Result<Request, Failure> {
        let (name, text) = read(&self.file)?;
        let spec =
            SpecFile::parse(&text).map_err(|error| Failure::Refused(format!("{name}: {error}")))?;
        Ok(Request { services: spec.services, options: self.change.into() })
    }
}

/// A file that was read.
pub(super) struct Request {
    services: Vec<ServiceSpec>,
    options: ChangeOptions,
}

impl Request {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let changed = client.apply(&self.services, &self.options).await?;
        output.answer(&changed, change::render)
    }
}

/// The text of a file or of standard input, with the name it goes by.
fn read(path: &Path) -> Result<(String, String), Failure> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let text = if path == Path::new("-") {
        bounded(io::stdin())
    } else {
        File::open(path).and_then(bounded)
    };
    match text {
        Ok(text) if text.len() > MAX_MESSAGE => {
            Err(Failure::Refused(format!("{name}: is larger than {} MiB", MAX_MESSAGE >> 20)))
        }
        Ok(text) => Ok((name, text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Failure::Refused(format!("{name}: is not UTF-8 text")))
        }
        Err(error) => Err(Failure::Failed(format!("{name}: {error}"))),
    }
}

/// Reads one byte more than is allowed, so that too much can be told from just enough.
fn bounded(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(MAX_MESSAGE as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
