//! The same change by what others use: `HAProxy`'s `set weight`, and `nft -f`.
//!
//! Of these the time until the command has come back is measured. Neither says that no packet is
//! decided by what was before, but the command has taken effect by then.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use weir::model::Version;

use crate::bench::crowd::Crowd;
use crate::bench::peer;
use crate::lab::Lab;
use crate::process::Process;

/// Something that can send a crowd's connections to blue or to canary.
pub(super) trait Shifter {
    /// What it is.
    fn name(&self) -> &'static str;
    /// Sends all new connections to a version; gives how long that took.
    fn shift(&mut self, lab: &Lab, to: Version) -> Result<Duration>;
}

/// Those that are installed. `skipped` is told of the others.
pub(super) fn all(
    lab: &Lab,
    crowd: Crowd,
    skipped: &mut dyn FnMut(&str),
) -> Result<Vec<Box<dyn Shifter>>> {
    let mut all: Vec<Box<dyn Shifter>> = Vec::new();
    if peer::installed("haproxy") {
        all.push(Box::new(HaProxy::start(lab, crowd).context("haproxy")?));
    } else {
        skipped("haproxy is not installed (package haproxy)");
    }
    if peer::installed("nft") {
        match Nft::start(lab, crowd) {
            Ok(nft) => all.push(Box::new(nft)),
            Err(error) => skipped(&format!("nft does not work here: {error:#}")),
        }
    } else {
        skipped("nft is not installed (package nftables)");
    }
    Ok(all)
}

/// `HAProxy` with a server for each backend, by its socket.
struct HaProxy {
    socket: PathBuf,
    /// The commands that lead to blue, and to canary: one line each.
    commands: [String; 2],
    _process: Process,
}

impl HaProxy {
    fn start(lab: &Lab, crowd: Crowd) -> Result<Self> {
        let directory = lab.directory();
        let (socket, file) = (directory.join("haproxy.sock"), directory.join("haproxy.cfg"));
        let _ = fs::remove_file(&socket);
        // A line of commands must fit in a buffer.
        let mut text = format!(
            "global\n  stats socket {} mode 600 level admin\n  tune.bufsize 262144\n  maxconn 100\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n",
            socket.display()
        );
        let mut commands = [String::new(), String::new()];
        for service in 0..crowd.services {
            let port = crowd.listener(service).port();
            write!(text, "listen s{service}\n  bind 127.0.0.1:{port}\n  balance roundrobin\n")?;
            let mut server = 0;
            for version in Version::ALL {
                for address in crowd.addresses(service, version) {
                    let weight = |of: Version| if of == version { 100 } else { 0 };
                    let first = weight(Version::Blue);
                    writeln!(text, "  server b{server} {address}:80 weight {first}")?;
                    if version != Version::Green {
                        for (line, to) in commands.iter_mut().zip([Version::Blue, Version::Canary])
                        {
                            write!(line, "set weight s{service}/b{server} {};", weight(to))?;
                        }
                    }
                    server += 1;
                }
            }
        }
        fs::write(&file, text)?;
        let arguments = ["-db", "-f", &file.to_string_lossy()];
        let log = directory.join("haproxy.log");
        let mut process = Process::start(lab.lb(), "haproxy", &arguments, &log)?;
        process.wait(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Self { socket, commands, _process: process })
    }
}

impl Shifter for HaProxy {
    fn name(&self) -> &'static str {
        "HAProxy set weight"
    }

    fn shift(&mut self, _: &Lab, to: Version) -> Result<Duration> {
        let line = &self.commands[usize::from(to != Version::Blue)];
        let began = Instant::now();
        let mut socket = UnixStream::connect(&self.socket)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        socket.write_all(line.trim_end_matches(';').as_bytes())?;
        socket.write_all(b"\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let took = began.elapsed();
        // It says nothing to a command that it has carried out.
        match answer.trim() {
            "" => Ok(took),
            said => bail!("haproxy said {said:?}"),
        }
    }
}

/// A chain of nftables for each service, with one rule: a hash of the connection to a backend.
struct Nft {
    /// Files that lead to blue, and to canary.
    files: [PathBuf; 2],
}

impl Nft {
    fn start(lab: &Lab, crowd: Crowd) -> Result<Self> {
        let address = crowd.listener(0).ip();
        let mut text = String::from("table ip shift {\n");
        let mut ports = Vec::new();
        for service in 0..crowd.services {
            writeln!(text, "  chain s{service} {{ }}")?;
            ports.push(format!("{} : jump s{service}", crowd.listener(service).port()));
        }
        write!(
            text,
            "  chain in {{\n    type nat hook prerouting priority dstnat;\n    \
             ip daddr {address} tcp dport vmap {{ {} }}\n  }}\n}}\n",
            ports.join(", ")
        )?;
        peer::nft(lab.lb(), lab.directory(), &text)?;
        let files = [Version::Blue, Version::Canary].map(|to| {
            let file = lab.directory().join(format!("{to}.nft"));
            fs::write(&file, Self::rules(crowd, to)).map(|()| file)
        });
        let [blue, canary] = files;
        let mut nft = Self { files: [blue?, canary?] };
        nft.shift(lab, Version::Blue)?;
        Ok(nft)
    }

    fn rules(crowd: Crowd, to: Version) -> String {
        let rule = |service| {
            let backends: Vec<_> = crowd.addresses(service, to).enumerate().collect();
            let map: Vec<String> = backends.iter().map(|(i, at)| format!("{i} : {at}")).collect();
            format!(
                "flush chain ip shift s{service}\nadd rule ip shift s{service} \
                 dnat to jhash ip saddr . tcp sport mod {} map {{ {} }}\n",
                backends.len(),
                map.join(", ")
            )
        };
        (0..crowd.services).map(rule).collect()
    }
}

impl Shifter for Nft {
    fn name(&self) -> &'static str {
        "nft -f"
    }

    fn shift(&mut self, lab: &Lab, to: Version) -> Result<Duration> {
        let file = &self.files[usize::from(to != Version::Blue)];
        lab.lb().inside(|| {
            let mut command = Command::new("nft");
            command.arg("-f").arg(file);
            let began = Instant::now();
            let output = command.output().context("running nft")?;
            let took = began.elapsed();
            if !output.status.success() {
                bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(took)
        })?
    }
}
