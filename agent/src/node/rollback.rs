//! Rollback: back to the weights that a service had when its tables last settled.
//!
//! A slot's `base` is where the last settled weights have put it. So a rollback makes `cur` equal to
//! `base` in every slot of the version table: nothing must be remembered of new flows, and none of
//! them reaches the version that is left, however full the flow table is.

use super::clock;
use super::draining;
use super::error::Error;
use super::messages::{Changed, InFlight, RollBack};
use super::next::Next;
use super::owner::Owner;
use super::repeats::Asked;
use super::state::State;
use crate::dataplane::DataPlane;
use crate::store::Store;

impl State {
    /// The state with the last settled weights of a service.
    fn roll_back(&self, roll_back: &RollBack, now: u32) -> Result<Next, Error> {
        let entry = self.at(&roll_back.service, roll_back.expected_generation)?;
        if entry.settled == *entry.service.weights() {
            let (service, weights) = (roll_back.service.clone(), entry.settled);
            return Err(Error::NothingToRollBack { service, weights });
        }
        let mut next = Next::new(self.clone(), now);
        next.shift(entry, entry.settled, roll_back.options.force)?;
        Ok(next)
    }
}

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Restores the last settled weights of a service.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn roll_back(&mut self, roll_back: &RollBack) -> Result<Changed, Error> {
        let asked = Asked::RollBack(roll_back);
        if let Some(answer) = self.repeated(&roll_back.options, asked)? {
            return Ok(answer);
        }
        let mut next = self.state.roll_back(roll_back, clock::seconds())?;
        let (about, how) = ((&roll_back.service, [].as_slice()), roll_back.in_flight);
        draining::in_flight(&self.state, &mut next, about, how, clock::wall());
        let names = std::slice::from_ref(&roll_back.service);
        let answer = self.change(&next, names, &roll_back.options, asked)?;
        if how == InFlight::Reset && !roll_back.options.dry_run {
            self.forget_given_up();
        }
        Ok(answer)
    }
}
