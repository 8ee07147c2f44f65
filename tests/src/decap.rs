//! A running `weir decap` on the backends of one version.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::agent::binary;
use crate::identity::Version;
use crate::lab::Lab;
use crate::lab::addresses::FAR_END;

/// How long it may take until it is attached.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The process. Dropping it ends it.
#[derive(Debug)]
pub struct Decap {
    child: Child,
    log: PathBuf,
}

impl Decap {
    /// Starts it on the backends' only interface in `mode` (`tc`, `xdp` …), and waits until it is
    /// attached.
    pub fn start(lab: &Lab, version: Version, mode: &str) -> Result<Self> {
        let log = lab.directory().join(format!("decap-{version}.log"));
        let output = File::create(&log).context("creating the log")?;
        let pins = lab.bpffs().join(format!("decap-{version}"));
        let mut command = lab.version(version).daemon(binary()?);
        command.args(["decap", "--interface", &format!("{FAR_END}:{mode}"), "--bpffs"]).arg(pins);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.process_group(0);
        let mut decap = Self { child: command.spawn().context("starting weir decap")?, log };
        decap.wait()?;
        Ok(decap)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !self.log().contains("strips IPIP") {
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("weir decap is not attached; its log:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        // Errors here mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of weir decap:\n{}", self.log());
        }
    }
}
