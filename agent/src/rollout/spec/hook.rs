//! What is called on the way.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::time::Seconds;

/// Somebody else's program that is asked at a stage. It answers `SUCCEEDED`, `FAILED` or
/// `IN_PROGRESS`; while it is in progress it is asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hook {
    /// When it is called.
    pub stage: Stage,
    /// What is called.
    pub target: Target,
    /// How long it may be in progress; then it has failed.
    pub timeout: Seconds,
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Target {
    /// An HTTP address, by POST.
    Url(String),
    /// A program with its arguments; no shell.
    Command(Vec<String>),
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Before anything is changed.
    PreRollout,
    /// Before each rise of weights.
    PreWeight,
    /// After each rise was verified.
    PostWeight,
    /// Before the candidate gets everything.
    PrePromotion,
    /// After it got everything, verified.
    PostPromotion,
    /// With `rolling`: replace a backend; with `revert`, bring back what was there.
    Replace,
    /// After a rollback was verified.
    PostRollback,
    /// When the old version has drained and may be freed.
    PostDrain,
    /// At each event. Its answer changes nothing.
    Event,
}

impl Stage {
    /// All of them, in the order of a rollout.
    pub const ALL: [Self; 9] = [
        Self::PreRollout,
        Self::PreWeight,
        Self::PostWeight,
        Self::PrePromotion,
        Self::PostPromotion,
        Self::Replace,
        Self::PostRollback,
        Self::PostDrain,
        Self::Event,
    ];

    /// The name as in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreRollout => "preRollout",
            Self::PreWeight => "preWeight",
            Self::PostWeight => "postWeight",
            Self::PrePromotion => "prePromotion",
            Self::PostPromotion => "postPromotion",
            Self::Replace => "replace",
            Self::PostRollback => "postRollback",
            Self::PostDrain => "postDrain",
            Self::Event => "event",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
