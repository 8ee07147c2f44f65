//! What is wrong with a request, by field.

use std::fmt;

/// The most violations one answer lists; the rest are only counted.
pub const MAX_VIOLATIONS: usize = 32;
/// The most characters of one message: it may quote what a request holds.
const MAX_MESSAGE: usize = 300;

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `services[0].versions.canary.backends[1].address`.
    /// Empty if it is not about one field.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

/// Collects the violations of one request, at most [`MAX_VIOLATIONS`].
#[derive(Debug, Default)]
pub struct Violations {
    list: Vec<Violation>,
    more: usize,
}

impl Violations {
    /// Notes that `field` is wrong. A message that is too long is cut.
    pub fn push(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.list.len() == MAX_VIOLATIONS {
            self.more += 1;
            return;
        }
        let mut message: String = message.into();
        if let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(cut);
            message.push('…');
        }
        self.list.push(Violation { field: field.into(), message });
    }

    /// Whether nothing was found wrong so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// `Err` with everything found wrong, if anything was.
    pub fn into_result(mut self) -> Result<(), Vec<Violation>> {
        if self.more > 0 {
            let message = format!("and {} more", self.more);
            self.list.push(Violation { field: String::new(), message });
        }
        if self.list.is_empty() { Ok(()) } else { Err(self.list) }
    }
}
