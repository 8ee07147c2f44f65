//! Steering entries against the slow, obvious model: what each single address is led to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir::plan::steering::{Prefix, Rules, Steering};
use weir_ebpf::abi::{Address, BY_TABLE, SteerSlot};

/// Addresses of one /24; rules are its parts, and larger prefixes around it.
fn client(last: u8) -> Address {
    Address::from_v4([192, 0, 2, last])
}

fn rules() -> impl Strategy<Value = BTreeMap<Prefix, u8>> {
    let length = prop_oneof![1 => Just(0_u8), 1 => Just(96), 8 => 118..=128_u8];
    let prefix = (any::<u8>(), length).prop_map(|(last, length)| Prefix::new(client(last), length));
    prop::collection::btree_map(prefix, 0..3_u8, 0..12)
}

/// What happens to a service's rules.
#[derive(Clone, Debug)]
enum Step {
    Change(BTreeMap<Prefix, u8>),
    Settle,
    /// Flows are left of these addresses.
    Untrack(BTreeSet<u8>),
    Leave([bool; 3]),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => rules().prop_map(Step::Change),
        2 => Just(Step::Settle),
        2 => prop::collection::btree_set(any::<u8>(), 0..20).prop_map(Step::Untrack),
        1 => any::<[bool; 3]>().prop_map(Step::Leave),
    ]
}

/// The version that rules give an address: that of the longest prefix.
fn by_rule(rules: &BTreeMap<Prefix, u8>, last: u8) -> u8 {
    let host = Prefix::new(client(last), 128);
    let holding = rules.iter().filter(|(prefix, _)| prefix.contains(host));
    holding.max_by_key(|(prefix, _)| prefix.length()).map_or(BY_TABLE, |(_, version)| *version)
}

fn at(steering: &Steering, last: u8) -> SteerSlot {
    steering.slot(client(last)).unwrap_or(SteerSlot::TABLE)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each address has the `cur` of its longest rule and keeps the oldest `base`, as if it had a
    /// slot of its own; and it is tracked at least as long.
    #[test]
    fn each_address_is_as_if_it_had_a_slot(first in rules(), steps in prop::collection::vec(step(), 1..10)) {
        let of = |rules: &BTreeMap<Prefix, u8>| Rules::new(rules.iter().map(|(p, v)| (*p, *v)));
        let mut steering = Steering::first(&of(&first));
        let mut model: Vec<SteerSlot> = (0..=255)
            .map(|last| by_rule(&first, last))
            .map(|version| SteerSlot::new(version, version, false))
            .collect();
        for step in steps {
            match &step {
                Step::Change(rules) => {
                    let (next, moved) = steering.lead(&of(rules));
                    steering = next;
                    let mut any = false;
                    for (last, slot) in (0..=255).zip(&mut model) {
                        let (to, was) = (by_rule(rules, last), *slot);
                        if was.cur() != to {
                            any = true;
                            let base = if was.tracked() { was.base() } else { was.cur() };
                            *slot = SteerSlot::new(to, base, true);
                        }
                    }
                    // More may move than shows here: prefixes reach beyond the addresses.
                    prop_assert!(!any || moved > 0);
                    prop_assert_eq!(steering.rules(), of(rules));
                    prop_assert_eq!(steering.lead(&of(rules)), (steering.clone(), 0));
                }
                Step::Settle => {
                    steering.settle();
                    for slot in &mut model {
                        if slot.base() != slot.cur() {
                            *slot = SteerSlot::new(slot.cur(), slot.cur(), true);
                        }
                    }
                }
                Step::Untrack(left) => {
                    let pinned: BTreeSet<usize> =
                        left.iter().filter_map(|last| steering.find(client(*last))).collect();
                    let before = steering.clone();
                    steering.untrack(&|entry| pinned.contains(&entry));
                    for (last, slot) in (0..=255_u8).zip(&mut model) {
                        let kept = before.find(client(last)).is_some_and(|e| pinned.contains(&e));
                        prop_assert!(!left.contains(&last) || at(&steering, last) == at(&before, last));
                        if !kept && slot.base() == slot.cur() {
                            *slot = SteerSlot::new(slot.cur(), slot.cur(), false);
                        }
                    }
                }
                Step::Leave(empty) => {
                    steering.leave_empty_bases(*empty);
                    for slot in &mut model {
                        let lost = empty.get(usize::from(slot.base())) == Some(&true);
                        if slot.base() != slot.cur() && lost {
                            *slot = SteerSlot::new(slot.cur(), slot.cur(), slot.tracked());
                        }
                    }
                }
            }
            for (last, slot) in (0..=255).zip(&model) {
                let got = at(&steering, last);
                prop_assert_eq!((got.cur(), got.base()), (slot.cur(), slot.base()), "{} {:?}", last, &step);
                prop_assert!(got.tracked() || !slot.tracked(), "{} {:?}", last, &step);
                prop_assert!(got.tracked() || got.base() == got.cur());
            }
        }
        // What has ended leaves exactly the rules.
        steering.settle();
        steering.untrack(&|_| false);
        prop_assert!(!steering.is_tracked());
        prop_assert_eq!(Steering::first(&steering.rules()), steering);
    }

    /// Neither the order of rules nor one that says what a larger prefix says changes anything.
    #[test]
    fn rules_are_what_they_do(rules in rules()) {
        let list: Vec<(Prefix, u8)> = rules.iter().map(|(p, v)| (*p, *v)).collect();
        let mut more = list.clone();
        more.reverse();
        for last in 0..=255 {
            let host = Prefix::new(client(last), 128);
            if by_rule(&rules, last) != BY_TABLE && !rules.contains_key(&host) {
                more.push((host, by_rule(&rules, last)));
            }
        }
        prop_assert_eq!(Rules::new(more), Rules::new(list));
    }
}

/// A hundred thousand rules within each other take no time to speak of.
#[test]
fn many_rules_are_led_at_once() {
    let rule = |n: u32, version| {
        let [_, a, b, c] = n.to_be_bytes();
        let length = if n.is_multiple_of(256) { 112 } else { [120, 128][n as usize % 2] };
        (Prefix::new(Address::from_v4([10 + a, b, c, 1]), length), version)
    };
    let start = std::time::Instant::now();
    let old = Rules::new((0..100_000).map(|n| rule(n, u8::try_from(n % 3).unwrap())));
    let new = Rules::new((0..100_000).map(|n| rule(n * 3, u8::try_from(n % 2).unwrap())));
    let steering = Steering::first(&old);
    let (steering, moved) = steering.lead(&new);
    assert!(moved > 50_000 && steering.rules() == new);
    for n in 0..100_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        std::hint::black_box(steering.find(Address::from_v4([10 + a, b, c, 1])));
    }
    println!("{} entries in {:?}", steering.entries().len(), start.elapsed());
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}
