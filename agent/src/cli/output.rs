//! How an answer is printed: table, JSON or YAML, with or without colour.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use clap::ValueEnum;
use serde::Serialize;

use super::fail::Failure;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value; one a line where answers follow each other. Field names are stable.
    Json,
    /// One YAML document an answer, with the names of the JSON form.
    Yaml,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    format: Format,
    colour: bool,
    terminal: bool,
}

impl Output {
    /// Output to this process's standard output.
    pub(super) fn new(format: Format, colour: Colour) -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org: set and not empty.
        let allowed = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let colour = match colour {
            Colour::Auto => terminal && allowed,
            Colour::Always => true,
            Colour::Never => false,
        };
        Self { format, colour, terminal }
    }

    /// Whether answers are for people.
    pub(super) fn is_table(self) -> bool {
        self.format == Format::Table
    }

    /// Whether a person looks on.
    pub(super) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Whether answers are coloured.
    pub(super) fn has_colour(self) -> bool {
        self.colour
    }

    /// Prints an answer: as it is, or as `table` renders it.
    pub(super) fn answer<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T, bool) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => table(answer, self.colour),
            Format::Json => {
                let mut json = serde_json::to_string_pretty(answer)
                    .map_err(|error| Failure::Failed(error.to_string()))?;
                json.push('\n');
                json
            }
            Format::Yaml => yaml(answer)?,
        };
        print(&text)
    }

    /// Prints one of a series of answers below the one before.
    pub(super) fn line<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T, bool) -> String,
    ) -> Result<(), Failure> {
        print(&match self.format {
            Format::Table => table(answer, self.colour),
            Format::Json | Format::Yaml => self.document(answer)?,
        })
    }

    /// Prints one of a series of answers. On a terminal a table takes the place of the one before.
    pub(super) fn series<T: Serialize>(
        self,
        answer: &T,
        table: impl FnOnce(&T, bool) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            // Home, clear, and the table in one write: no flicker.
            Format::Table if self.terminal => {
                format!("\x1b[H\x1b[2J{}", table(answer, self.colour))
            }
            Format::Table => format!("{}\n", table(answer, self.colour)),
            Format::Json | Format::Yaml => self.document(answer)?,
        };
        print(&text)
    }

    /// One of a series of answers, for programs.
    fn document<T: Serialize>(self, answer: &T) -> Result<String, Failure> {
        if self.format == Format::Yaml {
            return Ok(format!("---\n{}", yaml(answer)?));
        }
        let json =
            serde_json::to_string(answer).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(format!("{json}\n"))
    }
}

/// A value as YAML.
pub(super) fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::Failed(error.to_string()))
}

/// Prints at once; unlike `println!` it does not panic when the reader is gone.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
