//! A YAML document as a tree in which everything knows its place, so that each problem can be named
//! with its line and column, and not only the first.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use super::Problem;

/// The most bytes of a document.
pub(super) const MAX_DOCUMENT: usize = 1 << 20;

/// Where something is written; both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

/// A value and where it is written.
#[derive(Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What is written there.
#[derive(Debug)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Number(u64),
    /// Negative, or with a fraction.
    Real(f64),
    Text(String),
    List(Vec<Node>),
    /// Keys in their order, each with its place.
    Map(Vec<(String, Place, Node)>),
}

impl Value {
    /// What kind of thing it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Bool(_) => "true or false",
            Self::Number(_) | Self::Real(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// The tree of a document.
    pub(super) fn parse(yaml: &str) -> Result<Self, Problem> {
        if yaml.len() > MAX_DOCUMENT {
            let message = format!("the document is larger than {} KiB", MAX_DOCUMENT >> 10);
            return Err(Problem { line: 1, column: 1, field: String::new(), message });
        }
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let place = error.location();
            Problem {
                line: place.map_or(1, |place| place.line()),
                column: place.map_or(1, |place| place.column()),
                field: String::new(),
                message: UserMessageFormatter.format_message(&error).into_owned(),
            }
        })
    }

    /// The place of what `path` names, as in `strategy.canary.steps[2].setWeight`; of the nearest
    /// thing around it, if it is not written.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        for part in path.split(['.', '[']).map(|part| part.trim_end_matches(']')) {
            let next = match &node.value {
                Value::Map(entries) => entries.iter().find(|entry| entry.0 == part).map(|e| &e.2),
                Value::List(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.place
    }
}

impl<T> From<&Spanned<T>> for Place {
    fn from(spanned: &Spanned<T>) -> Self {
        Self { line: spanned.referenced.line(), column: spanned.referenced.column() }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: Place::from(&spanned), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    #[allow(clippy::cast_precision_loss, reason = "no negative number is right anywhere")]
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Real(value as f64), Value::Number))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Real(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let place = Place::from(&key);
            map.push((key.value, place, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}
