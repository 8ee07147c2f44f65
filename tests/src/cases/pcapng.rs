//! Files for Wireshark: what went into cases and what came out. Each frame's comment names its
//! case; its interface says whether it went in or came out of which program.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "memory can be written to")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use weir::pcapng::{Frame, Writer};

use super::Case;
use super::run::Report;
use crate::program::PROGRAMS;

/// Interfaces of the file, by number.
pub const INTERFACES: [&str; 3] = ["in", "xdp", "tc"];

/// Written in the comment of a frame that is wrong on purpose.
pub const BROKEN: &str = "wrong on purpose";

const MEMORY: &str = "memory can be written to";

/// A file in the making.
#[derive(Clone, Debug)]
pub struct File {
    writer: Writer<Vec<u8>>,
    frames: u64,
}

impl Default for File {
    fn default() -> Self {
        Self::new()
    }
}

impl File {
    /// One without frames.
    #[must_use]
    pub fn new() -> Self {
        let mut writer = Writer::new(Vec::new()).expect(MEMORY);
        for name in INTERFACES {
            writer.interface(name).expect(MEMORY);
        }
        Self { writer, frames: 0 }
    }

    /// Adds a frame of an interface. Frames are a millisecond apart.
    pub fn push(&mut self, interface: u32, frame: &[u8], comment: &str) {
        let frame = Frame {
            time: Duration::from_millis(self.frames),
            bytes: frame,
            length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            comment,
        };
        self.writer.frame(interface, &frame).expect(MEMORY);
        self.frames += 1;
    }

    /// How many frames it has.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.writer.get_ref()
    }
}

/// A file with what went into the cases of a topic, or of all, and what each program sent.
#[must_use]
pub fn file(cases: &[Case], reports: &[Report], topic: Option<&str>) -> File {
    let mut file = File::new();
    for report in reports {
        let case = &cases[report.case];
        if topic.is_some_and(|topic| topic != case.topic()) {
            continue;
        }
        let comment = |broken: bool| {
            if broken { format!("{} ({BROKEN})", case.name) } else { case.name.clone() }
        };
        file.push(0, &case.input.bytes(), &comment(case.input.broken));
        for ((program, hook), interface) in PROGRAMS.iter().zip(&report.hooks).zip(1..) {
            let frame = case.outcome(*program).frame.as_ref();
            if let Some(sent) = &hook.sent {
                file.push(interface, sent, &comment(frame.is_some_and(|frame| frame.broken)));
            }
        }
    }
    file
}

/// Writes a file for each topic into a directory, which is made if there is none. Gives the paths,
/// each with its number of frames.
pub fn write(directory: &Path, cases: &[Case], reports: &[Report]) -> Result<Vec<(PathBuf, u64)>> {
    let cannot = || format!("cannot write to {}", directory.display());
    fs::create_dir_all(directory).with_context(cannot)?;
    let mut paths = Vec::new();
    let topics: BTreeSet<&str> = cases.iter().map(Case::topic).collect();
    for topic in topics {
        let file = file(cases, reports, Some(topic));
        let path = directory.join(format!("{topic}.pcapng"));
        fs::write(&path, file.bytes()).with_context(cannot)?;
        paths.push((path, file.frames));
    }
    Ok(paths)
}
