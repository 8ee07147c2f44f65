//! Aligned columns of coloured text, for what is no table: the branches of a tree.

/// How a word is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// As it is.
    Plain,
    /// Matters less.
    Dim,
    /// Is well.
    Good,
    /// Is to be looked at.
    Warn,
    /// Is bad.
    Bad,
    /// Stands out.
    Bold,
}

/// A word with its paint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    text: String,
    paint: Paint,
}

/// A word.
pub(super) fn word(paint: Paint, text: impl Into<String>) -> Word {
    Word { text: text.into(), paint }
}

impl Word {
    /// With codes for a terminal, or without.
    pub(super) fn paint(&self, colour: bool) -> String {
        let code = match self.paint {
            _ if !colour || self.text.is_empty() => "",
            Paint::Plain => "",
            Paint::Dim => "2",
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Bold => "1",
        };
        if code.is_empty() {
            self.text.clone()
        } else {
            format!("\x1b[{code}m{}\x1b[0m", self.text)
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Lines of which the words stand below each other, two spaces apart; the last of each as it is.
/// Words with digits alone, but for what stands between them, are set to the right.
pub(super) fn align(rows: &[Vec<Word>], colour: bool) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    // The last word of a line may be a sentence: nothing stands behind it, so it takes no room.
    let takes_room = |row: &&Vec<Word>, column: usize| {
        row.len() > column + 1 || row.get(column).is_some_and(|word| is_number(&word.text))
    };
    let width = |column: usize| {
        let words = rows.iter().filter(|row| takes_room(row, column)).map(|row| &row[column]);
        words.map(Word::width).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<Word>| {
        let mut line = String::new();
        for (word, width) in row.iter().zip(&widths) {
            let space = " ".repeat(width.saturating_sub(word.width()));
            let painted = word.paint(colour);
            if is_number(&word.text) {
                line.push_str(&space);
                line.push_str(&painted);
            } else {
                line.push_str(&painted);
                line.push_str(&space);
            }
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Whether a word is set to the right: it begins and ends as a number does.
fn is_number(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_digit())
        && !text.contains(|letter: char| letter.is_alphabetic())
        || text.ends_with("/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_below_each_other() {
        let plain = |texts: &[&str]| texts.iter().map(|text| word(Paint::Plain, *text)).collect();
        let rows = [plain(&["lb1", "5.00%", "agrees"]), plain(&["lb-10", "25.00%"])];
        assert_eq!(align(&rows, false), ["lb1     5.00%  agrees", "lb-10  25.00%"]);
    }

    #[test]
    fn colour_changes_no_place() {
        let rows = [vec![word(Paint::Good, "a"), word(Paint::Plain, "b")]];
        assert_eq!(align(&rows, true), ["\x1b[32ma\x1b[0m  b"]);
    }
}
