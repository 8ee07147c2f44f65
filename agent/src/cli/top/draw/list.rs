//! The table of services: one line a version.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::cells::{Side, cell, cut};
use super::{PLAIN, Palette, STRONG};
use crate::cli::figures::{count, observed, rate, share, short_time, table_share};
use crate::cli::top::state::State;
use crate::model::{Agreement, SampleRatio, Version};
use crate::node::interval::Delta;
use crate::node::messages::{ServiceStatus, VersionStatus};

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Service,
    Version,
    Release,
    Asked,
    Table,
    Seen,
    Rate,
    Success,
    P50,
    P99,
    Refused,
    NoAnswer,
    Resets,
    Trend,
}

/// What, its title, and its width.
type Column = (What, &'static str, u16);

/// The columns that `width` has room for. The last one takes what is left.
fn columns(width: u16) -> Vec<Column> {
    use What::{
        Asked, NoAnswer, P50, P99, Rate, Refused, Release, Resets, Seen, Service, Success, Table,
        Trend, Version,
    };
    let mut columns = vec![
        (Service, "SERVICE", 11),
        (Version, "VERSION", 7),
        (Asked, "ASKED", 6),
        (Table, "TABLE", 6),
        (Seen, "SEEN", 7),
        (Rate, "CONN/S", 6),
        (Success, "OK", 6),
        (P50, "P50", 6),
        (P99, "P99", 6),
    ];
    if width >= 110 {
        let more = [(Refused, "REFUSED", 7), (NoAnswer, "NO ANSWER", 9), (Resets, "RESETS", 6)];
        columns.extend(more);
    }
    if width >= 130 {
        columns.insert(2, (Release, "RELEASE", 14));
        columns[0].2 = 24;
        for column in &mut columns[3..] {
            column.2 += 1;
        }
    }
    let used: u16 = columns.iter().map(|(.., width)| width + 1).sum();
    columns.push((Trend, "TREND", width.saturating_sub(used + 2).min(120)));
    columns
}

fn side(what: What) -> Side {
    match what {
        What::Service | What::Version | What::Release | What::Trend => Side::Left,
        _ => Side::Right,
    }
}

/// Draws the services; the selected one is always among those that are seen.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette) {
    let columns = columns(area.width);
    let heading =
        columns.iter().flat_map(|&(what, name, width)| cell(name, width, side(what), STRONG));
    let mut lines = vec![std::iter::once(Span::raw(" ")).chain(heading).collect::<Line<'_>>()];
    let (mut rows, mut chosen) = (Vec::new(), 0..0);
    let selected = state.place();
    for (index, service) in state.visible().into_iter().enumerate() {
        let begin = rows.len();
        let is_selected = selected == Some(index);
        rows.extend(rows_of(service, state, &columns, is_selected, palette));
        if is_selected {
            chosen = begin..rows.len();
        }
    }
    if rows.is_empty() {
        let why = match state.filter.as_str() {
            "" => "no services; `weir apply -f FILE` makes some".to_owned(),
            filter => format!("no service with {filter:?} in its name; Esc drops the filter"),
        };
        rows.push(Line::styled(format!(" {why}"), palette.quiet()));
    }
    let room = usize::from(area.height).saturating_sub(lines.len());
    // As many as it takes to see the end of the selected service, but not past its beginning. The
    // last line is not for rows while there are more.
    let seen = chosen.end + usize::from(chosen.end < rows.len());
    let skipped = seen.saturating_sub(room).min(chosen.start);
    let below = rows.len().saturating_sub(skipped + room);
    lines.extend(rows.into_iter().skip(skipped).take(room));
    if below > 0
        && let Some(last) = lines.last_mut()
    {
        *last = Line::styled(format!("   {} more lines ↓", below + 1), palette.quiet());
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// One line for each version that has anything to show.
fn rows_of<'a>(
    service: &ServiceStatus,
    state: &State,
    columns: &[Column],
    selected: bool,
    palette: Palette,
) -> Vec<Line<'a>> {
    let used = service.versions.iter().filter(|(_, status)| in_use(status));
    used.enumerate()
        .map(|(row, (version, status))| {
            let mark = if selected { "▌" } else { " " };
            let mut spans = vec![Span::styled(mark, STRONG)];
            for &(what, _, width) in columns {
                let one = One { service, state, version, status, first: row == 0, selected };
                let (text, style) = one.show(what, width, palette);
                // A version without weight that gets nothing asks for no attention.
                let idle = status.asked.bp() == 0 && status.observed.connections == 0;
                let style = if idle && what != What::Service { palette.quiet() } else { style };
                spans.extend(cell(text, width, side(what), style));
            }
            Line::from(spans)
        })
        .collect()
}

/// Whether a version has anything to show.
pub(super) fn in_use(status: &VersionStatus) -> bool {
    status.asked.bp() > 0 || status.table.slots > 0 || !status.backends.is_empty()
}

/// One version of a service.
struct One<'a> {
    service: &'a ServiceStatus,
    state: &'a State,
    version: Version,
    status: &'a VersionStatus,
    first: bool,
    selected: bool,
}

impl One<'_> {
    fn show(&self, what: What, width: u16, palette: Palette) -> (String, Style) {
        let within = self.state.within(&self.service.spec.name, self.version);
        let delta = within.map(|within| &within.delta);
        let plain = PLAIN;
        match what {
            What::Service if !self.first => (String::new(), plain),
            What::Service => {
                let style = if self.selected { STRONG } else { plain };
                (self.service.spec.name.clone(), style)
            }
            What::Version => (self.version.to_string(), palette.version(self.version)),
            What::Release => (self.status.release.clone(), palette.quiet()),
            What::Asked => (self.status.asked.to_string(), plain),
            What::Table => (short_share(&table_share(self.status.table)), plain),
            What::Seen => seen(self.status, &self.service.sample_ratio, palette),
            What::Rate => (delta.map_or("-".into(), |delta| rate(delta.connections_per_s)), plain),
            What::Success => success(delta, palette),
            What::P50 => (quantile(delta, 0.5), plain),
            What::P99 => (quantile(delta, 0.99), plain),
            What::Refused => bad(delta.map(|delta| delta.traffic.refused), palette),
            What::NoAnswer => bad(delta.map(|delta| delta.traffic.unanswered), palette),
            What::Resets => {
                let resets = |delta: &Delta| delta.traffic.resets_in + delta.traffic.resets_out;
                (delta.map_or("-".into(), |delta| count(resets(delta))), plain)
            }
            What::Trend => {
                let history = self.state.history(&self.service.spec.name, self.version);
                let bars = history.map(|history| history.rates(usize::from(width)));
                (bars.unwrap_or_default(), palette.version(self.version))
            }
        }
    }
}

/// The observed share, and whether it agrees with the table: `✓`, `≠`, or `·` for too few to tell.
pub(super) fn seen(
    status: &VersionStatus,
    ratio: &SampleRatio,
    palette: Palette,
) -> (String, Style) {
    let share = short_share(&observed(status.observed));
    match ratio.agreement {
        Agreement::Agrees => (format!("{share}✓"), PLAIN),
        Agreement::Differs => (format!("{share}≠"), palette.bad()),
        Agreement::TooFew => (format!("{share}·"), palette.quiet()),
        Agreement::NotJudged => (format!("{share} "), PLAIN),
    }
}

/// `100.00%` is the only share with seven characters.
fn short_share(share: &str) -> String {
    if share == "100.00%" { "100%".to_owned() } else { share.to_owned() }
}

pub(super) fn success(delta: Option<&Delta>, palette: Palette) -> (String, Style) {
    match delta.and_then(|delta| delta.success) {
        None => ("-".into(), palette.quiet()),
        Some(all) if all >= 1.0 => ("100%".into(), PLAIN),
        Some(some) => (share(some), palette.bad()),
    }
}

pub(super) fn quantile(delta: Option<&Delta>, q: f64) -> String {
    let time = delta.and_then(|delta| delta.handshakes.quantile(q));
    time.map_or("-".into(), |time| cut(short_time(time).replace(' ', ""), 6))
}

pub(super) fn bad(number: Option<u64>, palette: Palette) -> (String, Style) {
    match number {
        None => ("-".into(), palette.quiet()),
        Some(0) => ("0".into(), PLAIN),
        Some(some) => (count(some), palette.bad()),
    }
}
