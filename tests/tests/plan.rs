//! Properties of the plan: shares are exact, shifts minimal and reversible, tables a pure function
//! of the spec.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use proptest::prelude::*;
use weir::plan::backend_table::{self, Candidate};
use weir::plan::digest::Digest;
use weir::plan::goal::{Goal, Target};
use weir::plan::identity::Identity;
use weir::plan::settle::{SlotRef, settle, untrack};
use weir::plan::shares;
use weir::plan::steering::Steering;
use weir::plan::tables::{BackendTable, ServiceTables};
use weir::plan::transition::{Moves, transition};
use weir::plan::version_table;
use weir_ebpf::abi::{Address, NO_BACKEND, VERSION_SLOTS, VERSIONS};

const BLUE: usize = 0;
const GREEN: usize = 1;
const CANARY: usize = 2;
const SEED: [u8; 16] = *b"a seed of a test";

fn identity(n: u32) -> Identity {
    Identity { address: Address::from_v4((0x0a00_0000 | n).to_be_bytes()), port: 8080 }
}

fn candidates(range: Range<u32>) -> Vec<Candidate> {
    range.map(|n| Candidate { identity: identity(n), weight: 100 }).collect()
}

/// Any weights that add up to a whole, the ends of the scale more often than by chance.
fn weights() -> impl Strategy<Value = [u16; VERSIONS]> {
    let point = || prop_oneof![4 => 0..=10_000_u16, 1 => Just(0), 1 => Just(10_000), 1 => 0..5_u16];
    (point(), point()).prop_map(|(a, b)| [a.min(b), a.max(b) - a.min(b), 10_000 - a.max(b)])
}

/// Any backends of one version, identities from `base` on, distinct; some without weight.
fn backends(base: u32, most: usize) -> impl Strategy<Value = Vec<Candidate>> {
    let weight = prop_oneof![1 => Just(0), 4 => Just(100), 3 => 0..=1000_u32];
    prop::collection::btree_map(0..200_u32, weight, 0..=most).prop_map(move |set| {
        let candidate =
            |(n, weight): (u32, u32)| Candidate { identity: identity(base + n), weight };
        set.into_iter().map(candidate).collect()
    })
}

fn all_backends(most: usize) -> impl Strategy<Value = [Vec<Candidate>; VERSIONS]> {
    [backends(0, most), backends(1_000, most), backends(2_000, most)]
}

/// A node's indices: the same identity always has the same one.
#[derive(Default)]
struct Node {
    indices: HashMap<Identity, u16>,
    identities: Vec<Identity>,
}

impl Node {
    fn target(&mut self, goal: &Goal) -> Target {
        goal.on_this_node(&mut |_, identity| {
            *self.indices.entry(identity).or_insert_with(|| {
                self.identities.push(identity);
                u16::try_from(self.identities.len() - 1).unwrap()
            })
        })
    }

    fn digest(&self, tables: &ServiceTables) -> Digest {
        let none = Steering::default();
        Digest::of_tables(tables, &none, &|index| self.identities.get(usize::from(index)).copied())
    }
}

fn goal(weights: [u16; VERSIONS], backends: &[Vec<Candidate>; VERSIONS]) -> Goal {
    Goal::new(SEED, weights, backends.each_ref().map(Vec::as_slice))
}

fn count(slots: &[u8]) -> [i64; VERSIONS] {
    let mut counts = [0; VERSIONS];
    for &version in slots {
        counts[usize::from(version)] += 1;
    }
    counts
}

fn cur(tables: &ServiceTables) -> (Vec<u8>, [Vec<u16>; VERSIONS]) {
    (
        tables.versions().iter().map(|slot| slot.cur()).collect(),
        tables.backends().each_ref().map(|t| t.slots().iter().map(|slot| slot.cur()).collect()),
    )
}

/// What the tables do with new flows, whatever their size: `cur` repeated to the largest size.
fn function(tables: &ServiceTables) -> (Vec<u8>, [Vec<u16>; VERSIONS]) {
    let (versions, backends) = cur(tables);
    (versions, backends.map(|t| t.iter().copied().cycle().take(65_536).collect()))
}

/// Off-diagonal moves, added up.
fn moved(moves: &Moves) -> u32 {
    moves.versions.iter().flatten().sum()
}

/// Share of slots that differ between two layouts of any size, and the size.
fn difference(a: &backend_table::Layout, b: &backend_table::Layout) -> (usize, usize) {
    let size = a.slots.len().max(b.slots.len());
    let at = |l: &backend_table::Layout, i: usize| {
        l.backends.get(usize::from(l.slots[i % l.slots.len()])).copied()
    };
    ((0..size).filter(|&i| at(a, i) != at(b, i)).count(), size)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariant 2: each version is within one slot of its weight, and has one if it has weight.
    #[test]
    fn version_shares_are_exact(weights in weights()) {
        let counts = count(&version_table::lay_out(weights));
        for (version, &weight) in weights.iter().enumerate() {
            let error = counts[version] * 10_000 - i64::from(weight) * i64::from(VERSION_SLOTS);
            prop_assert!(error.abs() <= 10_000, "{counts:?}");
            prop_assert_eq!(counts[version] > 0, weight > 0);
        }
    }

    /// Invariant 3: a shift between blue and another moves exactly the difference.
    #[test]
    fn shifts_with_blue_are_minimal(from in weights(), to in 0..=10_000_u16, other in GREEN..=CANARY) {
        let both = from[BLUE] + from[other];
        let mut after = from;
        after[other] = to.min(both);
        after[BLUE] = both - after[other];
        minimal(from, after, BLUE, other)?;
    }

    /// Invariant 3: and so does a shift between green and canary while blue has no weight.
    #[test]
    fn shifts_without_blue_are_minimal(from in 0..=10_000_u16, to in 0..=10_000_u16) {
        minimal([0, from, 10_000 - from], [0, to, 10_000 - to], GREEN, CANARY)?;
    }

    /// Invariant 3: a version that alone rises loses no slot; green and canary never do while they rise.
    #[test]
    fn while_a_weight_rises_no_slot_leaves(before in weights(), after in weights()) {
        let (old, new) = (version_table::lay_out(before), version_table::lay_out(after));
        let rises = |v: usize| after[v] > before[v];
        let holds = [
            !rises(GREEN) && !rises(CANARY),
            after[GREEN] >= before[GREEN],
            after[CANARY] >= before[CANARY],
        ];
        for (from, to) in old.iter().zip(&*new) {
            prop_assert!(from == to || !holds[usize::from(*from)]);
        }
    }

    /// Each backend has its share to within one slot; one without weight has none.
    #[test]
    fn quotas_are_exact(set in backends(0, 60), seed: [u8; 16]) {
        let layout = backend_table::lay_out(seed, &set);
        let total: i64 = set.iter().map(|c| i64::from(c.weight)).sum();
        let mut counts = BTreeMap::new();
        for &ordinal in &layout.slots {
            *counts.entry(layout.backends.get(usize::from(ordinal)).copied()).or_insert(0) += 1_i64;
        }
        prop_assert_eq!(counts.contains_key(&None), total == 0);
        for c in &set {
            let slots = counts.get(&Some(c.identity)).copied().unwrap_or(0);
            let size = i64::try_from(layout.slots.len()).unwrap();
            prop_assert!((slots * total - i64::from(c.weight) * size).abs() < total.max(1), "{c:?} has {slots} of {size}");
            prop_assert!(c.weight > 0 || slots == 0);
        }
        prop_assert!(layout.slots.len() >= 65_536.min(100 * layout.backends.len()));
    }

    /// Invariant 4: the order of the backends and a node's own indices are irrelevant.
    #[test]
    fn order_and_indices_are_irrelevant(
        weights in weights(),
        (sets, shuffled) in all_backends(40).prop_flat_map(|s| {
            (Just(s.clone()), s.map(|set| Just(set).prop_shuffle()))
        }),
        offset in 0..1_000_u32,
    ) {
        let one = goal(weights, &sets);
        let other = goal(weights, &shuffled);
        prop_assert_eq!(&one, &other);
        let mut node = Node::default();
        let filler: Vec<Candidate> = candidates(5_000..5_000 + offset % 30);
        node.target(&goal([10_000, 0, 0], &[filler, vec![], vec![]]));
        let tables = transition(None, &node.target(&one), &|_| false).tables;
        prop_assert_eq!(node.digest(&tables), Digest::of_goal(&other));
    }

    /// Lines hold tables without loss.
    #[test]
    fn lines_and_back(before in weights(), after in weights(), sets in all_backends(30)) {
        let mut node = Node::default();
        let old = transition(None, &node.target(&goal(before, &sets)), &|_| false).tables;
        let [blue, green, _] = sets;
        let tables = transition(Some(&old), &node.target(&goal(after, &[blue, green, vec![]])), &|_| false).tables;
        let lines = tables.backends().each_ref().map(BackendTable::lines);
        let back = ServiceTables::from_lines(&tables.version_lines(), lines.each_ref().map(Vec::as_slice));
        prop_assert_eq!(back, Ok(tables));
    }

    /// Invariants 2, 3 and 4 over histories: whatever came before, `cur` is the goal's, the shares
    /// and the digest are the goal's, a change of backends moves no slot between versions, and
    /// undoing a step restores the same bytes.
    #[test]
    fn histories_do_not_matter(
        steps in prop::collection::vec((weights(), all_backends(25), any::<bool>(), any::<u8>()), 2..6),
    ) {
        let mut node = Node::default();
        let mut last = goal([10_000, 0, 0], &[candidates(0..3), vec![], vec![]]);
        let mut last_weights = [10_000, 0, 0];
        let mut tables = transition(None, &node.target(&last), &|_| false).tables;
        for (weights, sets, only_backends, what) in steps {
            let weights = if only_backends { last_weights } else { weights };
            let next = goal(weights, &sets);
            let given_up = |index: u16| what % 4 == 3 && index.is_multiple_of(3);
            let step = transition(Some(&tables), &node.target(&next), &given_up);
            sound(&step.tables)?;
            prop_assert_eq!(node.digest(&step.tables), Digest::of_goal(&next));
            prop_assert_eq!(&cur(&step.tables).0, &next.versions());
            let shares = shares::by_version(&step.tables);
            prop_assert_eq!(shares.map(i64::from), count(next.versions()));
            if only_backends {
                prop_assert_eq!(moved(&step.moves), 0);
                for (old, new) in tables.versions().iter().zip(step.tables.versions()) {
                    prop_assert_eq!(old.cur(), new.cur());
                }
            }
            let undone = transition(Some(&step.tables), &node.target(&last), &given_up);
            sound(&undone.tables)?;
            prop_assert_eq!(function(&undone.tables), function(&tables));
            prop_assert_eq!(node.digest(&undone.tables), Digest::of_goal(&last));
            for (from, row) in step.moves.versions.iter().enumerate() {
                for (to, &slots) in row.iter().enumerate() {
                    prop_assert_eq!(undone.moves.versions[to][from], slots);
                }
            }
            tables = step.tables;
            if what & 4 == 0 {
                let before = cur(&tables);
                settle(&mut tables, &|_| what & 8 == 0);
                sound(&tables)?;
                untrack(&mut tables, &|_| what & 16 == 0);
                sound(&tables)?;
                prop_assert_eq!(before, cur(&tables));
            }
            (last, last_weights) = (next, weights);
        }
        // At rest the tables are those of a node that never knew anything else.
        settle(&mut tables, &|_| true);
        untrack(&mut tables, &|_| false);
        let target = node.target(&last);
        let rested = transition(Some(&tables), &target, &|_| false);
        prop_assert_eq!(rested.tables, transition(None, &target, &|_| false).tables);
        prop_assert_eq!(moved(&rested.moves), 0);
    }
}

/// What holds for every slot at every time.
fn sound(tables: &ServiceTables) -> Result<(), TestCaseError> {
    for slot in tables.versions() {
        prop_assert!(slot.tracked() || slot.base() == slot.cur());
        let base = &tables.backends()[usize::from(slot.base())];
        let empty = base.slots().iter().all(|s| s.base() == NO_BACKEND);
        prop_assert!(slot.base() == slot.cur() || !empty);
    }
    for slot in tables.backends().iter().flat_map(BackendTable::slots) {
        prop_assert!(slot.tracked() || slot.base() == slot.cur());
        prop_assert!(slot.base() != NO_BACKEND || slot.cur() == NO_BACKEND);
    }
    Ok(())
}

/// A shift between two versions moves the difference of their slots, in one direction.
fn minimal(
    before: [u16; VERSIONS],
    after: [u16; VERSIONS],
    a: usize,
    b: usize,
) -> Result<(), TestCaseError> {
    let mut node = Node::default();
    let sets = [candidates(0..2), candidates(10..12), candidates(20..22)];
    let old = transition(None, &node.target(&goal(before, &sets)), &|_| false).tables;
    let step = transition(Some(&old), &node.target(&goal(after, &sets)), &|_| false);
    let (from, to) = (shares::by_version(&old), shares::by_version(&step.tables));
    prop_assert_eq!(moved(&step.moves), from[b].abs_diff(to[b]));
    prop_assert_eq!(moved(&step.moves), from[a].abs_diff(to[a]));
    let (giver, taker) = if to[b] > from[b] { (a, b) } else { (b, a) };
    prop_assert_eq!(step.moves.versions[giver][taker], moved(&step.moves));
    prop_assert!(step.moves.backends.iter().all(|m| m.moved == 0));
    Ok(())
}

/// Losing or adding one of n moves about 1/n of the slots, also where the table's size changes.
#[test]
fn losing_one_of_n_moves_little() {
    let full = candidates(0..65);
    let mut worst: f64 = 0.0;
    for n in 2..=64 {
        let all = backend_table::lay_out(SEED, &full[..n]);
        for gone in [0, n / 3, n / 2, n - 1] {
            let mut fewer = full[..n].to_vec();
            fewer.remove(gone);
            let (moved, size) = difference(&all, &backend_table::lay_out(SEED, &fewer));
            #[allow(clippy::cast_precision_loss, reason = "small numbers")]
            let ratio = (moved * n) as f64 / size as f64;
            worst = worst.max(ratio);
            assert!(ratio >= 0.99);
        }
    }
    println!("worst {worst:.2}/n");
    assert!(worst <= 3.0, "losing one of n moved {worst:.2}/n");
}

/// A version that nobody can be at any more is nobody's `base`: otherwise a new flow that finds no
/// room in the flow table would have nowhere to go.
#[test]
fn an_empty_version_is_no_base() {
    let mut node = Node::default();
    let sets = [candidates(0..3), vec![], candidates(10..13)];
    let old = transition(None, &node.target(&goal([10_000, 0, 0], &sets)), &|_| false).tables;
    let [_, _, canary] = sets;
    let after = node.target(&goal([0, 0, 10_000], &[vec![], vec![], canary]));
    let left = |tables: &ServiceTables| {
        tables.versions().iter().all(|slot| slot.tracked() && slot.base() == slot.cur())
    };
    let given_up = transition(Some(&old), &after, &|index| index < 3).tables;
    assert!(left(&given_up));
    let mut drained = transition(Some(&old), &after, &|_| false).tables;
    assert!(drained.versions().iter().all(|slot| slot.tracked() && slot.base() == 0));
    assert!(settle(&mut drained, &|slot| matches!(slot, SlotRef::Backend { .. })));
    assert!(left(&drained));
}
