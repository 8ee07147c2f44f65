//! How much is counted of handshakes and of how connections end.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is counted beside traffic, of TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signals {
    /// Nothing; and each SYN is a connection, whether it comes again or not.
    Off,
    /// How connections begin and end.
    Basic,
    /// Also how long handshakes took, and who fails. In the direct modes, also how handshakes end:
    /// that costs each packet of a client a look-up.
    #[default]
    Full,
}

impl Signals {
    /// Whether it is what holds where nothing is said.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Basic => "basic",
            Self::Full => "full",
        })
    }
}
