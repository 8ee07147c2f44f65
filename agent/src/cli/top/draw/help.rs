//! What the keys do, and what the columns mean.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::STRONG;
use super::cells::{Side, cell};

const KEYS: [(&str, &str); 8] = [
    ("↑ ↓  k j  Home End", "select a service"),
    ("Enter", "show it: versions side by side, backends, drains, events"),
    ("Esc", "go back; drop the filter"),
    ("/", "show services with this in their names"),
    ("s", "sort by name, connections, success, latency"),
    ("space", "stop the screen where it is, and go on"),
    ("?", "this page; any key leaves it"),
    ("q  Ctrl-C", "quit"),
];

const COLUMNS: [(&str, &str); 8] = [
    ("ASKED", "weight that was asked for"),
    ("TABLE", "share of the kernel's table, read back"),
    ("SEEN", "share of new connections: ✓ agrees with the table,"),
    ("", "≠ differs from it, · too few to tell (docs/verify.md)"),
    ("CONN/S", "new connections a second; TREND over the last looks"),
    ("OK", "share of handshakes that were established"),
    ("P50 P99", "times that so many of the handshakes did not exceed"),
    ("RESETS", "by either side, after the handshake"),
];

/// Draws the page.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect) {
    let mut lines = vec![Line::raw("")];
    for (rows, width) in [(KEYS, 19), (COLUMNS, 19)] {
        for (name, what) in rows {
            let mut spans = vec![Span::raw("  ")];
            spans.extend(cell(name, width, Side::Left, STRONG));
            spans.push(Span::raw(what));
            lines.push(Line::from(spans));
        }
        lines.push(Line::raw(""));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
