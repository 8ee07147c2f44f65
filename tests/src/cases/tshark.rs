//! Independent eyes: Debian's `tshark` over what went into the cases and what came out.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::pcapng::{BROKEN, File};
use crate::lab::host::{bounded, run};

/// What tshark is to verify, which it does not by itself; and each frame alone, for a case's
/// frames belong to no other's.
const PREFERENCES: [&str; 7] = [
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    // Tunnels over IPv6 may do without (RFC 6935).
    "udp.ignore_ipv6_zero_checksum:TRUE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
];

/// What it is to take datagrams to GUE's ports for: IP of either version, as its first bits say.
const GUE: [&str; 2] = ["udp.port==6080,ip", "udp.port==7777,ip"];

/// What no frame may be: malformed, cut short, with a wrong checksum (status 0). An ICMP error's
/// quote may be cut, so that the checksum in it covers what is not there.
const WRONG: &str = "_ws.malformed or _ws.short or ip.bogus_ip_length \
    or ip.checksum.status == 0 or icmp.checksum.status == 0 or icmpv6.checksum.status == 0 \
    or ((tcp.checksum.status == 0 or udp.checksum.status == 0) and not icmp and not icmpv6)";

/// What tshark found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Frames that it read.
    pub frames: u64,
    /// Frames that are wrong on purpose.
    pub broken: u64,
    /// Of these, those that tshark calls wrong.
    pub noticed: u64,
    /// Others that it calls wrong: number, case and summary.
    pub wrong: Vec<String>,
}

impl Found {
    /// Whether nothing is wrong but what is meant to be, of which some was noticed.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong.is_empty() && (self.broken == 0 || self.noticed > 0)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, broken, noticed, wrong } = self;
        write!(
            f,
            "tshark: {} of {} sound frames are malformed or have a wrong checksum; of {broken} \
             that are wrong on purpose it noticed {noticed}",
            wrong.len(),
            frames - broken
        )?;
        wrong.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Whether there is a tshark.
#[must_use]
pub fn is_there() -> bool {
    Command::new("tshark").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Lets tshark look at a file.
pub fn look(file: &File) -> Result<Found> {
    let directory = tempfile::tempdir().context("making a directory for tshark's file")?;
    let path = directory.path().join("cases.pcapng");
    fs::write(&path, file.bytes()).with_context(|| format!("writing {}", path.display()))?;
    let (all, wrong) = (frames(&path, "frame")?, frames(&path, WRONG)?);
    let (noticed, wrong): (Vec<_>, Vec<_>) =
        wrong.into_iter().partition(|line| line.contains(BROKEN));
    Ok(Found {
        frames: all.len() as u64,
        broken: all.iter().filter(|line| line.contains(BROKEN)).count() as u64,
        noticed: noticed.len() as u64,
        wrong,
    })
}

/// A line for each frame of a file that the filter lets through: comment and summary.
fn frames(file: &Path, filter: &str) -> Result<Vec<String>> {
    let mut command = bounded("tshark");
    // No name is looked up, and no profile of the user's changes what is checked.
    command.args(["-n", "-r"]).arg(file).args(["-Y", filter]);
    command.args(PREFERENCES.iter().flat_map(|preference| ["-o", preference]));
    command.args(GUE.iter().flat_map(|port| ["-d", port]));
    command.args(["-T", "fields", "-e", "frame.number", "-e", "frame.comment"]);
    command.args(["-e", "_ws.col.Info"]).env("WIRESHARK_CONFIG_DIR", "/nonexistent");
    let output = run(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
