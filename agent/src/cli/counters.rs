//! `weir counters`

use std::time::Duration;

use clap::Args;
use tokio_stream::StreamExt as _;

use super::{
    fail::Failure,
    figures::{bytes, count},
    output::Output,
    table::{
        Side::{Left, Right},
        Table, dim, text, version,
    },
};
use crate::{
    client::Client,
    model::ServiceName,
    node::messages::{self, Traffic},
};

/// Show what the kernel counted, by service, version and backend.
#[derive(Debug, Args)]
pub(super) struct Counters {
    /// One service; without it, all services.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Show them again and again, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks, 100ms to 1h.
    #[arg(long, requires = "watch", default_value = "1s", value_name = "TIME", value_parser = duration)]
    interval: Duration,
}

impl Counters {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let services: Vec<ServiceName> = self.service.into_iter().collect();
        if !self.watch {
            return output.answer(&client.counters(&services).await?, render);
        }
        let mut stream = client.watch_counters(&services, self.interval).await?;
        while let Some(counters) = stream.next().await {
            output.series(&counters?, render)?;
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

fn render(counters: &messages::Counters, colour: bool) -> String {
    let columns = [
        ("SERVICE", Left),
        ("VERSION", Left),
        ("BACKEND", Left),
        ("CONNECTIONS", Right),
        ("PACKETS IN", Right),
        ("BYTES IN", Right),
        ("PACKETS OUT", Right),
        ("BYTES OUT", Right),
        ("TRACKED", Right),
        ("FULL", Right),
        ("FLOOD", Right),
    ];
    let mut table = Table::new(&columns, colour);
    for service in &counters.services {
        let mut first = true;
        for (name, of_version) in service.versions.iter() {
            if of_version.backends.is_empty() && of_version.traffic == Traffic::default() {
                continue;
            }
            let head = [
                text(if first { service.service.as_str() } else { "" }),
                version(name),
                text("all"),
            ];
            table.row(head.into_iter().chain(figures(&of_version.traffic).map(text)));
            for backend in &of_version.backends {
                let address = std::net::SocketAddr::new(backend.address, backend.port);
                table.row(
                    [text(""), text(""), dim(address)]
                        .into_iter()
                        .chain(figures(&backend.traffic).map(dim)),
                );
            }
            first = false;
        }
    }
    let mut lines = if table.is_empty() { "no services\n".to_owned() } else { table.render() };
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

fn figures(traffic: &Traffic) -> [String; 8] {
    [
        count(traffic.connections),
        count(traffic.packets_in),
        bytes(traffic.bytes_in),
        count(traffic.packets_out),
        bytes(traffic.bytes_out),
        count(traffic.tracked),
        count(traffic.fallback_full),
        count(traffic.fallback_flood),
    ]
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
