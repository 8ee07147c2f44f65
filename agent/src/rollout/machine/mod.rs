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

pub mod command;
pub mod effect;
pub mod observed;
pub mod state;

pub use command::{Command, Verb};
pub use effect::{Effect, Event, EventKind, HookCall, HookKey};
pub use observed::{
    AgentView, BackendView, HookAnswer, Judged, LeaseView, Observed, ShareView, Tripped,
};
pub use state::{
    Cause, Clock, Goal, JudgeStart, Kept, Paused, Phase, Position, Roles, Stage, State, Status,
};

use super::time::Timestamp;

/// The next state, and all that should be asked for in it.
///
/// The same arguments give the same answer, and so does the answer's state with the same
/// observation at the same time: nothing is done twice because somebody looked twice.
#[must_use]
pub fn tick(state: &State, _observed: &Observed, _now: Timestamp) -> (State, Vec<Effect>) {
    (state.clone(), Vec::new())
}
