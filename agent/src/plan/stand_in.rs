//! What stands in for backends that are not ready. The layout that a spec asks for stays as it is;
//! over it lies what this node knows of its backends, so that as little as possible moves, and all
//! of it moves back:
//!
//! - the slots of a backend that is not ready, and no others, go to backends of its version that
//!   are, in proportion to their weights;
//! - a version without a ready backend gives its weight to those that have one, in proportion to
//!   theirs, and clients steered to it go by the table;
//! - where no version that has weight is left to take it, nothing moves: a check that fails is no
//!   proof of death, and nowhere would be better.

use weir_ebpf::abi::{NO_BACKEND, VERSIONS};

use super::backend_table::{self, Candidate, Layout};
use super::goal::Goal;
use super::identity::Identity;
use super::version_table::{self, WHOLE};

/// A backend of a spec, and what is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// What the spec says.
    pub candidate: Candidate,
    /// It takes new flows.
    pub ready: bool,
    /// It is given up: its old flows are void.
    pub given_up: bool,
}

/// What the layout of a goal is for.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Keys the backend tables.
    pub seed: [u8; 16],
    /// Basis points by version.
    pub weights: [u16; VERSIONS],
    /// The backends of each version.
    pub members: [&'a [Member]; VERSIONS],
    /// Whether a version without a ready backend keeps its weight.
    pub holds: bool,
}

impl Standing<'_> {
    /// The goal, with others in place of backends that are not ready.
    #[must_use]
    pub fn lay_over(&self, goal: &Goal) -> Goal {
        let mut laid = goal.clone();
        for (layout, members) in laid.layouts_mut().iter_mut().zip(self.members) {
            self.replace(layout, members);
        }
        let served = self.members.map(is_served);
        if served == [true; VERSIONS] || !self.fails_over() {
            return laid;
        }
        laid.rules = goal.rules.without(served.map(|served| !served));
        let weights = fail_over(self.weights, served);
        if weights != self.weights {
            laid.versions = version_table::lay_out(weights);
        }
        for (layout, members) in laid.layouts_mut().iter_mut().zip(self.members) {
            let gone = |member: &Member| member.given_up || member.candidate.weight == 0;
            if !members.is_empty() && members.iter().all(gone) {
                layout.slots.fill(NO_BACKEND);
            }
        }
        laid
    }

    /// Whether something stands in for the backends of a version that are not ready.
    #[must_use]
    pub fn replaces(&self, version: usize) -> bool {
        is_served(self.members[version]) || self.fails_over()
    }

    /// Whether a version without a ready backend gives its weight to another.
    fn fails_over(&self) -> bool {
        let takes = |version: usize| self.weights[version] > 0 && is_served(self.members[version]);
        !self.holds && (0..VERSIONS).any(takes)
    }

    /// Puts ready backends into the slots of those that are not, if there is any.
    fn replace(&self, layout: &mut Layout, members: &[Member]) {
        let weighs = |member: &&Member| member.candidate.weight > 0;
        if !is_served(members) || members.iter().filter(weighs).all(|member| member.ready) {
            return;
        }
        let ready: Vec<Candidate> =
            members.iter().filter(|member| member.ready).map(|member| member.candidate).collect();
        let others = backend_table::lay_out(self.seed, &ready);
        let is_ready = |one: &Identity| others.backends.binary_search(one).is_ok();
        let stays: Vec<bool> = layout.backends.iter().map(is_ready).collect();
        // By the ordinals of this layout, which knows all of the others' backends.
        let ordinal = |one: &Identity| {
            let found = layout.backends.binary_search(one).ok();
            found.and_then(|at| u16::try_from(at).ok()).unwrap_or(NO_BACKEND)
        };
        let ordinals: Vec<u16> = others.backends.iter().map(ordinal).collect();
        for (i, slot) in layout.slots.iter_mut().enumerate() {
            if !stays.get(usize::from(*slot)).copied().unwrap_or(false) {
                // Fewer backends never make a larger table.
                let other = others.slots[i & (others.slots.len() - 1)];
                *slot = ordinals.get(usize::from(other)).copied().unwrap_or(NO_BACKEND);
            }
        }
    }
}

/// Whether one of these backends takes new flows.
#[must_use]
pub fn is_served(members: &[Member]) -> bool {
    members.iter().any(|member| member.ready && member.candidate.weight > 0)
}

/// The weights when versions that nothing serves give theirs to those that are served and have
/// weight, in proportion. What does not divide goes to the first of these.
fn fail_over(weights: [u16; VERSIONS], served: [bool; VERSIONS]) -> [u16; VERSIONS] {
    let keeps = |version: usize| if served[version] { u32::from(weights[version]) } else { 0 };
    let kept: u32 = (0..VERSIONS).map(keeps).sum();
    if kept == 0 {
        return weights;
    }
    let mut given = [0; VERSIONS];
    for (version, share) in given.iter_mut().enumerate() {
        *share = u16::try_from(keeps(version) * WHOLE / kept).unwrap_or_default();
    }
    let missing = WHOLE - given.iter().map(|share| u32::from(*share)).sum::<u32>();
    if let Some(first) = given.iter_mut().find(|share| **share > 0) {
        *first += u16::try_from(missing).unwrap_or_default();
    }
    given
}

#[cfg(test)]
mod tests {
    use weir_ebpf::abi::Address;

    use super::*;

    const SEED: [u8; 16] = [7; 16];

    fn member(number: u32, ready: bool) -> Member {
        let identity = Identity { address: Address::v4(number.to_be()), port: 80 };
        let candidate = Candidate { identity, weight: 100 };
        Member { candidate, ready, given_up: false }
    }

    fn goal(weights: [u16; VERSIONS], members: [&[Member]; VERSIONS]) -> Goal {
        let candidates = members.map(|m| m.iter().map(|m| m.candidate).collect::<Vec<_>>());
        Goal::new(SEED, weights, candidates.each_ref().map(|c| &c[..]))
    }

    fn lay_over(
        weights: [u16; VERSIONS],
        members: [&[Member]; VERSIONS],
        holds: bool,
    ) -> (Goal, Goal) {
        let goal = goal(weights, members);
        let laid = Standing { seed: SEED, weights, members, holds }.lay_over(&goal);
        (goal, laid)
    }

    /// Slots of each version in a version table.
    fn shares(goal: &Goal) -> [usize; VERSIONS] {
        let mut shares = [0; VERSIONS];
        goal.versions().iter().for_each(|version| shares[usize::from(*version)] += 1);
        shares
    }

    #[test]
    fn only_the_slots_of_a_dead_backend_move_and_are_shared_out() {
        for n in [2, 3, 8, 40] {
            for dead in 0..n {
                let members: Vec<Member> = (0..n).map(|i| member(i, i != dead)).collect();
                let (goal, laid) = lay_over([10_000, 0, 0], [&members, &[], &[]], false);
                assert_eq!(goal.versions(), laid.versions());
                let (was, is) = (&goal.backends()[0], &laid.backends()[0]);
                assert_eq!(was.backends, is.backends);
                let name = |layout: &Layout, slot: u16| layout.backends[usize::from(slot)];
                let gone = members[dead as usize].candidate.identity;
                let mut taken = vec![0usize; n as usize];
                for (was_slot, is_slot) in was.slots.iter().zip(&is.slots) {
                    if name(was, *was_slot) == gone {
                        taken[usize::from(*is_slot)] += 1;
                    } else {
                        assert_eq!(was_slot, is_slot);
                    }
                }
                let lost: usize = taken.iter().sum();
                let fair = lost / (n as usize - 1);
                assert!(taken.iter().all(|taken| *taken <= 2 * fair + 16), "{taken:?}");
            }
        }
    }

    #[test]
    fn a_version_without_ready_backends_gives_its_weight_in_proportion() {
        let (up, down) = ([member(1, true)], [member(2, false)]);
        let weights = [6_000, 3_000, 1_000];
        let other = [member(3, true)];
        let (_, laid) = lay_over(weights, [&up, &other, &down], false);
        assert_eq!(fail_over(weights, [true, true, false]), [6_667, 3_333, 0]);
        assert_eq!(laid.versions(), goal([6_667, 3_333, 0], [&up, &other, &down]).versions());
        let (goal, held) = lay_over(weights, [&up, &other, &down], true);
        assert_eq!(goal, held);
    }

    #[test]
    fn where_nothing_is_left_nothing_moves() {
        let down = [member(1, false), member(2, false)];
        let (goal, laid) = lay_over([10_000, 0, 0], [&down, &[], &[]], false);
        assert_eq!(goal, laid);
        // A version without weight is not what was asked for, ready as it may be.
        let (goal, laid) = lay_over([10_000, 0, 0], [&down, &[member(3, true)], &[]], false);
        assert_eq!(shares(&goal), shares(&laid));
    }

    #[test]
    fn a_version_that_is_given_up_has_no_backend() {
        let gone = [Member { given_up: true, ..member(1, false) }];
        let (_, laid) = lay_over([5_000, 5_000, 0], [&gone, &[member(2, true)], &[]], false);
        assert_eq!(shares(&laid), [0, 16_384, 0]);
        assert!(laid.backends()[0].slots.iter().all(|slot| *slot == NO_BACKEND));
    }
}
