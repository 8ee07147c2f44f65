//! One service: its versions side by side, then its backends.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{Block, BorderType, Paragraph},
};

use super::cells::{Side, cell, cut, spread, title};
use super::list::{bad, in_use, quantile, seen, success};
use super::{PLAIN, Palette, STRONG, news};
use crate::cli::figures::{count, interval, long_time, rate, table_share};
use crate::cli::top::state::State;
use crate::model::{Agreement, BackendState, Version};
use crate::node::messages::{BackendStatus, NextHop, ServiceStatus, VersionStatus};

/// Lines of a version's panel, with its borders.
const PANEL: u16 = 11;
/// In so many lines there is room for what can be left out.
const ROOMY: u16 = 30;

/// Draws the service.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    service: &ServiceStatus,
    palette: Palette,
) {
    let name = service.spec.name.as_str();
    let panel_height = PANEL + u16::from(area.height >= ROOMY);
    let heights = [2, panel_height].map(Constraint::Length);
    let [head, panels, rest] =
        Layout::vertical(heights.into_iter().chain([Constraint::Min(0)])).areas(area);
    frame.render_widget(Paragraph::new(about(service, palette)), head);
    let used: Vec<_> = service.versions.iter().filter(|(_, status)| in_use(status)).collect();
    let places = Layout::horizontal(used.iter().map(|_| Constraint::Fill(1))).split(panels);
    for ((version, status), place) in used.into_iter().zip(places.iter()) {
        panel(frame, *place, state, service, (version, status), palette);
    }
    let [backends, drains, events] = split(rest, service, state);
    draw_backends(frame, backends, state, service, palette);
    news::drains(frame, drains, state, Some(name), palette);
    news::events(frame, events, state, Some(name), palette);
}

/// Room for the backends first, then for what drains, then for events.
fn split(area: Rect, service: &ServiceStatus, state: &State) -> [Rect; 3] {
    let height = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX);
    let listed: usize = service.versions.iter().map(|(_, status)| status.backends.len()).sum();
    let backends = height(listed + 2).min(area.height);
    let left = area.height - backends;
    let drains = match news::of(state, Some(&service.spec.name)).count() {
        0 => 0,
        many => height(many + 1).min((left / 2).max(2)),
    };
    let heights = [Constraint::Length(backends), Constraint::Max(drains), Constraint::Fill(1)];
    Layout::vertical(heights).areas(area)
}

/// What the service is, and how its weights stand.
fn about<'a>(service: &ServiceStatus, palette: Palette) -> Vec<Line<'a>> {
    let spec = &service.spec;
    let mut listeners: Vec<String> = Vec::new();
    for listener in spec.listeners.iter().take(3) {
        listeners.push(format!("{}:{}/{}", listener.address, listener.port, listener.protocol));
    }
    if spec.listeners.len() > 3 {
        listeners.push(format!("{} more", spec.listeners.len() - 3));
    }
    let first = Line::from(vec![
        Span::styled(format!(" {}  ", spec.name), STRONG),
        Span::raw(listeners.join(" ")),
        Span::styled(
            format!(
                "  {}, affinity {}  generation {}",
                spec.forwarding, spec.affinity, service.generation
            ),
            palette.quiet(),
        ),
    ]);
    let ratio = &service.sample_ratio;
    let (text, style) = match ratio.agreement {
        Agreement::Agrees => ("shares agree with the table".to_owned(), PLAIN),
        Agreement::Differs => ("shares differ from the table".to_owned(), palette.bad()),
        Agreement::TooFew => {
            (format!("{} more connections to tell", count(ratio.missing())), palette.quiet())
        }
        Agreement::NotJudged => ("shares are not judged".to_owned(), palette.quiet()),
    };
    let mut second = vec![Span::raw(" "), Span::styled(text, style)];
    let since = format!("  {} connections since the table changed", count(ratio.connections));
    second.push(Span::styled(since, palette.quiet()));
    if let Some(lease) = &service.lease {
        second.push(Span::styled(format!("  lease: {lease}"), STRONG));
    }
    vec![first, Line::from(second)]
}

/// A version: asked, table, seen, and how it does.
fn panel(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    service: &ServiceStatus,
    (version, status): (Version, &VersionStatus),
    palette: Palette,
) {
    let name = service.spec.name.as_str();
    let style = palette.version(version);
    let label = match status.release.as_str() {
        "" => format!(" {version} "),
        release => format!(" {version} {release} "),
    };
    let label = cut(label, usize::from(area.width).saturating_sub(2));
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(style)
        .title(Line::styled(label, style.patch(STRONG)));
    let inner = block.inner(area);
    let delta = state.within(name, version).map(|within| &within.delta);
    let counted = state.counted(name, version);
    let width = inner.width;
    let row = |name: &'static str, (text, style): (String, Style)| {
        let left = vec![Span::styled(format!(" {name}"), palette.quiet())];
        spread(left, vec![Span::styled(text, style), Span::raw(" ")], width)
    };
    let plain = |text: String| (text, PLAIN);
    let history = state.history(name, version);
    let room = usize::from(width).saturating_sub(2);
    let bars = |bars: Option<String>| {
        Line::from(Span::styled(format!(" {}", bars.unwrap_or_default()), style))
    };
    let (seen, seen_style) = seen(status, &service.sample_ratio, palette);
    let times = format!("{} {:>6}", quantile(delta, 0.5), quantile(delta, 0.99));
    let failed = delta.map(|delta| delta.traffic.refused + delta.traffic.unanswered);
    let asked = format!("{} {:>7}", status.asked, table_share(status.table));
    // The last one is seen only where there is room.
    let lines = vec![
        row("asked table", plain(asked)),
        row("seen", (seen, seen_style)),
        row("99.9 %", (interval(status.observed), palette.quiet())),
        row("conn/s", plain(delta.map_or("-".into(), |delta| rate(delta.connections_per_s)))),
        bars(history.map(|history| history.rates(room))),
        row("ok", success(delta, palette)),
        row("failed", bad(failed, palette)),
        row("p50 p99", plain(times)),
        bars(history.map(|history| history.slowest(room))),
        row("open", plain(counted.map_or("-".into(), |all| count(all.traffic.open())))),
    ];
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// One line a backend.
fn draw_backends(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    service: &ServiceStatus,
    palette: Palette,
) {
    let all: Vec<(Version, &BackendStatus)> = service
        .versions
        .iter()
        .flat_map(|(version, status)| status.backends.iter().map(move |one| (version, one)))
        .collect();
    let room = usize::from(area.height).saturating_sub(2);
    let name = if all.len() > room {
        format!("backends, {room} of {}", all.len())
    } else {
        "backends".to_owned()
    };
    let mut heading = vec![Span::raw(" ")];
    for (name, width, side) in HEADING {
        heading.extend(cell(name, width, side, STRONG));
    }
    let mut lines = vec![title(&name, area.width, palette.quiet()), Line::from(heading)];
    for (version, backend) in all.into_iter().take(room) {
        lines.push(backend_line(state, service, version, backend, palette));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

const HEADING: [(&str, u16, Side); 9] = [
    ("VERSION", 7, Side::Left),
    ("BACKEND", 21, Side::Left),
    ("WEIGHT", 6, Side::Right),
    ("CONN/S", 6, Side::Right),
    ("OK", 6, Side::Right),
    ("P50", 6, Side::Right),
    ("P99", 6, Side::Right),
    ("FAILED", 6, Side::Right),
    ("STATE", 20, Side::Left),
];

fn backend_line<'a>(
    state: &State,
    service: &ServiceStatus,
    version: Version,
    backend: &BackendStatus,
    palette: Palette,
) -> Line<'a> {
    let address = std::net::SocketAddr::new(backend.address, backend.port);
    let within = state.within(&service.spec.name, version);
    let delta = within.and_then(|within| within.of(address));
    let (condition, style) = condition(backend, palette);
    let failed = delta.map(|delta| delta.traffic.refused + delta.traffic.unanswered);
    let plain = |text: String| (text, PLAIN);
    let cells = [
        (version.to_string(), palette.version(version)),
        plain(address.to_string()),
        plain(backend.weight.to_string()),
        plain(delta.map_or("-".into(), |delta| rate(delta.connections_per_s))),
        success(delta, palette),
        plain(quantile(delta, 0.5)),
        plain(quantile(delta, 0.99)),
        bad(failed, palette),
    ];
    let mut spans = vec![Span::raw(" ")];
    for ((text, style), (_, width, side)) in cells.into_iter().zip(HEADING) {
        spans.extend(cell(text, width, side, style));
    }
    spans.push(Span::styled(condition, style));
    Line::from(spans)
}

/// Whether a backend takes connections, and why not.
fn condition(backend: &BackendStatus, palette: Palette) -> (String, Style) {
    let down = backend.health.as_ref().filter(|health| health.failing).map(|health| {
        let since = long_time(health.since.elapsed().unwrap_or_default());
        let error = health.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        format!("down {since}{error}")
    });
    match (backend.state, &backend.next_hop) {
        (BackendState::Down, _) => (down.unwrap_or_else(|| "down".to_owned()), palette.bad()),
        (BackendState::Draining, _) => ("draining".to_owned(), STRONG),
        (_, NextHop::Unresolved) => ("active, no next hop".to_owned(), palette.bad()),
        (BackendState::Active, _) => ("active".to_owned(), PLAIN),
    }
}
