//! Reading a tree without stopping at the first problem: what is wrong is noted, and something
//! harmless stands in for it.

use std::cell::RefCell;
use std::str::FromStr;

use super::super::time::Seconds;
use super::Problem;
use super::tree::{Node, Place, Value};
use crate::model::{Weight, weight::percent};

/// The most problems that are listed.
const MAX_PROBLEMS: usize = 64;

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn push(&self, place: Place, field: &str, message: impl Into<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < MAX_PROBLEMS {
            let Place { line, column } = place;
            list.push(Problem { line, column, field: field.to_owned(), message: message.into() });
        }
    }

    /// Whether something is wrong below a key of the document.
    pub(super) fn concern(&self, section: &str) -> bool {
        let starts = |problem: &Problem| problem.field.split(['.', '[']).next() == Some(section);
        self.0.borrow().iter().any(starts)
    }

    /// All of them, in the order of the document.
    pub(super) fn into_list(self) -> Vec<Problem> {
        let mut list = self.0.into_inner();
        list.sort_by_key(|problem| (problem.line, problem.column));
        list
    }
}

/// A value that is being read.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub node: &'a Node,
    pub path: String,
    pub problems: &'a Problems,
}

impl<'a> Field<'a> {
    /// Notes that it is wrong.
    pub(super) fn wrong(&self, message: impl Into<String>) {
        self.problems.push(self.node.place, &self.path, message);
    }

    fn not(&self, wanted: &str) {
        self.wrong(format!("is {}; write {wanted}", self.node.value.kind()));
    }

    /// Text as it is written; numbers too, where they cannot be mistaken.
    pub(super) fn text(&self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Real(_) | Value::Bool(_) => {
                self.wrong("is read as a number or a truth value; put it in quotes");
                None
            }
            _ => {
                self.not("text");
                None
            }
        }
    }

    /// Text that something else can be read from.
    pub(super) fn read<T>(&self) -> Option<T>
    where
        T: FromStr,
        T::Err: ToString,
    {
        let text = self.text()?;
        text.parse().map_err(|error: T::Err| self.wrong(error.to_string())).ok()
    }

    pub(super) fn time(&self) -> Option<Seconds> {
        self.read()
    }

    pub(super) fn weight(&self) -> Option<Weight> {
        self.read()
    }

    /// A number without a unit is a percentage here: the key says so.
    pub(super) fn percent(&self) -> Option<Weight> {
        let Value::Number(number) = self.node.value else { return self.weight() };
        let weight = u32::try_from(number).ok().and_then(|n| Weight::from_bp(n.checked_mul(100)?));
        if weight.is_none() {
            self.wrong(format!("{number}% is more than {}", percent(crate::model::weight::FULL)));
        }
        weight
    }

    pub(super) fn bool(&self) -> Option<bool> {
        let Value::Bool(value) = self.node.value else {
            self.not("true or false");
            return None;
        };
        Some(value)
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(&self, least: u32, most: u32) -> Option<u32> {
        let Value::Number(number) = self.node.value else {
            self.not("a whole number");
            return None;
        };
        let number = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(format!("is not within {least} and {most}"));
        }
        number
    }

    /// A number, or a percentage as its fraction.
    pub(super) fn real(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "no threshold needs more than 53 bits")]
        match &self.node.value {
            Value::Number(number) => Some(*number as f64),
            Value::Real(real) if real.is_finite() => Some(*real),
            Value::Text(text) => {
                let real = real(text);
                if real.is_none() {
                    self.wrong(format!("{text:?} is not a number; write 0.01 or 1%"));
                }
                real
            }
            _ => {
                self.not("a number such as 0.01 or 1%");
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.wrong(format!("{text:?} is not one of {}", list.join(", ")));
        }
        found.map(|(_, value)| value.clone())
    }

    /// The items of a list of at most `most`.
    pub(super) fn list(&self, most: usize) -> Vec<Self> {
        let Value::List(items) = &self.node.value else {
            self.not("a list");
            return Vec::new();
        };
        if items.len() > most {
            self.wrong(format!("holds {}; at most {most} are allowed", items.len()));
            return Vec::new();
        }
        let item = |(index, node)| Self {
            node,
            path: format!("{}[{index}]", self.path),
            problems: self.problems,
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The keys of a map. `{}` and nothing at all are maps without keys.
    pub(super) fn map(&self) -> Option<Map<'a>> {
        let entries: &'a [(String, Place, Node)] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Nothing => &[],
            _ => {
                self.not("a map");
                return None;
            }
        };
        Some(Map { field: self.clone(), entries, known: Vec::new() })
    }
}

/// A number, or a percentage as its fraction.
pub(super) fn real(text: &str) -> Option<f64> {
    let text = text.trim();
    let real: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    real.is_finite().then_some(real)
}

/// A map that is being read. Keys that nobody asked for are noted when it is dropped.
pub(super) struct Map<'a> {
    pub field: Field<'a>,
    entries: &'a [(String, Place, Node)],
    known: Vec<&'static str>,
}

impl<'a> Map<'a> {
    /// What is written for a key. Nothing written is the same as no key, but for keys whose presence
    /// means something: see [`Map::present`].
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.present(key).filter(|field| !matches!(field.node.value, Value::Nothing))
    }

    /// The same, also if nothing is written after the key.
    pub(super) fn present(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        let (_, _, node) = self.entries.iter().find(|entry| entry.0 == key)?;
        Some(Field { node, path: self.path(key), problems: self.field.problems })
    }

    /// The same for a key that must be there.
    pub(super) fn need(&mut self, key: &'static str) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() {
            let place = self.field.node.place;
            self.field.problems.push(place, &self.path(key), "is missing");
        }
        found
    }

    /// What `read` makes of a key; `default` without it, or if it is wrong.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Field<'a>) -> Option<T>,
    ) -> T {
        self.get(key).and_then(|field| read(&field)).unwrap_or(default)
    }

    fn path(&self, key: &str) -> String {
        if self.field.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.field.path)
        }
    }
}

impl Drop for Map<'_> {
    fn drop(&mut self) {
        for (key, place, _) in self.entries {
            if !self.known.contains(&key.as_str()) {
                let message = format!("is no key here; there are {}", self.known.join(", "));
                self.field.problems.push(*place, &self.path(key), message);
            }
        }
    }
}
