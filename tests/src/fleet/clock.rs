//! Clocks that jump: a process that sees another time than the host has, by libfaketime. Time that only
//! passes (`CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`) is the host's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Where Debian has libraries, by architecture.
const LIBRARIES: &str = "/usr/lib";
/// The library below that, for processes with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock that can be set.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// One that is right. Its file is in `directory`, under the name `name`.
    ///
    /// # Errors
    ///
    /// libfaketime is not there.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let below = fs::read_dir(LIBRARIES)?.flatten().map(|entry| entry.path().join(LIBRARY));
        let library = below.into_iter().find(|path| path.is_file()).context(
            "there is no libfaketime: run `cargo xtask setup --watchers` (on Debian, \
             `apt-get install faketime`)",
        )?;
        let clock = Self { library, file: directory.join(name) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it: so many seconds ahead of the host's.
    ///
    /// # Errors
    ///
    /// Its file cannot be written.
    pub fn set(&self, ahead: i64) -> Result<()> {
        // In one step: it is read at any moment.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{ahead:+}\n"))?;
        fs::rename(&next, &self.file).context("setting a clock")
    }

    /// The environment of a process that goes by it.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD", path(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", path(&self.file)),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// A command that goes by it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }
}
