//! Aligned tables without lines.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, TableStyle};

/// Which side of a column its cells stand at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table that is filled row by row.
pub(super) struct Table {
    table: comfy_table::Table,
    colour: bool,
}

impl Table {
    /// An empty table with these columns.
    pub(super) fn new(columns: &[(&str, Side)], colour: bool) -> Self {
        let mut table = comfy_table::Table::new();
        // Wrapping would break the columns of whoever reads them by program: lines are as long as they must be.
        table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
        if colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(
            columns.iter().map(|(name, _)| Cell::new(name).add_attribute(Attribute::Bold)),
        );
        for (index, (_, side)) in columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                column.set_cell_alignment(match side {
                    Side::Left => CellAlignment::Left,
                    Side::Right => CellAlignment::Right,
                });
            }
        }
        Self { table, colour }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    /// Whether it has no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.table.row_count() == 0
    }

    /// The lines, each ended.
    pub(super) fn render(&self) -> String {
        // Trimming would cut into the codes of the last cell; without colour there are none.
        let text = if self.colour { self.table.to_string() } else { self.table.trim_fmt() };
        format!("{text}\n")
    }
}

/// Plain text.
#[allow(clippy::needless_pass_by_value, reason = "callers give what they have")]
pub(super) fn text(value: impl ToString) -> Cell {
    Cell::new(value.to_string())
}

/// Something to look at.
pub(super) fn warning(value: impl ToString) -> Cell {
    text(value).fg(Color::Yellow)
}

/// Something that matters less.
pub(super) fn dim(value: impl ToString) -> Cell {
    text(value).add_attribute(Attribute::Dim)
}

/// A version's name, in its own colour.
pub(super) fn version(version: crate::model::Version) -> Cell {
    use crate::model::Version;
    text(version).fg(match version {
        Version::Blue => Color::Blue,
        Version::Green => Color::Green,
        Version::Canary => Color::Yellow,
    })
}
