//! How the weight moves.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::super::time::Seconds;
use super::{OnTimeout, Target};
use crate::model::{Version, Weight};

/// The pattern of a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Strategy {
    /// A growing share goes to the candidate.
    Canary(Canary),
    /// The candidate is tried aside, then gets everything at once.
    BlueGreen(BlueGreen),
    /// The backends of one version are replaced, some at a time.
    Rolling(Rolling),
}

impl Strategy {
    /// The name as in documents.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Canary(_) => "canary",
            Self::BlueGreen(_) => "blueGreen",
            Self::Rolling(_) => "rolling",
        }
    }
}

/// A growing share goes to the candidate. After the last step it gets everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Canary {
    /// In order.
    pub steps: Vec<CanaryStep>,
}

/// One step of a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum CanaryStep {
    /// Clients by origin go to a version, whatever the weights say.
    SetMatchRoute(Route),
    /// On how many agents the steps from here on apply. Those that join get the weight that holds;
    /// those that leave keep what they have.
    SetWave(Share),
    /// The candidate's share; the rest is the stable version's.
    SetWeight(Weight),
    /// Wait until the evidence is in.
    Analysis(Analysis),
    /// Wait for so long, or until promoted.
    Pause(Option<Seconds>),
    /// Wait for an answer.
    Gate(Gate),
}

/// Clients by origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Route {
    /// Prefixes of their addresses; at least one, none twice.
    pub sources: Vec<IpNet>,
    /// Where their new connections go: the candidate.
    pub to: Version,
}

/// A part of the whole: 1 to 100 percent, in basis points. Of a number of things it is rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub Weight);

impl Share {
    /// All of it.
    pub const ALL: Self = Self(Weight::FULL);

    /// So many of `whole`, rounded up.
    #[must_use]
    pub fn of(self, whole: usize) -> usize {
        let part = self.0.bp() as usize;
        whole.saturating_mul(part).div_ceil(10_000)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Wait until the evidence is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Analysis {
    /// It lasts so long at least.
    pub min_duration: Seconds,
    /// After so long it is over, whatever is known.
    pub max_duration: Seconds,
    /// It ends before `max_duration` once every metric has passed.
    pub advance_early: bool,
}

/// Wait for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Gate {
    /// Whose.
    pub kind: GateKind,
    /// For so long.
    pub timeout: Seconds,
    /// What happens then.
    pub on_timeout: OnTimeout,
}

/// Whose answer a gate waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum GateKind {
    /// A person's, by `promote`.
    Manual,
    /// A hook's.
    Webhook(Target),
}

/// The candidate is tried aside, then gets everything at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlueGreen {
    /// There is a preview: a listener of the service whose traffic all goes to the candidate, so that
    /// it can be tried and judged before it has weight.
    pub preview: bool,
    /// Judge the candidate by what comes through the preview and by external metrics.
    pub pre_promotion_analysis: Option<Analysis>,
    /// When it gets everything.
    pub auto_promotion: AutoPromotion,
    /// How long the old version is kept at least after it lost its weight.
    pub scale_down_delay: Seconds,
}

/// When a blue-green candidate gets everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum AutoPromotion {
    /// When a person promotes it.
    Never,
    /// So long after it was found ready and its analysis passed.
    After(Seconds),
}

/// The backends of one version are replaced, some at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rolling {
    /// So many at a time, at least one.
    pub max_unavailable: Count,
    /// A new backend must be healthy for so long before it gets connections.
    pub min_ready_seconds: Seconds,
    /// So many backends, the first by address, stay as they are.
    pub partition: u32,
    /// Judge each new backend against the rest before the next is taken.
    pub analysis: Option<Analysis>,
}

/// A number of things, or a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Count {
    /// So many.
    Number(u32),
    /// So large a part, rounded up.
    Share(Share),
}

impl Count {
    /// So many of `whole`: at least one, at most all.
    #[must_use]
    pub fn of(self, whole: usize) -> usize {
        let count = match self {
            Self::Number(number) => number as usize,
            Self::Share(share) => share.of(whole),
        };
        count.min(whole).max(1)
    }
}
