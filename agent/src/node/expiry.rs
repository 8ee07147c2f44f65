//! What the owner does with leases: it renews them, and ends those that have run out.

use std::time::Duration;

use super::clock;
use super::error::Error;
use super::events::{Event, Kind};
use super::messages::{LeaseStatus, RenewLease};
use super::owner::Owner;
use super::words;
use crate::dataplane::DataPlane;
use crate::model::ServiceName;
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Renews a lease.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn renew(&mut self, renew: &RenewLease) -> Result<LeaseStatus, Error> {
        let now = clock::unix_milliseconds();
        let (names, fence) = ([&renew.service], renew.fence.as_ref());
        self.state.admit(&names, fence)?;
        let mut next = self.state.renew(renew, now)?;
        next.raise(&names, fence);
        let before = std::mem::replace(&mut self.state, next);
        if let Err(error) = self.save() {
            self.state = before;
            let said = format!("{error}; the lease was not renewed");
            self.events.push(Event::new(Kind::StoreFailed, said.clone()).of(&renew.service));
            return Err(Error::Store(said));
        }
        let lease = self.state.get(&renew.service)?.lease.map(|lease| lease.status(now));
        let lease = lease.ok_or_else(|| Error::NoLease(renew.service.clone()))?;
        let past = self.state.past_fence(&renew.service, fence);
        let text = format!("the lease is renewed: {lease}{past}");
        self.events.push(Event::new(Kind::LeaseRenewed, text).of(&renew.service));
        Ok(lease)
    }

    /// Ends the leases that have run out at a time in milliseconds since 1970. Those that go back do
    /// so at one instant; if that fails, one by one, so that none hinders another.
    ///
    /// # Errors
    ///
    /// Some lease could not be ended: it stays, and the next call tries again.
    pub fn expire(&mut self, now: u64) -> Result<(), Error> {
        let ended = self.state.run_out(now);
        match self.end_leases(&ended) {
            Err(_) if ended.len() > 1 => {
                // One that fails must not keep the others from being tried.
                let each: Vec<_> =
                    ended.iter().map(|one| self.end_leases(std::slice::from_ref(one))).collect();
                each.into_iter().collect()
            }
            done => done,
        }
    }

    fn end_leases(&mut self, names: &[ServiceName]) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let (next, back) = self.state.end_leases(names, clock::seconds());
        let before = self.state.clone();
        let observed = back.iter().map(|name| (name.clone(), self.observed(name))).collect();
        if back.is_empty() {
            self.state = next.state.clone();
        } else {
            self.commit(next.state.clone())?;
            self.clean_up(&before);
            self.mark(&before, &back);
        }
        let commit = self.commit_answer(Duration::ZERO, false);
        let answer = self.changed(commit, names, &next, &before, &observed);
        for change in &answer.changes {
            let name = &change.service;
            let Some(lease) = before.services.get(name).and_then(|entry| entry.lease) else {
                continue;
            };
            let length = lease.status(0).length;
            let what = if back.contains(name) {
                format!("went back: {}", words::of_change(change))
            } else {
                format!("stay: {}", self.state.get(name)?.service.weights())
            };
            let text = format!("the lease of {length} was not renewed; the weights {what}");
            self.events.push(Event::new(Kind::LeaseExpired, text).of(name));
        }
        // Nobody has asked, so nobody can be refused. What is not stored is done again by the next
        // agent: the stored lease has run out.
        if let Err(error) = self.save() {
            let text = format!("{error}; leases that ran out have ended all the same");
            self.events.push(Event::new(Kind::StoreFailed, text));
        }
        Ok(())
    }
}
