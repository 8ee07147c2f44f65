//! `weir counters`

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use comfy_table::{Attribute, Cell};
use tokio_stream::StreamExt as _;

use super::{
    fail::Failure,
    figures::{count, rate, share as portion, short_time},
    output::Output,
    table::{
        Side::{Left, Right},
        Table, dim, text, version, warning,
    },
};
use crate::{
    client::Client,
    model::{ServiceName, Version},
    node::{
        interval::Delta,
        messages::{Handshakes, Sample, Traffic, VersionCounters},
    },
};

/// Show what the kernel counted, by service, version and backend.
#[derive(Debug, Args)]
#[command(after_help = "\
SUCCESS is the share of handshakes that were established, P50 and P99 how long handshakes took; RESENT are
SYNs that came again, RESETS those of both sides. docs/signals.md defines all of it.

Examples:
  weir counters                      since the counters began
  weir counters shop --watch         rates, and how the last second was, until Ctrl-C
  weir counters shop --all           every counter, by its name
  weir counters -o json              every counter of every backend, with the times in buckets")]
pub(super) struct Counters {
    /// One service; without it, all services.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Show again and again what was counted since the last look, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks, 100ms to 1h.
    #[arg(long, requires = "watch", default_value = "1s", value_name = "TIME", value_parser = duration)]
    interval: Duration,
    /// Show every counter, by version.
    #[arg(short, long)]
    all: bool,
}

impl Counters {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let services: Vec<ServiceName> = self.service.into_iter().collect();
        let all = self.all;
        if !self.watch {
            let counters = client.counters(&services).await?;
            return output.answer(&counters, |counters, colour| {
                let counters = counters.clone();
                render(&Sample { counters, interval: None }, all, colour)
            });
        }
        let mut stream = client.watch_counters(&services, self.interval).await?;
        while let Some(sample) = stream.next().await {
            output.series(&sample?, |sample, colour| render(sample, all, colour))?;
        }
        Err(Failure::NoAgent("the agent ended the stream: it stopped".to_owned()))
    }
}

/// `500ms`, `1s`, `2m`
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write 500ms, 1s or 2m");
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let duration = Duration::from_millis(u64::from(number) * milliseconds);
    if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("{text} is not within 100ms and 1h"))
    }
}

/// What a look has found, in the form that was asked for.
fn render(sample: &Sample, all: bool, colour: bool) -> String {
    let counters = &sample.counters;
    let mut lines = match &sample.interval {
        None => String::new(),
        Some(interval) if interval.gap => {
            "the counters began anew, or the clock was set back: no rates this time\n\n".to_owned()
        }
        Some(interval) => {
            let time = humantime::format_rfc3339_seconds(counters.time);
            let length = short_time(interval.length);
            format!("{time}, the last {length}; OPEN and CONNECTIONS since the counters began\n\n")
        }
    };
    let table = if all { every_counter(sample, colour) } else { signals(sample, colour) };
    lines.push_str(if table.is_empty() { "no services\n" } else { &table });
    if !counters.verdicts.is_empty() {
        let mut table = Table::new(&[("HOOK", Left), ("REASON", Left), ("PACKETS", Right)], colour);
        for verdict in &counters.verdicts {
            table.row([text(&verdict.hook), text(&verdict.reason), text(count(verdict.packets))]);
        }
        lines.push('\n');
        lines.push_str(&table.render());
    }
    lines
}

/// How each version and each backend does: since the counters began, or within the interval if there
/// is one. Within 120 columns.
fn signals(sample: &Sample, colour: bool) -> String {
    let live = sample.interval.is_some();
    let mut columns = vec![("SERVICE", Left), ("VERSION", Left), ("BACKEND", Left)];
    if live {
        columns.push(("CONN/S", Right));
    }
    let rest = [
        "SUCCESS",
        "P50",
        "P99",
        "REFUSED",
        "NO ANSWER",
        "RESENT",
        "RESETS",
        "OPEN",
        "CONNECTIONS",
    ];
    columns.extend(rest.map(|name| (name, Right)));
    let mut table = Table::new(&columns, colour);
    for service in &sample.counters.services {
        let within = sample.interval.as_ref().and_then(|interval| interval.of(&service.service));
        let mut first = true;
        for (name, of_version) in service.versions.iter().filter(|(_, one)| in_use(one)) {
            let within = within.map(|within| &within.versions[name]);
            let head = [
                text(if first { service.service.as_str() } else { "" }),
                version(name),
                text("all"),
            ];
            let VersionCounters { traffic, handshakes, .. } = of_version;
            let delta = within.map(|within| &within.delta);
            table.row(head.into_iter().chain(row(traffic, handshakes, (live, delta))));
            for backend in &of_version.backends {
                let address = SocketAddr::new(backend.address, backend.port);
                let delta = within.and_then(|within| within.of(address));
                let row = row(&backend.traffic, &backend.handshakes, (live, delta));
                let head = [text(""), text(""), dim(address)];
                table.row(
                    head.into_iter().chain(row.map(|cell| cell.add_attribute(Attribute::Dim))),
                );
            }
            first = false;
        }
    }
    if table.is_empty() { String::new() } else { table.render() }
}

/// The cells of a version or a backend, from what was counted in all, and within an interval.
fn row(
    traffic: &Traffic,
    handshakes: &Handshakes,
    (live, within): (bool, Option<&Delta>),
) -> impl Iterator<Item = Cell> {
    let none = Delta::default();
    let (seen, times) = match within {
        Some(delta) => (&delta.traffic, &delta.handshakes),
        None if live => (&none.traffic, &none.handshakes),
        None => (traffic, handshakes),
    };
    let time = |q| times.quantile(q).map_or_else(|| dim("-"), |time| text(short_time(time)));
    let bad = |number| if number > 0 { warning(count(number)) } else { text("0") };
    let success = match seen.success() {
        None => dim("-"),
        Some(all) if all >= 1.0 => text("100%"),
        Some(some) => warning(portion(some)),
    };
    let rate = within.map_or_else(|| dim("-"), |delta| text(rate(delta.connections_per_s)));
    let cells = [
        success,
        time(0.5),
        time(0.99),
        bad(seen.refused),
        bad(seen.unanswered),
        bad(seen.retransmissions),
        text(count(seen.resets_in + seen.resets_out)),
        text(count(traffic.open())),
        text(count(traffic.connections)),
    ];
    live.then_some(rate).into_iter().chain(cells)
}

/// Every counter by version, by the names that they have everywhere.
fn every_counter(sample: &Sample, colour: bool) -> String {
    let columns = [
        ("SERVICE", Left),
        ("COUNTER", Left),
        ("BLUE", Right),
        ("GREEN", Right),
        ("CANARY", Right),
    ];
    let mut table = Table::new(&columns, colour);
    for service in &sample.counters.services {
        let within = sample.interval.as_ref().and_then(|interval| interval.of(&service.service));
        let of = |version: Version| {
            let all = &service.versions[version];
            within.map_or((&all.traffic, &all.handshakes), |within| {
                let delta = &within.versions[version].delta;
                (&delta.traffic, &delta.handshakes)
            })
        };
        let mut first = true;
        let mut line = |name: &str, cells: [Cell; 3]| {
            let head = [text(if first { service.service.as_str() } else { "" }), text(name)];
            table.row(head.into_iter().chain(cells));
            first = false;
        };
        for (index, name) in Traffic::NAMES.iter().enumerate() {
            line(name, Version::ALL.map(|version| text(count(of(version).0.values()[index]))));
        }
        for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let time = |version| of(version).1.quantile(q);
            line(name, Version::ALL.map(|one| text(time(one).map_or("-".to_owned(), short_time))));
        }
    }
    if table.is_empty() { String::new() } else { table.render() }
}

/// Whether a version has anything to show.
fn in_use(version: &VersionCounters) -> bool {
    !version.backends.is_empty() || version.traffic != Traffic::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "1", "s", "1 s", "-1s", "1.5s", "99ms", "61m", "99999999999s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
