//! `weir top` in a terminal, against a real agent under load. Needs tmux, which `cargo xtask setup`
//! installs.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::agent::{binary, socket};
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

/// How long the screen may take to show something.
const LIMIT: Duration = Duration::from_secs(15);
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// A terminal of tmux with one program in it. Dropping it ends both.
struct Terminal {
    server: PathBuf,
    /// The exit code of the program, once it has ended.
    code: PathBuf,
}

impl Terminal {
    /// Runs `weir top` for the lab's agent.
    fn start(node: &Node, (width, height): (u16, u16), environment: &str) -> Self {
        let directory = node.lab().directory();
        // A name of its own: a server that was told to end may still be at it.
        let name = format!("top-{width}-{environment}");
        let (server, code) = (directory.join(&name), directory.join(name + ".code"));
        let terminal = Self { server, code };
        let (weir, socket) = (binary().unwrap(), socket(node.lab()));
        // The shell stays for a while, so that what is left on the screen can be read.
        let line = format!(
            "env {environment} {} --socket {} top --interval 200ms; echo $? > {}; echo ended; sleep 60",
            weir.display(),
            socket.display(),
            terminal.code.display()
        );
        let size = [width.to_string(), height.to_string()];
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            &line,
        ]);
        terminal
    }

    fn try_tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.server).args(arguments).env("TERM", "xterm-256color");
        match command.output() {
            Ok(output) => output,
            Err(error) => panic!("tmux cannot be run ({error}): `cargo xtask setup` installs it"),
        }
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.try_tmux(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted, and gives it.
    fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + pace::wait(LIMIT);
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what} is not shown:\n{screen}");
            sleep(Duration::from_millis(50));
        }
    }

    fn shows_all(&self, parts: &[&str]) -> String {
        self.shows(&format!("{parts:?}"), |screen| parts.iter().all(|part| screen.contains(part)))
    }

    /// The exit code, once the program has ended and its screen is gone.
    fn ends(&self) -> String {
        let screen = self.shows_all(&["ended"]);
        assert!(!screen.contains("weir top"), "the screen was left as it was:\n{screen}");
        let modes = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(modes.trim(), "0 1", "the alternate screen is left, and the cursor is back");
        fs::read_to_string(&self.code).unwrap().trim().to_owned()
    }

    /// The process id of `weir top`.
    fn pid(&self) -> String {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        fs::read_to_string(children).unwrap().trim().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.try_tmux(&["kill-server"]);
    }
}

fn target() -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), HTTP_PORT)
}

/// A node with the service `web` at 95 and 5 %, under load.
fn loaded() -> (Node, Fresh) {
    let mut node = Node::start(LabBuilder::new().families(&[Family::V4]), Mode::Tc, &[]).unwrap();
    node.apply(&[node.lab().service("web", target(), Protocol::Tcp)]).unwrap();
    node.shift(&["web"], [9_500, 0, 500]).unwrap();
    let clients = node.lab().client_addresses(Family::V4);
    let plan = FreshPlan::new(target(), clients).rate(400).close(Close::Reset);
    let load = Fresh::start(node.lab().clients(), plan).unwrap();
    (node, load)
}

/// The cells of the row of a version: asked, table, seen, and connections a second.
fn row(screen: &str, version: &str) -> Vec<String> {
    let line = screen.lines().find(|line| line.contains(&format!(" {version} ")));
    let line = line.unwrap_or_else(|| panic!("no row of {version}:\n{screen}"));
    let after = line.split_once(&format!(" {version} ")).unwrap().1;
    after.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn it_shows_what_the_api_says_and_follows_a_shift() {
    let (mut node, load) = loaded();
    for size in SIZES {
        node.shift(&["web"], [9_500, 0, 500]).unwrap();
        let top = Terminal::start(&node, size, "");
        let first = top.shows_all(&["weir top", "web", "canary", "q quit", "── events"]);
        assert!(first.lines().all(|line| line.chars().count() <= usize::from(size.0)));
        assert_eq!(row(&first, "canary")[..2], ["5%", "5.00%"], "{first}");
        assert_eq!(row(&first, "blue")[..2], ["95%", "95.00%"], "{first}");
        // Connections come, and their shares agree in time.
        let seen = top.shows("an agreeing share", |screen| row(screen, "blue")[2].ends_with('✓'));
        let rate: f64 = row(&seen, "blue")[3].parse().unwrap();
        assert!(rate > 10.0 && rate < 4_000.0, "{seen}");
        let status = node.status("web").unwrap();
        let table = status.versions[weir::model::Version::Canary].table;
        assert_eq!(row(&seen, "canary")[1], format!("{:.2}%", table.share() * 100.0));

        node.shift(&["web"], [5_000, 0, 5_000]).unwrap();
        let shifted = Instant::now();
        top.shows("the shift", |screen| row(screen, "canary")[..2] == ["50%", "50.00%"]);
        assert!(shifted.elapsed() < pace::wait(Duration::from_secs(2)), "{:?}", shifted.elapsed());
        top.shows_all(&["blue 95% → 50%, canary 5% → 50%"]);

        top.keys(&["Enter"]);
        let parts = ["╭ blue ─", "╭ canary ─", "10.61.0.2:80", "10.63.0.3:80", "Esc back"];
        top.shows_all(&parts);
        top.keys(&["?"]);
        top.shows_all(&["any key leaves it"]);
        top.keys(&["x", "Escape"]);
        top.shows_all(&["SERVICE", "Enter show"]);
        top.keys(&["q"]);
        assert_eq!(top.ends(), "0");
    }
    load.stop().unwrap().check().unwrap();
}

#[test]
fn it_outlives_the_agent_and_another_size() {
    let (mut node, load) = loaded();
    let top = Terminal::start(&node, (80, 24), "");
    top.shows("connections", |screen| screen.contains("web") && row(screen, "blue")[3] != "-");
    node.take_agent().unwrap().kill().unwrap();
    top.shows_all(&["no agent, looking for it", "web"]);
    node.restart().unwrap();
    top.shows("the agent", |screen| {
        !screen.contains("no agent") && screen.contains("restored") && row(screen, "blue")[3] != "-"
    });
    top.tmux(&["resize-window", "-x", "120", "-y", "30"]);
    top.shows_all(&["REFUSED", "NO ANSWER"]);
    top.tmux(&["resize-window", "-x", "40", "-y", "8"]);
    top.shows("less", |screen| !screen.contains("REFUSED") && screen.contains("web"));
    // SIGTERM, as from a session that ends.
    let killed = Command::new("kill").arg(top.pid()).status().unwrap();
    assert!(killed.success());
    assert_eq!(top.ends(), "0");
    load.stop().unwrap().check().unwrap();
}

#[test]
fn it_does_without_colour_and_says_where_it_cannot_run() {
    let (node, load) = loaded();
    let top = Terminal::start(&node, (80, 24), "NO_COLOR=1");
    top.shows_all(&["weir top", "canary"]);
    let cells = top.tmux(&["capture-pane", "-p", "-e"]);
    let coloured = |code: &str| code.starts_with(['3', '9']) && !code.starts_with("39");
    let codes = cells.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
    let codes: Vec<_> = codes.flat_map(|(codes, _)| codes.split(';')).collect();
    assert!(codes.contains(&"1") && !codes.iter().any(|code| coloured(code)), "{cells:?}");
    top.keys(&["C-c"]);
    assert_eq!(top.ends(), "0");
    drop(top);

    let top = Terminal::start(&node, (80, 24), "TERM=dumb");
    let said = top.shows_all(&["needs a terminal", "ended"]);
    assert!(said.contains("weir counters"), "{said}");
    assert_eq!(fs::read_to_string(Path::new(&top.code)).unwrap().trim(), "2");
    load.stop().unwrap().check().unwrap();
}
