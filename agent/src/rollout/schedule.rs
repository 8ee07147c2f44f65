//! A strategy as a flat list of steps: what `plan` prints and the machine walks.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::spec::{Analysis, Gate, Route, Share};
use super::time::Seconds;
use crate::model::{Weight, Weights};

/// One step. Steps that wait have their time with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Clients by origin go to the candidate.
    Route(Route),
    /// On how many agents the steps from here on apply.
    Wave(Share),
    /// The candidate's share.
    Weight(Weight),
    /// Wait for evidence.
    Analysis(Analysis),
    /// Wait for so long, or until promoted.
    Pause(Option<Seconds>),
    /// Wait for an answer.
    Gate(Gate),
    /// Replace backends: out, another in its place, in again. `revert`: what was there before.
    Replace {
        /// Which, together.
        backends: Vec<SocketAddr>,
        /// The way back.
        revert: bool,
    },
    /// The candidate gets everything on every agent.
    Promote,
    /// The candidate is watched with everything on it.
    Bake(Seconds),
    /// The old version's connections end; at least so long.
    Drain(Seconds),
    /// Every agent gets these weights at once: the way back of canary and blue-green.
    Restore(Weights),
}
