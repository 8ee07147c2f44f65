//! What differs between two states.

use std::collections::BTreeSet;

use Version::Blue;

use super::super::state::{Entry, State};
use super::*;

const NAMES: [&str; 4] = ["a", "aa", "b", "c"];

/// Each service is missing, or one of two, in either state: all of these pairs.
#[test]
fn what_differs_is_what_look_ups_find() {
    let entries = |last| {
        let specs = (1..).zip(NAMES).map(|(at, name)| spec(name, at, &[(Blue, 100, &[last + at])]));
        Node::with(&specs.collect::<Vec<_>>()).owner.state.services
    };
    let of_two: [BTreeMap<_, Arc<Entry>>; 2] = [entries(0), entries(100)];
    let state = |which: usize| {
        let of = |(place, name_): (u32, &str)| {
            let one = which / 3_usize.pow(place) % 3;
            Some((name(name_), of_two.get(one)?.get(&name(name_))?.clone()))
        };
        State { services: (0..).zip(NAMES).filter_map(of).collect(), ..State::default() }
    };
    for (before, after) in (0..81).flat_map(|one| (0..81).map(move |other| (one, other))) {
        let (before, after) = (state(before), state(after));
        let names: BTreeSet<_> = before.services.keys().chain(after.services.keys()).collect();
        let pairs =
            names.into_iter().map(|name| (before.services.get(name), after.services.get(name)));
        let differs = |(was, is): &(Option<&Arc<Entry>>, Option<&Arc<Entry>>)| match (was, is) {
            (Some(was), Some(is)) => !Arc::ptr_eq(was, is),
            _ => true,
        };
        let pointers = |(was, is): (Option<&Arc<Entry>>, Option<&Arc<Entry>>)| {
            (was.map(Arc::as_ptr), is.map(Arc::as_ptr))
        };
        let model: Vec<_> = pairs.filter(differs).map(pointers).collect();
        let found: Vec<_> = after.changes_from(&before).into_iter().map(pointers).collect();
        assert_eq!(found, model);
    }
}
