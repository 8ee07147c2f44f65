//! `weir events`

use clap::Args;
use tokio_stream::StreamExt as _;

use super::{
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
    model::ServiceName,
    node::events::{EventQuery, Events as Found, Recorded},
};

/// Show what happened on the node: the newest 1 024 events, oldest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir events                         all that the agent still knows
  weir events shop --watch            those of shop, and what happens from now on, until Ctrl-C
  weir events --since 17 -o json      those after event 17, for a program")]
pub(super) struct Events {
    /// Only events of this service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Only events after the one with this id. Ids begin anew with the agent.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "ID")]
    since: u64,
    /// Go on with what happens, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

impl Events {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let query = EventQuery { since: self.since, epoch: None, service: self.service };
        let mut stream = client.watch_events(&query, self.watch).await?;
        let mut columns = Columns::default();
        while let Some(events) = stream.next().await {
            let events = events?;
            if !self.watch {
                return output.answer(&events, |events, colour| columns.render(events, colour));
            }
            output.line(&events, |events, colour| columns.render(events, colour))?;
        }
        Err(Failure::NoAgent("the agent ended the stream: it stopped".to_owned()))
    }
}

/// Widths that only grow, so that what is printed later stands below what was printed before.
#[derive(Default)]
struct Columns {
    id: usize,
    service: usize,
    kind: usize,
    begun: bool,
}

impl Columns {
    /// One line an event, below a heading that is printed once.
    fn render(&mut self, found: &Found, colour: bool) -> String {
        let mut lines = match found.lost {
            0 => String::new(),
            1 => "1 event is no longer kept\n".to_owned(),
            lost => format!("{} events are no longer kept\n", count(lost)),
        };
        if found.events.is_empty() {
            return lines;
        }
        let wider = |width: usize, of: fn(&Recorded) -> usize| {
            found.events.iter().map(of).fold(width, usize::max)
        };
        self.id = wider(self.id.max(4), |one| one.id.to_string().len());
        self.service = wider(self.service.max(7), |one| service(one).len());
        self.kind = wider(self.kind.max(13), |one| one.event.kind.name().len());
        let columns =
            [("ID", Right), ("TIME", Left), ("SERVICE", Left), ("KIND", Left), ("EVENT", Left)];
        let mut table = Table::new(&columns, colour);
        for one in &found.events {
            let kind = format!("{:<width$}", one.event.kind, width = self.kind);
            table.row([
                text(format!("{:>width$}", one.id, width = self.id)),
                dim(humantime::format_rfc3339_seconds(one.time)),
                text(format!("{:<width$}", service(one), width = self.service)),
                if one.event.kind.warns() { warning(kind) } else { text(kind) },
                text(&one.event.text),
            ]);
        }
        let table = table.render();
        let body =
            if self.begun { table.split_once('\n').map_or("", |(_, body)| body) } else { &table };
        lines.push_str(body);
        self.begun = true;
        lines
    }
}

fn service(one: &Recorded) -> &str {
    one.event.service.as_ref().map_or("-", ServiceName::as_str)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::node::events::{Event, Kind};

    fn found(lost: u64, events: &[(u64, Option<&str>, Kind, &str)]) -> Found {
        let one = |(id, service, kind, text): &(u64, Option<&str>, Kind, &str)| {
            let event = Event::new(*kind, *text);
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
            let event = match service {
                Some(name) => event.of(&ServiceName::new(name).unwrap()),
                None => event,
            };
            Recorded { id: *id, time, event }
        };
        Found { epoch: 1, lost, last_id: 9, events: events.iter().map(one).collect() }
    }

    #[test]
    fn what_comes_later_stands_below_what_came_before() {
        let mut columns = Columns::default();
        let first = found(0, &[(9, Some("shop"), Kind::Shifted, "blue 100% → 95%")]);
        assert_eq!(
            columns.render(&first, false),
            "  ID  TIME                  SERVICE  KIND           EVENT\n   \
             9  2023-11-14T22:13:20Z  shop     shifted        blue 100% → 95%\n"
        );
        let second = found(1_200, &[(1_210, None, Kind::StoreFailed, "the disk is full")]);
        assert_eq!(
            columns.render(&second, false),
            "1 200 events are no longer kept\n\
             1210  2023-11-14T22:13:20Z  -        store-failed   the disk is full\n"
        );
        assert_eq!(columns.render(&found(0, &[]), false), "");
    }
}
