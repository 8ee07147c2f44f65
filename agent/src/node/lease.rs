//! Leases on weights: who shifts with one must renew it before it runs out, or the weights are held
//! or taken back. Pure: the time is an argument, in milliseconds since 1970, for a lease outlives
//! the agent and the host's boot.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::error::Error;
use super::messages::{LeaseStatus, RenewLease};
use super::next::Next;
use super::state::State;
use crate::model::{LeaseTerms, OnExpiry, ServiceName, Weights};
use crate::store::StoredLease;

/// A lease that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// When it runs out.
    deadline: u64,
    terms: LeaseTerms,
    /// The weights before it, or before the first of leases that followed each other.
    revert_to: Weights,
}

impl Lease {
    /// A lease on new weights, where there were the weights `before` and perhaps a lease on these.
    pub(super) fn begin(terms: LeaseTerms, now: u64, before: Weights, on: Option<&Self>) -> Self {
        let revert_to = on.map_or(before, |lease| lease.revert_to);
        Self { deadline: deadline(terms, now), terms, revert_to }
    }

    /// The same lease from now on, for as long as before or for another time.
    fn renewed(self, renew: &RenewLease, now: u64) -> Self {
        let length = renew.length.unwrap_or(self.terms.length);
        let terms = LeaseTerms { length, ..self.terms };
        Self { deadline: deadline(terms, now), terms, ..self }
    }

    fn has_run_out(&self, now: u64) -> bool {
        self.deadline <= now
    }

    /// What can be seen of it.
    pub(super) fn status(&self, now: u64) -> LeaseStatus {
        LeaseStatus {
            left: Duration::from_millis(self.deadline.saturating_sub(now)),
            deadline: UNIX_EPOCH + Duration::from_millis(self.deadline),
            length: self.terms.length,
            on_expiry: self.terms.on_expiry,
            revert_to: self.revert_to,
        }
    }

    pub(super) fn stored(self) -> StoredLease {
        let Self { deadline: deadline_ms, terms, revert_to } = self;
        let LeaseTerms { length: length_s, on_expiry } = terms;
        StoredLease { deadline_ms, length_s, on_expiry, revert_to }
    }

    pub(super) fn from_stored(stored: &StoredLease) -> Self {
        let StoredLease { deadline_ms, length_s, on_expiry, revert_to } = *stored;
        let terms = LeaseTerms { length: length_s, on_expiry };
        Self { deadline: deadline_ms.min(MAX_DEADLINE), terms, revert_to }
    }
}

/// The last moment that all clocks of the agent can name: in the year 9999.
const MAX_DEADLINE: u64 = 253_402_300_799_000;

fn deadline(terms: LeaseTerms, now: u64) -> u64 {
    let length = u64::from(terms.length.seconds()) * 1_000;
    now.saturating_add(length).min(MAX_DEADLINE)
}

impl Next {
    /// Gives the services of a shift leases on their new weights.
    pub(super) fn lease(
        &mut self,
        before: &State,
        names: &[ServiceName],
        terms: LeaseTerms,
        now: u64,
    ) {
        for name in names {
            if let Some(old) = before.services.get(name) {
                let weights = *old.service.weights();
                let lease = Lease::begin(terms, now, weights, old.lease.as_ref());
                self.state.set_lease(name, Some(lease));
            }
        }
    }
}

impl State {
    /// Gives a service a lease, or ends the one it has.
    pub(super) fn set_lease(&mut self, name: &ServiceName, lease: Option<Lease>) {
        if let Some(entry) = self.services.get_mut(name) {
            Arc::make_mut(entry).lease = lease;
        }
    }

    /// The state with a lease renewed.
    pub(super) fn renew(&self, renew: &RenewLease, now: u64) -> Result<Self, Error> {
        let entry = self.at(&renew.service, renew.expected_generation)?;
        let lease = entry.lease.ok_or_else(|| Error::NoLease(renew.service.clone()))?;
        let mut next = self.clone();
        next.set_lease(&renew.service, Some(lease.renewed(renew, now)));
        Ok(next)
    }

    /// No lease is longer than it says: what an agent finds may be of a time in which the host's clock was
    /// ahead.
    pub(super) fn bound_leases(&mut self, now: u64) {
        for entry in self.services.values_mut() {
            let Some(lease) = entry.lease else { continue };
            let latest = deadline(lease.terms, now);
            if lease.deadline > latest {
                Arc::make_mut(entry).lease = Some(Lease { deadline: latest, ..lease });
            }
        }
    }

    /// Services whose lease has run out.
    pub(super) fn run_out(&self, now: u64) -> Vec<ServiceName> {
        let ended = |lease: &Lease| lease.has_run_out(now);
        let entries =
            self.services.iter().filter(|(_, entry)| entry.lease.as_ref().is_some_and(ended));
        entries.map(|(name, _)| name.clone()).collect()
    }

    /// What follows when the leases of these services have run out, and which of them go back:
    /// those do so whatever is ready.
    pub(super) fn end_leases(&self, names: &[ServiceName], now: u32) -> (Next, Vec<ServiceName>) {
        let mut next = Next::new(self.clone(), now);
        let mut back = Vec::new();
        for name in names {
            let Some(entry) = self.services.get(name) else { continue };
            let Some(lease) = entry.lease else { continue };
            if lease.terms.on_expiry == OnExpiry::Revert {
                next.reweigh(entry, entry.service.clone().with_weights(lease.revert_to));
                back.push(name.clone());
            }
            next.state.set_lease(name, None);
        }
        (next, back)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::model::Version;

    fn terms(length: &str, on_expiry: OnExpiry) -> LeaseTerms {
        LeaseTerms { length: length.parse().unwrap(), on_expiry }
    }

    fn renew(length: Option<&str>) -> RenewLease {
        RenewLease {
            service: ServiceName::new("shop").unwrap(),
            expected_generation: None,
            length: length.map(|length| length.parse().unwrap()),
            fence: None,
        }
    }

    #[test]
    fn a_lease_runs_out_at_its_deadline_and_not_before() {
        let blue = Weights::all_to(Version::Blue);
        let lease = Lease::begin(terms("60s", OnExpiry::Revert), 5_000, blue, None);
        assert!(!lease.has_run_out(64_999));
        assert!(lease.has_run_out(65_000));
        assert_eq!(lease.status(5_500).left, Duration::from_millis(59_500));
        assert_eq!(lease.status(70_000).left, Duration::ZERO);
        assert_eq!(lease.status(0).deadline, UNIX_EPOCH + Duration::from_secs(65));
    }

    #[test]
    fn renewing_counts_from_now_and_keeps_what_is_not_said() {
        let blue = Weights::all_to(Version::Blue);
        let lease = Lease::begin(terms("60s", OnExpiry::Revert), 0, blue, None);
        let same = lease.renewed(&renew(None), 50_000);
        assert!(!same.has_run_out(109_999) && same.has_run_out(110_000));
        let longer = same.renewed(&renew(Some("5m")), 100_000);
        assert_eq!(longer.deadline, 400_000);
        assert_eq!((longer.terms.on_expiry, longer.revert_to), (OnExpiry::Revert, blue));
        // It may also become shorter, and stays so.
        assert_eq!(longer.renewed(&renew(Some("1s")), 100_000).deadline, 101_000);
        assert_eq!(longer.renewed(&renew(None), 200_000).deadline, 500_000);
    }

    #[test]
    fn leases_that_follow_each_other_go_back_to_what_was_before_the_first() {
        let [blue, green] = [Version::Blue, Version::Green].map(Weights::all_to);
        let first = Lease::begin(terms("60s", OnExpiry::Revert), 0, blue, None);
        let second = Lease::begin(terms("10s", OnExpiry::Revert), 20_000, green, Some(&first));
        assert_eq!((second.revert_to, second.deadline), (blue, 30_000));
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let blue = Weights::all_to(Version::Blue);
        let lease = Lease::begin(terms("60s", OnExpiry::Hold), 1, blue, None);
        let json = serde_json::to_string(&lease.stored()).unwrap();
        assert_eq!(Lease::from_stored(&serde_json::from_str(&json).unwrap()), lease);
        let broken = json.replace("10000", "9999");
        assert!(serde_json::from_str::<StoredLease>(&broken).is_err(), "weights must add up");
    }

    #[test]
    fn no_clock_makes_a_deadline_that_cannot_be_said() {
        let blue = Weights::all_to(Version::Blue);
        let lease = Lease::begin(terms("24h", OnExpiry::Hold), u64::MAX - 1, blue, None);
        assert_eq!(lease.deadline, MAX_DEADLINE);
        let text = humantime::format_rfc3339(lease.status(0).deadline).to_string();
        assert_eq!(text, "9999-12-31T23:59:59Z");
    }
}
