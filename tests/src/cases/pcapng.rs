//! Files for Wireshark: what went into cases and what came out. Each frame's comment names its
//! case; its interface says whether it went in or came out of which program.
//!
//! The form is pcapng (draft-ietf-opsawg-pcapng) in the order of this machine's bytes, with the
//! three kinds of blocks that this needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Case;
use super::run::Report;
use crate::program::PROGRAMS;

/// Interfaces of the file, by number.
pub const INTERFACES: [&str; 3] = ["in", "xdp", "tc"];

/// Written in the comment of a frame that is wrong on purpose.
pub const BROKEN: &str = "wrong on purpose";

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const COMMENT: u16 = 1;
const NAME: u16 = 2;

/// A file in the making.
#[derive(Clone, Debug)]
pub struct File {
    bytes: Vec<u8>,
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
        let mut file = Self { bytes: Vec::new(), frames: 0 };
        let (magic, major, minor) = (0x1a2b_3c4d_u32, 1_u16, 0_u16);
        let mut section =
            [&magic.to_ne_bytes()[..], &major.to_ne_bytes(), &minor.to_ne_bytes()].concat();
        section.extend(u64::MAX.to_ne_bytes()); // length not told
        file.block(SECTION, section);
        for name in INTERFACES {
            let mut body = [ETHERNET.to_ne_bytes(), [0; 2]].concat();
            body.extend(0_u32.to_ne_bytes()); // frames of any length
            option(&mut body, NAME, name);
            file.block(INTERFACE, body);
        }
        file
    }

    /// Adds a frame of an interface. Frames are a millisecond apart.
    pub fn push(&mut self, interface: u32, frame: &[u8], comment: &str) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        // Microseconds, the upper half first: there are not so many frames that it is not zero.
        let time = u32::try_from(self.frames * 1_000).unwrap_or(u32::MAX);
        let mut body = [interface, 0, time, length, length].map(u32::to_ne_bytes).concat();
        body.extend(frame);
        pad(&mut body);
        option(&mut body, COMMENT, comment);
        self.block(PACKET, body);
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
        &self.bytes
    }

    fn block(&mut self, kind: u32, body: Vec<u8>) {
        let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_ne_bytes();
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
    }
}

/// The only option of a block, and the end of the options.
fn option(body: &mut Vec<u8>, code: u16, text: &str) {
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(text.as_bytes());
    pad(body);
    body.extend([0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
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
        fs::write(&path, &file.bytes).with_context(cannot)?;
        paths.push((path, file.frames));
    }
    Ok(paths)
}
