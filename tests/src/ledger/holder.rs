//! A process that campaigns, leads, and saves what it is told to: to be killed and paused.
//!
//! It is told by lines on its standard input (`save TEXT`, `check`), and answers by lines.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use weir::model::ServiceName;
use weir::rollout::ledger::{Change, Fence};

use super::Place;

/// The service that it saves.
pub const SERVICE: &str = "shop";

/// The process. Dropping it ends it.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts `program` (`weir-holder`), and waits until it leads; gives its fence.
    ///
    /// # Errors
    ///
    /// It does not start, or does not lead.
    pub fn start(program: &Path, place: &Place) -> Result<(Self, Fence)> {
        let mut command = Command::new(program);
        command.arg(place.text()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the holder")?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut holder = Self { child, input, output };
        let said = holder.line()?;
        let fence = said.strip_prefix("leads ").context(said.clone())?;
        Ok((holder, Fence(fence.parse()?)))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the holder has ended");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Tells it something, and gives its answer.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn ask(&mut self, what: &str) -> Result<String> {
        writeln!(self.input, "{what}")?;
        self.line()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does.
///
/// # Errors
///
/// It cannot lead.
pub async fn hold(place: &str) -> Result<()> {
    let store = Place::parse(place)?.open("holder")?;
    let leadership = store.campaign().await?;
    println!("leads {}", leadership.fence());
    let service = ServiceName::new(SERVICE).map_err(anyhow::Error::msg)?;
    let mut version = store.version(&service).await?;
    for line in std::io::stdin().lines() {
        match line?.split_once(' ') {
            Some(("save", text)) => {
                let change = Change { document: json!(text), ..Change::default() };
                match store.save(leadership.fence(), &service, version, change).await {
                    Ok(saved) => {
                        version = Some(saved);
                        println!("saved");
                    }
                    Err(error) => println!("refused: {error}"),
                }
            }
            _ => match leadership.check() {
                Ok(()) => println!("leads"),
                Err(why) => println!("lost: {why}"),
            },
        }
    }
    Ok(())
}
