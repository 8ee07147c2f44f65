//! `weir top`: a live screen.
//!
//! - `feed`: what happens at the agent, as messages
//! - `state`, `history`: messages and keys in, what is shown out; pure
//! - `draw`: from state to cells; pure
//! - this file: the terminal, and nothing else

mod draw;
mod feed;
#[cfg(test)]
mod fixture;
mod history;
mod state;
#[cfg(test)]
mod tests;

use std::env;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::draw::Palette;
use self::state::{Flow, Key, State};
use super::{counters, fail::Failure, output::Output};
use crate::client::{Address, Client};

/// Messages and keys that wait at most; who sends more waits too.
const WAITING: usize = 64;
/// How long the reader of keys is deaf to the end of the program.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Watch services live: weights, rates, success and latency by version, drains and events.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: ↑ ↓ select a service, Enter shows it with its backends, Esc goes back; / filters by name, s sorts,
space pauses, ? helps, q quits.")]
pub(super) struct Top {
    /// Time between two looks, 100ms to 1h.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = counters::duration)]
    interval: Duration,
}

impl Top {
    pub(super) fn run(self, address: &Address, output: Output) -> Result<(), Failure> {
        if !output.is_table() {
            return Err(Failure::Usage(
                "weir top is a screen; for programs there is `weir counters --watch -o json`"
                    .to_owned(),
            ));
        }
        let term = env::var("TERM").unwrap_or_default();
        if !io::stdout().is_terminal()
            || !io::stdin().is_terminal()
            || matches!(&*term, "" | "dumb")
        {
            return Err(Failure::Usage(format!(
                "weir top needs a terminal whose cursor can be moved (here TERM is {term:?}); `weir counters \
                 --watch` does without"
            )));
        }
        // The reader of keys has a thread of its own: it cannot be waited for otherwise.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let palette = Palette::new(output.has_colour());
        runtime.block_on(async {
            let client = Client::connect(address.clone()).await?;
            let (to, messages) = mpsc::channel(WAITING);
            tokio::spawn(feed::feed(client, address.clone(), self.interval, to));
            // From here on a panic, too, gives the terminal back as it was.
            let mut terminal = ratatui::try_init()?;
            let ended = show(&mut terminal, messages, palette).await;
            ratatui::try_restore()?;
            ended
        })
    }
}

/// Draws what is known after each message and each key, until it is to end.
async fn show(
    terminal: &mut DefaultTerminal,
    mut messages: mpsc::Receiver<state::Message>,
    palette: Palette,
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut keys = keys();
    let mut state = State::default();
    loop {
        terminal.draw(|frame| draw::screen(frame, &state, palette))?;
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => state.hear(message),
                None => return Err(Failure::Failed("the feed has ended".to_owned())),
            },
            key = keys.recv() => match key {
                Some(Some(key)) if state.press(key) == Flow::Quit => return Ok(()),
                // A key, or another size of the terminal: drawn anew in any case.
                Some(_) => {}
                None => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

/// Keys that mean something, and nothing where the terminal has changed its size. Ends with the
/// terminal.
fn keys() -> mpsc::Receiver<Option<Key>> {
    let (to, keys) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        while !to.is_closed() {
            let read = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let Ok(read) = read else { return };
            let told = match read {
                Event::Resize(..) => to.blocking_send(None),
                other => match key(&other) {
                    Some(key) => to.blocking_send(Some(key)),
                    None => Ok(()),
                },
            };
            if told.is_err() {
                return;
            }
        }
    });
    keys
}

/// What an event of the terminal means.
fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Home => Key::First,
        KeyCode::End => Key::Last,
        KeyCode::Enter | KeyCode::Right => Key::Enter,
        KeyCode::Esc | KeyCode::Left => Key::Escape,
        KeyCode::Backspace => Key::Erase,
        _ => return None,
    })
}
