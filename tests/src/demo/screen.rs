//! Where the demo is seen: a terminal, on which the table of the running step is drawn again and
//! again in its place, or a file, to which each step is written once.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use crate::identity::Version;

/// The standard output.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    paint: Paint,
    /// Lines of what can be drawn over.
    drawn: usize,
}

impl Screen {
    /// Looks at what the standard output is. On a terminal the cursor is hidden until the screen
    /// is dropped.
    #[must_use]
    pub fn new() -> Self {
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = io::stdout().is_terminal() && !dumb;
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if live {
            print!("\x1b[?25l");
        }
        Self { live, paint: Paint { colour: live && !plain }, drawn: 0 }
    }

    /// How to colour what is said here.
    #[must_use]
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Shows lines that stay, in the place of those that were drawn.
    pub fn say(&mut self, lines: &str) -> io::Result<()> {
        self.replace(lines, "\x1b[?7h")?;
        self.drawn = 0;
        Ok(())
    }

    /// Draws lines until others come; only on a terminal.
    pub fn draw(&mut self, lines: &str) -> io::Result<()> {
        if self.live {
            // Long lines are cut: one that wraps could not be drawn over.
            self.replace(lines, "\x1b[?7l")?;
            self.drawn = lines.lines().count();
        }
        Ok(())
    }

    /// In one write, so that no half of it is seen.
    fn replace(&self, lines: &str, wrap: &str) -> io::Result<()> {
        let mut text = if self.drawn > 0 { format!("\x1b[{}F", self.drawn) } else { String::new() };
        if self.live {
            text.push_str(wrap);
        }
        for line in lines.lines() {
            // The rest of a longer line before goes too.
            text.push_str(line);
            text.push_str(if self.live { "\x1b[K\n" } else { "\n" });
        }
        if self.live {
            text.push_str("\x1b[J");
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live {
            let mut out = io::stdout();
            // Nobody is left to be told of an error.
            let _ = write!(out, "\x1b[?7h\x1b[?25h").and_then(|()| out.flush());
        }
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    fn with(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// What to read first.
    #[must_use]
    pub fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    /// What matters less.
    #[must_use]
    pub fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    /// What went well.
    #[must_use]
    pub fn good(self, text: impl Display) -> String {
        self.with("1;32", text)
    }

    /// What did not.
    #[must_use]
    pub fn bad(self, text: impl Display) -> String {
        self.with("1;31", text)
    }

    /// In the version's own colour.
    #[must_use]
    pub fn version(self, version: Version, text: impl Display) -> String {
        let code = match version {
            Version::Blue => "34",
            Version::Green => "32",
            Version::Canary => "33",
        };
        self.with(code, text)
    }

    /// A cell of a version's bar. Without colours the versions differ in their pattern.
    #[must_use]
    pub fn cell(self, version: Version) -> &'static str {
        match version {
            _ if self.colour => "█",
            Version::Blue => "█",
            Version::Green => "▒",
            Version::Canary => "░",
        }
    }
}
