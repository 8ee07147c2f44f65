//! Fences: who leads a service's rollout, and since when.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// The most characters of a holder's name.
const MAX_HOLDER: usize = 64;

/// Whose change it is. Of two leaders the later one has the higher number; who was overtaken by
/// another has a lower one, and does not know it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Fence {
    holder: String,
    number: u64,
}

/// A fence as it is stored, not yet looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    holder: String,
    number: u64,
}

impl TryFrom<Raw> for Fence {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        Self::new(&raw.holder, raw.number)
    }
}

impl Fence {
    /// A fence of a leader whose name is 1 to 64 printable ASCII characters; numbers begin at 1.
    ///
    /// # Errors
    ///
    /// What is wrong, to come after the field's name.
    pub fn new(holder: &str, number: u64) -> Result<Self, String> {
        let printable = holder.bytes().all(|byte| byte.is_ascii_graphic());
        if holder.is_empty() || holder.len() > MAX_HOLDER || !printable {
            return Err(format!(
                "has a holder that is not 1 to {MAX_HOLDER} printable ASCII characters without spaces"
            ));
        }
        if number == 0 {
            return Err("has the number 0; fences begin at 1".to_owned());
        }
        Ok(Self { holder: holder.to_owned(), number })
    }

    /// Who leads.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for Fence {
    /// `12 of coordinator-1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.holder)
    }
}

impl Hash for Fence {
    /// A fence is no part of what is asked for: the next leader may repeat a request of the last one
    /// by its id, and is told what came of it.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_fence_has_a_holder_and_a_number() {
        let fence = Fence::new("coordinator-1", 12).unwrap();
        assert_eq!(fence.to_string(), "12 of coordinator-1");
        assert!(Fence::new("a b", 1).is_err() && Fence::new("", 1).is_err());
        assert!(Fence::new(&"a".repeat(65), 1).is_err() && Fence::new("a", 0).is_err());
        let json = serde_json::to_string(&fence).unwrap();
        assert_eq!(json, r#"{"holder":"coordinator-1","number":12}"#);
        assert_eq!(serde_json::from_str::<Fence>(&json).unwrap(), fence);
        assert!(serde_json::from_str::<Fence>(&json.replace("12", "0")).is_err());
    }
}
