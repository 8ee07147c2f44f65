//! The demo: a release in front of your eyes, with a verdict.
//!
//! - `script`: the steps of the walk
//! - `walk`: goes through them, with load on all the time
//! - `judge`: what was seen in a step, and whether it is right
//! - `audit`: the last checks, when everything has been seen
//! - `answers`: what `weir -o json` prints
//! - `table`, `screen`: how it looks

mod answers;
mod audit;
mod judge;
mod screen;
mod script;
mod table;
mod walk;

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir::model::AttachMode;

use crate::agent::{Agent, AgentOptions};
use crate::interrupt::Interrupt;
use crate::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use crate::lab::spec::{Protocol, yaml};
use crate::lab::{Lab, LabBuilder, Offloads};
pub use screen::{Paint, Screen};
use script::STEPS;
use walk::Walk;

/// The service of the new connections.
const WEB: &str = "web";

/// The service of the long-lived ones.
const ECHO: &str = "echo";

/// Client addresses.
const CLIENTS: u16 = 500;

/// Backends of each version.
const BACKENDS: u8 = 2;

/// Lines of the agent's log that an error shows.
const LOG_LINES: usize = 5;

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the program is attached.
    pub mode: AttachMode,
    /// The length of each step, above 0.
    pub step: Duration,
    /// New connections a second, above 0.
    pub rate: u32,
    /// Long-lived connections, above 0.
    pub connections: u32,
}

/// Shows all of it on the screen, and gives what was wrong: nothing, if it passes. Everything is
/// removed at the end, also after an error or an interrupt, which is an error here.
pub fn run(options: Options, interrupt: &Interrupt, screen: &mut Screen) -> Result<Verdict> {
    screen.say(&title(screen.paint(), options))?;
    let lab = stage(screen, "lab", || {
        let offloads = match options.mode {
            AttachMode::Auto | AttachMode::Tc => Offloads::On,
            AttachMode::Xdp | AttachMode::XdpGeneric => Offloads::Off,
        };
        let builder = LabBuilder::new().clients(CLIENTS).backends(BACKENDS);
        let lab = builder.families(&[Family::V4]).offloads(offloads).start()?;
        Ok((lab, "clients, balancer and backends in network namespaces".to_owned()))
    })?;
    let agent = stage(screen, "agent", || {
        let agent = Agent::start(&lab, &AgentOptions::new(&lab).mode(options.mode.name()))?;
        let attached = answers::attached(&lab)?;
        Ok((agent, format!("its program is attached to four interfaces ({attached})")))
    })?;
    let judged = show(&lab, options, interrupt, screen);
    if judged.is_err() && !interrupt.wait(Duration::ZERO) {
        let log = agent.log_tail();
        let lines: Vec<&str> = log.lines().collect();
        screen.say("\nthe agent's log ends with:")?;
        screen.say(&lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))?;
    }
    let verdict = judged?;
    agent.stop()?;
    Ok(verdict)
}

fn show(
    lab: &Lab,
    options: Options,
    interrupt: &Interrupt,
    screen: &mut Screen,
) -> Result<Verdict> {
    let [web, echo] = [HTTP_PORT, ECHO_PORT].map(|port| SocketAddr::new(vip(Family::V4, 0), port));
    stage(screen, "services", || {
        apply(lab, web, echo)?;
        Ok(((), format!("{WEB} (HTTP, {web}) and {ECHO} (TCP, {echo})")))
    })?;
    screen.say(&format!("\n{}", table::legend(screen.paint())))?;
    let records = Walk::new(lab, options, interrupt, screen, web, echo)?.all()?;
    audit::audit(lab, &records, screen)
}

/// What is left to say at the end.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// How much was tried: `28 804 new connections, 200 long-lived, 5 shifts`.
    pub tried: String,
    /// What was wrong, and where.
    pub complaints: Vec<String>,
}

fn title(paint: Paint, options: Options) -> String {
    let steps = STEPS.len();
    let Options { rate, connections, .. } = options;
    format!(
        "{}   a canary release, its rollback and a blue-green release, under load\n\n\
         \x20 {CLIENTS} client addresses, {BACKENDS} backends a version\n\
         \x20 {rate} new connections a second, {connections} long-lived ones, half of them silent\n\
         \x20 {steps} steps of {} s\n\n",
        paint.bold("weir demo"),
        options.step.as_secs(),
    )
}

/// Does what takes a moment, then says what is there now and how long it took.
fn stage<T>(
    screen: &mut Screen,
    name: &str,
    work: impl FnOnce() -> Result<(T, String)>,
) -> Result<T> {
    let paint = screen.paint();
    screen.draw(&format!("  {} {name:<9} ...\n", paint.dim("·")))?;
    let begun = Instant::now();
    let (made, what) = work()?;
    let took = paint.dim(format!("{:.1} s", begun.elapsed().as_secs_f64()));
    screen.say(&format!("  {} {name:<9} {what:<58} {took}\n", paint.good("✓")))?;
    Ok(made)
}

fn apply(lab: &Lab, web: SocketAddr, echo: SocketAddr) -> Result<()> {
    let weights = STEPS[0].weights;
    let services = [
        lab.service(WEB, web, Protocol::Tcp).weights(weights),
        lab.service(ECHO, echo, Protocol::Tcp).weights(weights),
    ];
    let file = lab.directory().join("services.yaml");
    fs::write(&file, yaml(&services)).with_context(|| format!("writing {}", file.display()))?;
    lab.weir(&["apply", "-f", &file.to_string_lossy()])?;
    Ok(())
}
