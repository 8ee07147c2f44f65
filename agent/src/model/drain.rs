//! How long what a change leaves behind is waited for, and what becomes of it then.

use serde::{Deserialize, Serialize};

use super::spec::DrainSpec;
use super::time;

/// The longest time of a drain, in seconds: a day.
pub const MAX_SECONDS: u32 = 86_400;

/// What becomes of the flows that are left when a drain has lasted for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTimeout {
    /// They stay; the agent says so.
    #[default]
    Keep,
    /// They are given up, some at a time: their next packets reach hosts that answer with a RST.
    Reset,
}

impl OnTimeout {
    /// Whether it is what holds where nothing is said.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a service's drains go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Drain {
    /// A flow that is silent for longer has ended, in seconds, 1 to [`MAX_SECONDS`]. Nothing: as
    /// the agent was told.
    pub idle: Option<u32>,
    /// So many seconds after its begin a drain is over, 1 to [`MAX_SECONDS`]. Nothing: never.
    pub timeout: Option<u32>,
    /// What happens then. Without `timeout` it is [`OnTimeout::Keep`].
    pub on_timeout: OnTimeout,
}

impl From<Drain> for DrainSpec {
    fn from(drain: Drain) -> Self {
        let text = |seconds: Option<u32>| seconds.map(text);
        Self { idle: text(drain.idle), timeout: text(drain.timeout), on_timeout: drain.on_timeout }
    }
}

/// Seconds as a file says them.
#[must_use]
pub fn text(seconds: u32) -> String {
    time::text(seconds)
}

/// Reads a time of a drain, in seconds.
///
/// # Errors
///
/// What is wrong with it.
pub fn seconds(text: &str) -> Result<u32, String> {
    time::whole_seconds(text, (MAX_SECONDS, "24h"), "30s, 15m or 1h")
}

/// The drain that a spec asks for. `note` hears of each field that is wrong.
pub(super) fn parse(spec: Option<&DrainSpec>, mut note: impl FnMut(&str, String)) -> Drain {
    let Some(spec) = spec else { return Drain::default() };
    let mut read = |field: &str, text: &Option<String>| {
        let text = text.as_ref()?;
        seconds(text).map_err(|message| note(field, message)).ok()
    };
    let (idle, timeout) = (read("idle", &spec.idle), read("timeout", &spec.timeout));
    if spec.timeout.is_none() && !spec.on_timeout.is_default() {
        note(
            "on_timeout",
            "has no meaning without a timeout; leave it out, or give one".to_owned(),
        );
    }
    Drain { idle, timeout, on_timeout: spec.on_timeout }
}

/// A drain that has begun, of a version or of a backend. Times are seconds since 1970, so that they
/// survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draining {
    /// When it began.
    pub began: u64,
    /// So many seconds later it is over. Zero: the flows were given up as it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// What happens then.
    #[serde(default, skip_serializing_if = "OnTimeout::is_default")]
    pub on_timeout: OnTimeout,
}

impl Draining {
    /// One that gives all flows up at once.
    #[must_use]
    pub fn reset(now: u64) -> Self {
        Self { began: now, timeout: Some(0), on_timeout: OnTimeout::Reset }
    }

    /// When it is over.
    #[must_use]
    pub fn deadline(self) -> Option<u64> {
        self.timeout.map(|timeout| self.began.saturating_add(timeout.into()))
    }

    /// Whether its flows are given up.
    #[must_use]
    pub fn is_given_up(self, now: u64) -> bool {
        self.on_timeout == OnTimeout::Reset && self.deadline().is_some_and(|end| end <= now)
    }

    /// Whether they are so all at once.
    #[must_use]
    pub fn is_at_once(self) -> bool {
        self.timeout == Some(0)
    }
}

impl Drain {
    /// A drain that begins now.
    #[must_use]
    pub fn begin(self, now: u64) -> Draining {
        Draining { began: now, timeout: self.timeout, on_timeout: self.on_timeout }
    }
}
