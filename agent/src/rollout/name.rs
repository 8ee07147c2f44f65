//! The names of agents.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most characters of a name. The longest id of a request, `SERVICE/TRANSITION/AGENT`, has room
/// for no more where the service's name is long too; the driver shortens such by a digest.
pub const MAX_NAME: usize = 63;

/// What an agent is called in specs, states and answers: 1 to 63 of `a-z A-Z 0-9 . _ -`, with a letter
/// or a digit at the ends. Where it listens is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AgentName(String);

impl AgentName {
    /// The name, or what is wrong with it.
    ///
    /// # Errors
    ///
    /// A sentence for people.
    pub fn new(name: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = name.as_bytes();
        if bytes.len() > MAX_NAME {
            Err(format!("has {} characters; at most {MAX_NAME} are allowed", name.chars().count()))
        } else if !bytes.iter().copied().all(inner) || !end(bytes.first()) || !end(bytes.last()) {
            Err(format!(
                "{name:?} is not the name of an agent; write letters, digits, and . _ - between them"
            ))
        } else {
            Ok(Self(name.to_owned()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for AgentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for AgentName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "edge-1", "Node_3.example", "10.0.0.1"] {
            assert_eq!(AgentName::new(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a.", "a b", "ä", &"x".repeat(64)] {
            assert!(AgentName::new(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<AgentName>("\"a b\"").is_err());
    }
}
