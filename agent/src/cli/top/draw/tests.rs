//! What stands where on the screen, at three sizes.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::HashSet;

use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::{Palette, screen};
use crate::cli::top::fixture::{API, Plan, SHOP, look, press, state};
use crate::cli::top::state::{Message, State};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn terminal(state: &State, (width, height): (u16, u16), colour: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen(frame, state, Palette::new(colour))).unwrap();
    terminal
}

/// The lines of the screen, without the spaces at their ends.
fn lines(state: &State, size: (u16, u16)) -> Vec<String> {
    let terminal = terminal(state, size, false);
    let buffer = terminal.backend().buffer();
    let row = |y| (0..size.0).map(move |x| buffer[(x, y)].symbol()).collect::<String>();
    (0..size.1).map(|y| row(y).trim_end().to_owned()).collect()
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[test]
fn the_overview_stands_in_its_columns() {
    let lines = lines(&state(&[SHOP, API]), (80, 24));
    let wanted = [
        " weir top  up 1h 1m  2 000 conn/s  99.75% succeed                  22:13:30 UTC",
        " SERVICE     VERSION  ASKED  TABLE    SEEN CONN/S     OK    P50    P99 TREND",
        "▌api         green     100%   100%   100%✓  1 000   100%  507µs  507µs ████████",
        " shop        blue       95% 95.00% 95.00%✓    950   100%  507µs  507µs ████████",
        "             canary      5%  5.00%  5.00%✓     50 90.00%  8.1ms  8.1ms ████████",
    ];
    assert_eq!(lines[..5], wanted);
    let foot = " q quit  ? help  ↑↓ select  Enter show  / filter  s sort  space pause   by name";
    assert_eq!(lines[23], foot);
    assert!(has(&lines, "── drains ──"));
    assert!(has(&lines, " shop        green   all             no weight 1 012 flows in use"));
    assert!(has(&lines, " 22:13:21 shop        shifted       blue 100% → 95%, canary 0% → 5%"));
}

#[test]
fn every_size_shows_everything() {
    for size in SIZES {
        let mut state = state(&[SHOP, API]);
        let overview = lines(&state, size);
        for part in ["shop", "canary", "90.00%", "5.00%✓", "drains", "backend-down", "q quit"] {
            assert!(has(&overview, part), "{size:?}: {part}\n{}", overview.join("\n"));
        }
        assert_eq!(has(&overview, "REFUSED"), size.0 >= 110);
        assert_eq!(has(&overview, "RELEASE"), size.0 >= 130);
        press(&mut state, "j\n");
        let detail = lines(&state, size);
        for part in [
            "╭ blue v1.42 ─",
            "╭ canary v1.42 ─",
            "10.61.0.2:80",
            "10.63.0.2:80",
            "active",
            "shares agree with the table",
            "asked table",
            "p50 p99",
            "Esc back",
            "events",
        ] {
            assert!(has(&detail, part), "{size:?}: {part}\n{}", detail.join("\n"));
        }
        assert_eq!(has(&detail, "open"), size.1 > 30, "{size:?}");
        press(&mut state, "?");
        for part in ["select a service", "share of handshakes", "any key leaves it"] {
            assert!(has(&lines(&state, size), part), "{size:?}: {part}");
        }
    }
}

/// With 100 services, whichever is selected is seen.
#[test]
fn the_selected_service_is_always_seen() {
    let names: Vec<String> = (0..100).map(|number| format!("s{number:02}")).collect();
    let plans: Vec<Plan<'_>> = names.iter().map(|name| (name.as_str(), [50, 25, 25])).collect();
    for size in SIZES {
        let mut state = state(&plans);
        for name in &names {
            let shown = lines(&state, size);
            let of_it = shown.iter().position(|line| line.starts_with(&format!("▌{name} ")));
            let at =
                of_it.unwrap_or_else(|| unreachable!("{size:?}: {name}\n{}", shown.join("\n")));
            let last = &shown[at + 2];
            assert!(last.starts_with('▌') && last.contains(" canary "), "{}", shown.join("\n"));
            press(&mut state, "j");
        }
        press(&mut state, "g");
        assert!(has(&lines(&state, size), "more lines ↓"));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let mut state = state(&[SHOP]);
    press(&mut state, "/none");
    let text = lines(&state, (80, 24)).join("\n");
    assert!(text.contains("no service with \"none\" in its name"), "{text}");
    assert!(text.contains(" filter: none▏"), "{text}");
    press(&mut state, "\x1b ");
    assert!(lines(&state, (80, 24))[0].contains(" paused "));
    state.hear(Message::Lost("the agent at /run/weir.sock: it stopped".into()));
    let head = &lines(&state, (80, 24))[0];
    assert!(
        head.contains("no agent, looking for it: the agent at /run/weir.sock: it sto"),
        "{head}"
    );
    press(&mut state, " ");
    state.hear(look(&[SHOP], (1, 2), 3));
    let head = &lines(&state, (80, 24))[0];
    assert!(head.contains("counters began anew"), "{head}");
    assert!(has(&lines(&State::default(), (80, 24)), "waiting for the first look"));
}

#[test]
fn versions_have_their_colours_and_need_none() {
    let state = state(&[SHOP, API]);
    let colours = |colour| {
        let terminal = terminal(&state, (80, 24), colour);
        let cells = terminal.backend().buffer().content();
        cells.iter().map(|cell| cell.fg).collect::<HashSet<_>>()
    };
    for version in [Color::LightBlue, Color::LightGreen, Color::LightYellow] {
        assert!(colours(true).contains(&version));
    }
    assert_eq!(colours(false), HashSet::from([Color::Reset]));
}

/// No size is too small to draw.
#[test]
fn tiny_screens_are_drawn() {
    for size in [(1, 1), (2, 3), (20, 4), (79, 5), (300, 2)] {
        let mut state = state(&[SHOP, API]);
        for keys in ["", "\n", "?"] {
            press(&mut state, keys);
            drop(lines(&state, size));
        }
    }
}
