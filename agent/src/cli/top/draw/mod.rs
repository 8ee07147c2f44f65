//! From state to cells. Pure: the same state gives the same screen.

mod cells;
mod detail;
mod help;
mod list;
mod news;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use self::cells::spread;
use super::state::{State, View};
use crate::cli::figures::{long_time, rate, share};
use crate::model::Version;

/// Nothing special.
const PLAIN: Style = Style::new();
/// Something that matters more.
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// Styles, with or without colour. Nothing is told by colour alone.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli::top) struct Palette {
    colour: bool,
}

impl Palette {
    pub(in crate::cli::top) fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn version(self, version: Version) -> Style {
        self.colour(match version {
            Version::Blue => Color::LightBlue,
            Version::Green => Color::LightGreen,
            Version::Canary => Color::LightYellow,
        })
    }

    /// Something to look at.
    fn bad(self) -> Style {
        self.colour(Color::LightRed).add_modifier(Modifier::BOLD)
    }

    /// Something that matters less.
    fn quiet(self) -> Style {
        if self.colour {
            Style::new().fg(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }
}

/// The whole screen.
pub(in crate::cli::top) fn screen(frame: &mut Frame<'_>, state: &State, palette: Palette) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(header(state, palette, head), head);
    if state.help {
        help::draw(frame, body);
    } else if state.look.is_none() {
        let waiting = Line::styled("waiting for the first look", palette.quiet());
        frame.render_widget(Paragraph::new(waiting).centered(), body);
    } else {
        match state.selected().filter(|_| state.view == View::Detail) {
            Some(service) => detail::draw(frame, body, state, service, palette),
            None => overview(frame, body, state, palette),
        }
    }
    frame.render_widget(footer(state, palette, foot), foot);
}

/// All services, what drains, what happened.
fn overview(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette) {
    let [services, drains, events] = with_news(area, state);
    list::draw(frame, services, state, palette);
    news::drains(frame, drains, state, None, palette);
    news::events(frame, events, state, None, palette);
}

/// Room for services, for drains if there are any, and for events.
fn with_news(area: Rect, state: &State) -> [Rect; 3] {
    let height = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX);
    let events = (area.height / 4).clamp(3, 12);
    let drains = match news::of(state, None).count() {
        0 => 0,
        many => height(many + 1).min((area.height / 5).max(3)),
    };
    Layout::vertical([Constraint::Min(0), Constraint::Length(drains), Constraint::Length(events)])
        .areas(area)
}

/// The node and the sum of all services; or that the agent is lost.
fn header<'a>(state: &State, palette: Palette, area: Rect) -> Line<'a> {
    let name = Span::styled(" weir top ", STRONG.add_modifier(Modifier::REVERSED));
    if let Some(why) = &state.lost {
        let text = format!(" no agent, looking for it: {why}");
        return Line::from(vec![name, Span::styled(text, palette.bad())]);
    }
    let Some(look) = &state.look else { return Line::from(name) };
    let total = state.total();
    let mut left = vec![
        name,
        Span::raw(format!(" up {}  ", long_time(look.node.uptime))),
        Span::styled(rate(total.connections_per_s), STRONG),
        Span::raw(" conn/s  "),
    ];
    if let Some(success) = total.success {
        let style = if success < 1.0 { palette.bad() } else { PLAIN };
        left.extend([Span::styled(share(success), style), Span::raw(" succeed")]);
    }
    match look.node.warnings.len() {
        0 => {}
        1 => left.push(Span::styled("  1 warning: weir status", palette.bad())),
        many => left.push(Span::styled(format!("  {many} warnings: weir status"), palette.bad())),
    }
    let time = humantime::format_rfc3339_seconds(look.sample.counters.time).to_string();
    let clock = time.get(11..19).unwrap_or_default().to_owned();
    let mut right = Vec::new();
    if state.paused {
        right.push(Span::styled(" paused ", STRONG.add_modifier(Modifier::REVERSED)));
        right.push(Span::raw(" "));
    }
    if look.sample.interval.as_ref().is_some_and(|within| within.gap) {
        right.push(Span::styled("counters began anew  ", palette.bad()));
    }
    right.push(Span::styled(format!("{clock} UTC "), palette.quiet()));
    spread(left, right, area.width)
}

/// The keys, or the filter that is being typed.
fn footer<'a>(state: &State, palette: Palette, area: Rect) -> Line<'a> {
    if state.view == View::Filter {
        let text = format!(" filter: {}▏", state.filter);
        let hint = Span::styled("Enter keeps it, Esc drops it ", palette.quiet());
        return spread(vec![Span::styled(text, STRONG)], vec![hint], area.width);
    }
    let keys: &[(&str, &str)] = if state.view == View::Detail {
        &[("q", "quit"), ("?", "help"), ("Esc", "back"), ("↑↓", "next"), ("space", "pause")]
    } else {
        &[
            ("q", "quit"),
            ("?", "help"),
            ("↑↓", "select"),
            ("Enter", "show"),
            ("/", "filter"),
            ("s", "sort"),
            ("space", "pause"),
        ]
    };
    let mut left = vec![Span::raw(" ")];
    for (key, what) in keys {
        left.push(Span::styled(*key, STRONG));
        left.push(Span::styled(format!(" {what}  "), palette.quiet()));
    }
    let mut right = String::new();
    if !state.filter.is_empty() {
        right = format!("filter: {}  ", state.filter);
    }
    if state.view != View::Detail {
        right = format!("{right}by {} ", state.sort.name());
    }
    spread(left, vec![Span::styled(right, palette.quiet())], area.width)
}

#[cfg(test)]
mod tests;
