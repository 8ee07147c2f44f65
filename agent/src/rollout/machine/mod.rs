//! What is so now, and what should be asked for.
//!
//! [`tick`] is a pure function. It is level-triggered, like a reconciler: from the [`State`] that was
//! persisted and all that is known ([`Observed`]) it says what the state is now, and everything that
//! should be so and is not yet ([`Effect`]). So a takeover is the next tick of somebody else, an effect
//! that was lost is asked for again, and one that was carried out is not.
//!
//! The driver looks, ticks, persists the state if it has changed, and only then carries out the
//! effects. If it cannot persist, it carries out none but those of a state that
//! [is going back](State::is_going_back).
//!
//! One file a concern:
//!
//! - [`state`], [`observed`], [`command`], [`effect`]: plain data
//! - `turn`: one tick at work, and how it moves on
//! - `heed`: what people ask for
//! - `preflight`: whether it can begin
//! - `walk`: from stage to stage, from step to step
//! - `evidence`: what verdicts lead to
//! - `watch`: agents that are away, backends and guards that fail
//! - `replace`: the stages of backends that are replaced
//! - `paused`, `back`: holding, and the way back
//! - `target`: what each agent should have; pure arithmetic over the steps
//! - `asking`: what should be asked for, so that it gets there
//! - `calls`: hooks
//! - [`deadline`]: how long each state lasts at the most, and what happens then

mod asking;
mod back;
mod calls;
pub mod command;
pub mod deadline;
pub mod effect;
mod evidence;
mod heed;
pub mod observed;
mod paused;
mod preflight;
mod replace;
pub mod state;
mod target;
mod turn;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

pub use command::{Command, Verb};
pub use deadline::{Deadline, MOST_EXTENSIONS, Then};
pub use effect::{Effect, Event, EventKind, HookCall, HookKey};
pub use observed::{
    AgentView, BackendView, HookAnswer, Judged, LeaseView, Observed, ShareView, Tripped,
};
pub use state::{
    Cause, Clock, Goal, JudgeStart, Kept, Paused, Phase, Position, Roles, Stage, State, Status,
};

use super::time::Timestamp;
pub use turn::MAX_NEWS;
use turn::Turn;

/// The most moves of one tick: more than any rollout has stages.
const MOST_MOVES: usize = 4_096;

/// The next state, and all that should be asked for in it.
///
/// The same arguments give the same answer, and so does the answer's state with the same
/// observation at the same time: nothing is done twice because somebody looked twice.
#[must_use]
pub fn tick(state: &State, observed: &Observed, now: Timestamp) -> (State, Vec<Effect>) {
    let mut turn = Turn::new(state.clone(), observed, now);
    // Abort comes first, and needs neither a store nor to lead.
    turn.hear();
    turn.heed_guards();
    if !(turn.leads() || turn.state.is_going_back()) {
        // Whoever leads goes on from what was persisted, so nothing of this tick counts.
        return (state.clone(), turn.held());
    }
    for _ in 0..MOST_MOVES {
        if !turn.moved() {
            break;
        }
    }
    let effects = turn.asking();
    (turn.state, effects)
}
