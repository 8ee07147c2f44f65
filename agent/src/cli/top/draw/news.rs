//! What drains, and what happened: of all services, or of one.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::cells::{Side, cell, title};
use super::{PLAIN, Palette, STRONG};
use crate::cli::figures::count;
use crate::cli::top::state::State;
use crate::node::messages::{DrainStatus, MayStop};

/// The drains that are wanted.
pub(super) fn of<'a>(
    state: &'a State,
    service: Option<&'a str>,
) -> impl Iterator<Item = &'a DrainStatus> {
    let all = state.look.iter().flat_map(|look| &look.drains);
    all.filter(move |one| service.is_none_or(|name| one.service.as_str() == name))
}

/// One line a drain.
pub(super) fn drains(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    service: Option<&str>,
    palette: Palette,
) {
    let room = usize::from(area.height).saturating_sub(1);
    let all: Vec<_> = of(state, service).collect();
    let name =
        if all.len() > room { format!("drains, {room} of {}", all.len()) } else { "drains".into() };
    let mut lines = vec![title(&name, area.width, palette.quiet())];
    for one in all.into_iter().take(room) {
        let what = one.backend.map_or_else(|| "all".to_owned(), |at| at.to_string());
        let may = match one.may_stop {
            MayStop::Yes => ("may stop", STRONG),
            MayStop::No => ("in use", PLAIN),
            MayStop::Unknown => ("unknown", palette.quiet()),
        };
        let mut spans = vec![Span::raw(" ")];
        spans.extend(cell(one.service.as_str(), 11, Side::Left, PLAIN));
        spans.extend(cell(one.version.name(), 7, Side::Left, palette.version(one.version)));
        spans.extend(cell(what, 15, Side::Left, PLAIN));
        spans.extend(cell(one.why.as_str(), 9, Side::Left, palette.quiet()));
        spans.extend(cell(format!("{} flows", count(one.flows)), 11, Side::Right, PLAIN));
        spans.extend(cell(may.0, 8, Side::Left, may.1));
        spans.push(Span::styled(one.reason.clone(), palette.quiet()));
        lines.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The newest events, the newest below.
pub(super) fn events(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    service: Option<&str>,
    palette: Palette,
) {
    let room = usize::from(area.height).saturating_sub(1);
    let wanted = state.events.iter().filter(|one| {
        let about = one.event.service.as_ref();
        service.is_none_or(|name| about.is_none_or(|about| about.as_str() == name))
    });
    let newest: Vec<_> = wanted.rev().take(room).collect();
    let mut lines = vec![title("events", area.width, palette.quiet())];
    for one in newest.into_iter().rev() {
        let time = humantime::format_rfc3339_seconds(one.time).to_string();
        let style = if one.event.kind.warns() { palette.bad() } else { PLAIN };
        let mut spans = vec![Span::raw(" ")];
        let time = time.get(11..19).unwrap_or_default();
        spans.extend(cell(time, 8, Side::Left, palette.quiet()));
        let about = one.event.service.as_ref().map_or("-", |name| name.as_str());
        spans.extend(cell(about, 11, Side::Left, PLAIN));
        spans.extend(cell(one.event.kind.name(), 13, Side::Left, style));
        spans.push(Span::raw(one.event.text.clone()));
        lines.push(Line::from(spans));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
