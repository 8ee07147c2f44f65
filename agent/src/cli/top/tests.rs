//! Messages and keys in, state out.

use super::fixture::{API, SHOP, event, look, press, state};
use super::state::{Flow, Key, Message, State, View};
use crate::model::Version;
use crate::node::events::Kind;

fn names(state: &State) -> Vec<&str> {
    state.visible().into_iter().map(|one| one.spec.name.as_str()).collect()
}

fn selected(state: &State) -> Option<&str> {
    state.selected().map(|one| one.spec.name.as_str())
}

#[test]
fn services_are_sorted_filtered_and_selected() {
    let mut state = state(&[SHOP, API, ("aa", [10, 0, 0])]);
    assert_eq!((names(&state), selected(&state)), (vec!["aa", "api", "shop"], Some("aa")));
    // By rate, by success (shop's canary refuses), by latency (and is slow).
    for wanted in [["api", "shop", "aa"], ["shop", "aa", "api"], ["shop", "aa", "api"]] {
        press(&mut state, "s");
        assert_eq!(names(&state), wanted);
        assert_eq!(selected(&state), Some("aa"), "the selected one stays");
    }
    press(&mut state, "sjj");
    assert_eq!(selected(&state), Some("shop"));
    press(&mut state, "jjjk");
    assert_eq!(selected(&state), Some("api"));
    press(&mut state, "G");
    assert_eq!(selected(&state), Some("shop"));
    press(&mut state, "g");
    assert_eq!(selected(&state), Some("aa"));
    // What is typed is a filter, and no command.
    press(&mut state, "/Shq");
    assert_eq!((names(&state), state.filter.as_str()), (vec![], "shq"));
    state.press(Key::Erase);
    assert_eq!((names(&state), selected(&state)), (vec!["shop"], Some("shop")));
    press(&mut state, "\n");
    assert_eq!(state.view, View::List);
    press(&mut state, "\x1b");
    assert_eq!(names(&state).len(), 3);
}

#[test]
fn one_service_is_shown_and_left() {
    let mut state = state(&[SHOP, API]);
    press(&mut state, "\n");
    assert_eq!(state.view, View::Detail);
    press(&mut state, "j");
    assert_eq!((state.view, selected(&state)), (View::Detail, Some("shop")));
    press(&mut state, "\x1b");
    assert_eq!(state.view, View::List);
    // A service that is shown and goes takes its page with it.
    press(&mut state, "\n");
    state.hear(look(&[API], (1, 1), 11));
    assert_eq!((state.view, selected(&state)), (View::List, Some("api")));
}

#[test]
fn a_pause_stops_what_is_shown_and_no_more() {
    let mut state = state(&[SHOP]);
    let rate =
        |state: &State| state.counted("shop", Version::Blue).map(|one| one.traffic.connections);
    press(&mut state, " ");
    let before = rate(&state);
    state.hear(look(&[SHOP], (1, 1), 20));
    assert_eq!((state.paused, rate(&state)), (true, before));
    press(&mut state, " ");
    state.hear(look(&[SHOP], (1, 1), 21));
    assert!(rate(&state) > before);
}

#[test]
fn a_lost_agent_is_told_until_it_is_back() {
    let mut state = state(&[SHOP]);
    state.hear(Message::Lost("it stopped".into()));
    assert_eq!(state.lost.as_deref(), Some("it stopped"));
    assert_eq!(names(&state), ["shop"], "what was known is still shown");
    state.hear(look(&[SHOP], (1, 2), 3));
    assert_eq!(state.lost, None);
    // The counters began anew: a gap, and no rate.
    assert!(state.within("shop", Version::Blue).is_none());
    let bars = state.history("shop", Version::Blue).map(|history| history.rates(11));
    assert_eq!(bars.as_deref(), Some("██████████ "));
}

#[test]
fn events_are_bounded_and_the_newest_stay() {
    let mut state = state(&[SHOP]);
    for id in 3..1_000 {
        state.hear(event(id, Kind::Shifted, "again"));
    }
    assert_eq!((state.events.len(), state.events.back().map(|one| one.id)), (200, Some(999)));
}

#[test]
fn keys_quit_or_go_on() {
    let mut state = state(&[SHOP]);
    assert_eq!(state.press(Key::Char('x')), Flow::GoOn);
    press(&mut state, "?");
    assert_eq!((state.help, state.press(Key::Char('q'))), (true, Flow::GoOn), "help is left first");
    assert!(!state.help);
    assert_eq!(state.press(Key::Char('q')), Flow::Quit);
    press(&mut state, "/");
    assert_eq!(state.press(Key::Interrupt), Flow::Quit);
    assert_eq!(State::default().press(Key::Enter), Flow::GoOn, "before the first look");
}
