//! Text of a fixed width.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

/// Which side of its column a cell stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Text in a column, with a space after it; what is too long is cut.
pub(super) fn cell<'a>(
    text: impl Into<String>,
    width: u16,
    side: Side,
    style: Style,
) -> [Span<'a>; 2] {
    let (text, width) = (cut(text.into(), usize::from(width)), usize::from(width));
    let text = match side {
        Side::Left => format!("{text:<width$}"),
        Side::Right => format!("{text:>width$}"),
    };
    [Span::styled(text, style), Span::raw(" ")]
}

/// At most so many characters; an ellipsis stands for those that are cut.
pub(super) fn cut(text: String, width: usize) -> String {
    if text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Some text at the left end of a line, and some at the right if there is room.
pub(super) fn spread<'a>(left: Vec<Span<'a>>, right: Vec<Span<'a>>, width: u16) -> Line<'a> {
    let used = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    let mut line = left;
    if let Some(gap) = usize::from(width).checked_sub(used(&line) + used(&right)) {
        line.push(Span::raw(" ".repeat(gap)));
        line.extend(right);
    }
    Line::from(line)
}

/// `── drains ─────────`
pub(super) fn title<'a>(name: &str, width: u16, style: Style) -> Line<'a> {
    let rest = usize::from(width).saturating_sub(name.chars().count() + 4);
    Line::styled(format!("── {name} {}", "─".repeat(rest)), style)
}
