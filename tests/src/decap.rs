//! A running `weir decap` on the backends of one version.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::agent::binary;
use crate::identity::Version;
use crate::lab::Lab;
use crate::lab::addresses::FAR_END;
use crate::process::Process;

/// The process. Dropping it ends it.
#[derive(Debug)]
pub struct Decap {
    process: Process,
    pins: PathBuf,
}

impl Decap {
    /// Starts it on the backends' only interface in `mode` (`tc`, `xdp` …), with further arguments,
    /// and waits until it is attached.
    pub fn start(lab: &Lab, version: Version, mode: &str, extra: &[&str]) -> Result<Self> {
        let log = lab.directory().join(format!("decap-{version}.log"));
        let pins = lab.bpffs().join(format!("decap-{version}"));
        let interface = format!("{FAR_END}:{mode}");
        let path = pins.to_str().context("a path")?;
        let arguments = [&["decap", "--interface", &interface, "--bpffs", path], extra].concat();
        let mut process = Process::start(lab.version(version), binary()?, &arguments, &log)?;
        process.wait_to_say("strips IPIP and GUE").context("weir decap")?;
        Ok(Self { process, pins })
    }

    /// What it has counted, as `weir decap counters` says it.
    pub fn counters(&self) -> Result<Value> {
        let mut command = Command::new(binary()?);
        command.args(["decap", "counters", "-o", "json", "--bpffs"]).arg(&self.pins);
        let output = command.output().context("running weir decap counters")?;
        ensure!(output.status.success(), "{output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Stops it by SIGTERM, and gives its log. An error if it leaves something behind.
    pub fn stop(self) -> Result<String> {
        let log = self.process.stop()?;
        ensure!(!self.pins.exists(), "{} is still there", self.pins.display());
        Ok(log)
    }
}
