//! `weir trace live`

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use clap::Args;
use ipnet::IpNet;
use tokio_stream::StreamExt as _;

use crate::cli::{
    fail::Failure,
    figures::count,
    output::Output,
    table::{
        Side::{Left, Right},
        Table, dim, text, warning,
    },
};
use crate::{
    client::Client,
    model::{ServiceName, Version, steering::prefix},
    node::trace::answer::{Fate, TraceLive, TracedPacket, TracedPackets},
    pcapng,
};

/// Show what becomes of packets as they come, until Ctrl-C: to which backend each goes and why, or
/// why it is dropped.
#[derive(Debug, Args)]
#[command(after_help = "\
All filters work in the kernel. Packets that come faster than they can be shown are lost to the
trace, which says how many; they are forwarded all the same.

Examples:
  weir trace live --client 10.50.3.0/24 --service shop
  weir trace live --drops
  weir trace live --sample 1/1000 --count 100 -o json
  weir trace live --count 1000 --pcap shop.pcapng
  weir trace live --pcap - | wireshark -k -i -")]
pub(super) struct Live {
    /// Only packets of clients in this prefix.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    client: Option<IpNet>,
    /// Only packets to this service.
    #[arg(long, value_name = "NAME", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Only packets that are dropped.
    #[arg(long)]
    drops: bool,
    /// Also packets that are left to the host, and why.
    #[arg(long)]
    passed: bool,
    /// One packet in N, by chance.
    #[arg(long, default_value = "1/1", value_name = "1/N", value_parser = sample)]
    sample: u32,
    /// End after so many packets.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write the packets as they came in to a pcapng file instead, each with what became of it as
    /// its comment; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Bytes of each packet in that file, at most 256.
    #[arg(long, requires = "pcap", default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    bytes: u32,
}

/// `1/N`
fn sample(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix("1/").and_then(|number| number.parse().ok());
    number.filter(|number| *number > 0).ok_or_else(|| "write it as 1/N, such as 1/1000".to_owned())
}

impl Live {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let asked = TraceLive {
            client: self.client,
            service: self.service,
            drops: self.drops,
            passed: self.passed,
            sample: self.sample,
            frame_bytes: if self.pcap.is_some() { self.bytes } else { 0 },
        };
        let mut sink = match &self.pcap {
            Some(path) => Sink::File(Capture::new(path)?),
            None => Sink::Lines(Columns::default(), output),
        };
        let mut stream = client.trace_live(&asked).await?;
        let (mut left, mut lost) = (self.count.unwrap_or(u64::MAX), 0);
        while left > 0 {
            let traced = tokio::select! {
                traced = stream.next() => traced,
                _ = tokio::signal::ctrl_c() => break,
            };
            let stopped = || Failure::NoAgent("the agent ended the stream: it stopped".to_owned());
            let mut traced = traced.ok_or_else(stopped)??;
            traced.packets.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= traced.packets.len() as u64;
            if !traced.packets.is_empty() || traced.lost > lost {
                sink.take(&traced, traced.lost - lost)?;
            }
            lost = traced.lost;
        }
        sink.end(lost);
        Ok(())
    }
}

/// Where packets go.
enum Sink {
    Lines(Columns, Output),
    File(Capture),
}

impl Sink {
    /// Takes the next packets, before which some were lost.
    fn take(&mut self, traced: &TracedPackets, lost: u64) -> Result<(), Failure> {
        match self {
            Self::Lines(columns, output) => {
                output.line(traced, |traced, colour| columns.render(&traced.packets, lost, colour))
            }
            Self::File(file) => Ok(file.write(&traced.packets, traced.lost)?),
        }
    }

    fn end(self, lost: u64) {
        if let Self::File(file) = self {
            file.progress(lost, "\n");
        }
    }
}

/// A pcapng file in the making.
struct Capture {
    file: pcapng::Writer<Box<dyn Write>>,
    frames: u64,
}

impl Capture {
    fn new(path: &PathBuf) -> Result<Self, Failure> {
        let out: Box<dyn Write> = if path.as_os_str() == "-" {
            Box::new(io::stdout().lock())
        } else {
            let file = File::create(path)
                .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
            Box::new(BufWriter::new(file))
        };
        let mut file = pcapng::Writer::new(out)?;
        file.flush()?;
        Ok(Self { file, frames: 0 })
    }

    fn write(&mut self, packets: &[TracedPacket], lost: u64) -> io::Result<()> {
        for packet in packets {
            let interface =
                self.file.interface(&format!("{} {}", packet.interface, packet.hook))?;
            self.file.frame(
                interface,
                &pcapng::Frame {
                    time: packet.time.duration_since(UNIX_EPOCH).unwrap_or_default(),
                    bytes: &packet.frame,
                    length: packet.length,
                    comment: &comment(packet),
                },
            )?;
            self.frames += 1;
        }
        if io::stderr().is_terminal() {
            self.progress(lost, "");
        }
        // Whatever ends this, the file is whole.
        self.file.flush()
    }

    fn progress(&self, lost: u64, end: &str) {
        let back = if io::stderr().is_terminal() { "\r" } else { "" };
        let (frames, lost) = (count(self.frames), count(lost));
        eprint!("{back}{frames} packets written, {lost} lost{end}");
    }
}

/// What became of a packet, in one line: `sent to canary 10.63.0.2:80 of shop (pinned)`.
fn comment(packet: &TracedPacket) -> String {
    let what = match packet.fate {
        Fate::Sent => "sent",
        Fate::Dropped => "dropped",
        Fate::Passed => "passed",
    };
    let to = packet.backend.map(|backend| {
        let version = backend.version.map_or("removed", Version::name);
        format!(" to {version} {}", backend.address)
    });
    let of = packet.service.as_ref().map(|service| format!(" of {service}")).unwrap_or_default();
    let opens = if packet.opens { ", opens a flow" } else { "" };
    format!("{what}{}{of} ({}{opens})", to.unwrap_or_default(), packet.why)
}

/// Widths that only grow, so that what is printed later stands below what was printed before.
#[derive(Default)]
struct Columns {
    widths: [usize; COLUMNS.len()],
    begun: bool,
}

const COLUMNS: [(&str, crate::cli::table::Side); 10] = [
    ("TIME", Left),
    ("BY", Left),
    ("FATE", Left),
    ("WHY", Left),
    ("SERVICE", Left),
    ("VERSION", Left),
    ("BACKEND", Left),
    ("FLOW", Left),
    ("FLAGS", Left),
    ("BYTES", Right),
];

impl Columns {
    /// One line a packet, below a heading that is printed once.
    fn render(&mut self, packets: &[TracedPacket], lost: u64, colour: bool) -> String {
        let mut lines = match lost {
            0 => String::new(),
            1 => "1 packet was lost to the trace\n".to_owned(),
            lost => format!("{} packets were lost to the trace\n", count(lost)),
        };
        if packets.is_empty() {
            return lines;
        }
        let rows: Vec<_> = packets.iter().map(row).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut table = Table::new(&COLUMNS, colour);
        for (packet, row) in packets.iter().zip(&rows) {
            let cells = row.iter().zip(&self.widths).zip(COLUMNS).enumerate();
            table.row(cells.map(|(column, ((cell, &width), (_, side)))| {
                let cell = match side {
                    Left => format!("{cell:<width$}"),
                    Right => format!("{cell:>width$}"),
                };
                match (column, packet.fate) {
                    (0, _) => dim(cell),
                    (2 | 3, Fate::Dropped) => warning(cell),
                    _ => text(cell),
                }
            }));
        }
        let table = table.render();
        let body =
            if self.begun { table.split_once('\n').map_or("", |(_, body)| body) } else { &table };
        self.begun = true;
        lines.push_str(body);
        lines
    }
}

/// The cells of a packet.
fn row(packet: &TracedPacket) -> [String; COLUMNS.len()] {
    let dash = || "-".to_owned();
    let time = humantime::format_rfc3339_micros(packet.time).to_string();
    // The day is known: `2023-11-14T22:13:20.000001Z`.
    let time = time.get(11..26).unwrap_or(&time).to_owned();
    let opens = if packet.opens { "+" } else { "" };
    [
        time,
        format!("{} {}", packet.interface, packet.hook),
        comment(packet).split(' ').next().unwrap_or_default().to_owned(),
        packet.why.clone(),
        packet.service.as_ref().map_or_else(dash, ToString::to_string),
        packet.backend.and_then(|b| b.version).map_or_else(dash, |version| version.to_string()),
        packet.backend.map_or_else(dash, |backend| backend.address.to_string()),
        packet.flow.map_or_else(dash, |flow| {
            format!("{} → {} {}{opens}", flow.from, flow.to, flow.protocol)
        }),
        if packet.flags.is_empty() { dash() } else { packet.flags.clone() },
        packet.length.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::model::Protocol;
    use crate::node::trace::answer::{TracedBackend, TracedEnds};

    fn packet(fate: Fate, why: &str, backend: bool) -> TracedPacket {
        let address = "10.63.0.2:80".parse().unwrap();
        TracedPacket {
            time: UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            hook: "tc".to_owned(),
            interface: "eth0".to_owned(),
            fate,
            why: why.to_owned(),
            service: backend.then(|| ServiceName::new("shop").unwrap()),
            backend: backend.then_some(TracedBackend { version: Some(Version::Canary), address }),
            opens: backend,
            flow: Some(TracedEnds {
                from: "10.50.3.7:51515".parse().unwrap(),
                to: "10.50.0.100:80".parse().unwrap(),
                protocol: Protocol::Tcp,
            }),
            flags: "S".to_owned(),
            length: 74,
            frame: Vec::new(),
        }
    }

    #[test]
    fn packets_stand_below_each_other() {
        let mut columns = Columns::default();
        let sent = packet(Fate::Sent, "remembered", true);
        assert_eq!(
            columns.render(std::slice::from_ref(&sent), 0, false),
            "TIME             BY       FATE  WHY         SERVICE  VERSION  BACKEND       FLOW                                   FLAGS  BYTES\n\
             22:13:20.000001  eth0 tc  sent  remembered  shop     canary   10.63.0.2:80  10.50.3.7:51515 → 10.50.0.100:80 tcp+  S         74\n"
        );
        let dropped = packet(Fate::Dropped, "drop-no-route", false);
        let lines = columns.render(std::slice::from_ref(&dropped), 1_200, false);
        assert!(lines.starts_with("1 200 packets were lost to the trace\n22:13:20"), "{lines}");
        assert!(lines.contains("  dropped  drop-no-route  -        -        -"), "{lines}");
        let comments = [sent, dropped].map(|packet| comment(&packet));
        assert_eq!(comments[0], "sent to canary 10.63.0.2:80 of shop (remembered, opens a flow)");
        assert_eq!(comments[1], "dropped (drop-no-route)");
    }

    #[test]
    fn a_sample_is_one_in_so_many() {
        assert_eq!((sample("1/1"), sample("1/1000")), (Ok(1), Ok(1_000)));
        for wrong in ["", "1", "2/3", "1/0", "1/-1", "0.001"] {
            assert!(sample(wrong).is_err(), "{wrong}");
        }
    }
}
