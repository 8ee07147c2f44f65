//! The text of an event log, and back. Pure.
//!
//! A line an event: the first 16 digits of its SHA-256, a space, and the event as JSON. A line that
//! was torn by a crash has a wrong sum and is passed over; the next one begins on a line of its own.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::super::{Event, Numbered};

/// The events in a log, in its order. What is no whole line is passed over.
pub(super) fn read(text: &[u8]) -> Vec<Numbered<Event>> {
    text.split(|byte| *byte == b'\n').filter_map(event).collect()
}

fn event(line: &[u8]) -> Option<Numbered<Event>> {
    let json = line.get(17..)?;
    if line[..16] != *sum(json).as_bytes() || line[16] != b' ' {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// What is to be appended to `text`, so that it holds these events; nothing if it does.
pub(super) fn missing(
    text: &[u8],
    events: &[Numbered<Event>],
) -> Result<String, serde_json::Error> {
    let there = read(text);
    let mut more = String::new();
    for event in events.iter().filter(|event| there.iter().all(|t| t.number != event.number)) {
        if more.is_empty() && text.last().is_some_and(|last| *last != b'\n') {
            more.push('\n');
        }
        let json = serde_json::to_string(event)?;
        let _ = writeln!(more, "{} {json}", sum(json.as_bytes()));
    }
    Ok(more)
}

fn sum(json: &[u8]) -> String {
    let sum = Sha256::digest(json);
    sum.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<Numbered<Event>> {
        let [who, verb, before, after] = ["ann", "pause", "a", "b"].map(str::to_owned);
        let event = Event { at_ms: 1, who, verb, reason: "two\nlines".to_owned(), before, after };
        numbers.map(|number| Numbered { number, item: event.clone() }).collect()
    }

    #[test]
    fn what_is_appended_is_read() {
        let mut text = missing(b"", &events(1..=2)).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(missing(text.as_bytes(), &events(1..=2)).unwrap(), "");
        text += &missing(text.as_bytes(), &events(2..=4)).unwrap();
        assert_eq!(read(text.as_bytes()), events(1..=4));
    }

    #[test]
    fn a_line_torn_anywhere_is_passed_over_and_made_up_for() {
        let whole = missing(b"", &events(1..=3)).unwrap();
        let second = whole.find('\n').unwrap() + 1;
        for length in 0..whole.len() {
            let mut text = whole[..length].to_owned();
            let lines = text.matches('\n').count();
            // A last line that lacks nothing but its end is whole.
            assert!(read(text.as_bytes()).len() - lines <= 1, "{length}");
            text += &missing(text.as_bytes(), &events(1..=3)).unwrap();
            assert_eq!(read(text.as_bytes()), events(1..=3), "{length}");
        }
        // Damage in the middle costs that line alone.
        let damaged = whole.replacen("ann", "bob", 1);
        assert_eq!(read(damaged.as_bytes()), events(2..=3));
        assert!(second > 17);
    }
}
