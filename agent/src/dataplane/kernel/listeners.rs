//! The table of listeners, as [`weir_ebpf::listener_table`] says, laid out as a whole. Pure.

use std::collections::HashMap;

use weir_ebpf::abi::{Endpoint, LISTENER_BUCKETS, LISTENER_PLACES, Listener, ListenerBucket, Root};
use weir_ebpf::listener_table::Key;

/// Listeners that make room for one, each in its other bucket, before another seed is tried.
const MOVES: usize = 64;
/// Seeds that are tried. Half of the places are free, so the first one nearly always does.
const SEEDS: u16 = 64;

/// Where each listener lies, in any order of them the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// A power of two of them, not more than [`LISTENER_BUCKETS`].
    pub(super) buckets: Vec<ListenerBucket>,
    pub(super) seed: u16,
}

impl Layout {
    /// Lays listeners out, each with the word of its [`Listener`]. Nothing, if there are too many.
    pub(super) fn of(listeners: &HashMap<Endpoint, u32>) -> Option<Self> {
        let count = u32::try_from(listeners.len()).ok()?.checked_next_power_of_two()?;
        if count > LISTENER_BUCKETS {
            return None;
        }
        let mut places: Vec<[u64; 3]> = listeners
            .iter()
            .map(|(at, service)| Key::of(at).place(Listener { service: *service }))
            .collect();
        places.sort_unstable();
        (0..SEEDS).find_map(|seed| {
            let buckets = lay_out(&places, Root::default().with_other_listeners(count, seed))?;
            Some(Self { buckets, seed })
        })
    }
}

/// The buckets by one seed. A listener that finds both of its buckets full takes the place of another,
/// which goes to its other bucket (cuckoo hashing: Pagh and Rodler 2001).
fn lay_out(places: &[[u64; 3]], root: Root) -> Option<Vec<ListenerBucket>> {
    let mut buckets = vec![ListenerBucket::default(); root.listener_mask() as usize + 1];
    for place in places {
        // A listener without a place, and the bucket that it had to leave.
        let (mut homeless, mut left) = (*place, usize::MAX);
        let mut moves = 0..MOVES;
        loop {
            let [a, b, c] = homeless;
            let own = Key([a, b, c & u64::from(u32::MAX)]).buckets(root);
            let own = own.map(|bucket| (bucket - root.listeners()) as usize);
            let all = own.iter().flat_map(|bucket| (0..LISTENER_PLACES).map(move |p| (*bucket, p)));
            if let Some((bucket, place)) =
                { all }.find(|(bucket, place)| buckets[*bucket].places[*place] == [0; 3])
            {
                buckets[bucket].places[place] = homeless;
                break;
            }
            let turn = moves.next()?;
            left = if own[0] == left { own[1] } else { own[0] };
            std::mem::swap(&mut buckets[left].places[turn % LISTENER_PLACES], &mut homeless);
        }
    }
    Some(buckets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use weir_ebpf::abi::{Address, MAX_LISTENERS, NO_SERVICE, TCP, UDP};
    use weir_ebpf::listener_table::{find, listener};

    use super::*;

    fn endpoint(address: [u8; 16], port: u16, protocol: u8) -> Endpoint {
        let address = if address[..12] == [0; 12] {
            Address::from_v4([address[12], address[13], address[14], address[15]])
        } else {
            Address::from_v6(address)
        };
        Endpoint { address, port: port.to_be(), protocol, pad: 0 }
    }

    /// What the program would find.
    fn found(layout: &Layout, at: &Endpoint) -> Option<u32> {
        let count = u32::try_from(layout.buckets.len()).unwrap();
        let root = Root::default().with_other_listeners(count, layout.seed);
        let bucket = |element: u32| {
            let bucket = element.checked_sub(root.listeners()).unwrap() as usize;
            layout.buckets.get(bucket)
        };
        find(root, Key::of(at), bucket).map(|listener| listener.service)
    }

    fn check(listeners: &HashMap<Endpoint, u32>, others: impl Iterator<Item = Endpoint>) {
        let layout = Layout::of(listeners).unwrap();
        assert!(layout.buckets.len() < 2 * listeners.len().max(1));
        for (at, service) in listeners {
            assert_eq!(found(&layout, at), Some(*service), "{at:?}");
        }
        for other in others.filter(|other| !listeners.contains_key(other)) {
            assert_eq!(found(&layout, &other), None, "{other:?}");
        }
        let places = layout.buckets.iter().flat_map(|bucket| bucket.places);
        let all: Vec<_> = places.filter_map(listener).map(|(at, to)| (at, to.service)).collect();
        assert_eq!(all.len(), listeners.len());
        assert_eq!(all.into_iter().collect::<HashMap<_, _>>(), *listeners);
    }

    fn endpoints() -> impl Strategy<Value = Endpoint> {
        // Few of each, so that many differ in one field alone; and what no packet has but a look-up may.
        let address = prop::sample::select(vec![
            [0_u8; 16],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 50, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 50, 10],
            [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 50, 0, 1],
            [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10, 50, 0, 1],
        ]);
        let port = prop_oneof![Just(0_u16), Just(80), Just(0x5000), any::<u16>()];
        let protocol = prop_oneof![Just(0), Just(TCP), Just(UDP)];
        (address, port, protocol)
            .prop_map(|(address, port, protocol)| endpoint(address, port, protocol))
    }

    proptest! {
        #[test]
        fn all_are_found_and_no_others(
            listeners in prop::collection::hash_map(endpoints(), 0..=NO_SERVICE, 0..100),
            others in prop::collection::vec(endpoints(), 0..100),
        ) {
            let zero = Endpoint { address: Address([0; 4]), port: 0, protocol: 0, pad: 0 };
            check(&listeners, others.into_iter().chain([zero]));
        }
    }

    /// Numbers in a row in each field, as an operator counts.
    #[test]
    fn as_many_as_there_may_be_find_room() {
        let v4 = |[a, b, c, d]: [u8; 4]| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d];
        let address =
            move |number: u32| endpoint(v4((0x0a00_0000 | number).to_be_bytes()), 80, TCP);
        let network = move |number: u32| endpoint(v4((number << 16 | 1).to_be_bytes()), 80, TCP);
        let port =
            move |number: u32| endpoint(v4([10, 50, 0, 1]), u16::try_from(number).unwrap(), UDP);
        let both = move |number: u32| {
            let address = v4((0x0a00_0000 | (number / 2)).to_be_bytes());
            if number.is_multiple_of(2) {
                endpoint(address, 443, TCP)
            } else {
                endpoint(address, 0, 0)
            }
        };
        let v6 = |number: u32| {
            endpoint((0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes(), 443, TCP)
        };
        let v6_network = |number: u32| {
            let address = 0x2001_0db8_u128 << 96 | u128::from(number) << 64 | 1;
            endpoint(address.to_be_bytes(), 443, TCP)
        };
        let all: [&dyn Fn(u32) -> Endpoint; 6] =
            [&address, &network, &port, &both, &v6, &v6_network];
        for at in all {
            for count in [0, 1, 2, 3, 64, 1_024, 15_000, MAX_LISTENERS] {
                let listeners = (0..count).map(|number| (at(number), number)).collect();
                check(&listeners, (count..count + 1_000).map(at));
                let layout = Layout::of(&listeners).unwrap();
                let first = layout.buckets.iter().filter(|bucket| bucket.places[0] != [0; 3]);
                // As many buckets are empty as by chance, or fewer: some 37 of 100 at the most.
                assert!(count < 64 || 2 * first.count() > layout.buckets.len(), "{:?}", at(0));
            }
            let too_many = (0..=MAX_LISTENERS).map(|number| (at(number), number)).collect();
            assert_eq!(Layout::of(&too_many), None);
        }
    }
}
