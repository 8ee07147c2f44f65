//! Commands: real programs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::time::sleep;
use weir::rollout::machine::{HookAnswer, HookCall};
use weir::rollout::spec::Target;

use super::{about, answer, call, ended, failed, hooks, key};

/// A shell with a script: the test's own doing.
fn script(text: &str) -> Target {
    command(&["sh", "-c", text])
}

fn command(words: &[&str]) -> Target {
    Target::Command(words.iter().map(|word| (*word).to_owned()).collect())
}

async fn alive(file: &Path) -> Option<Pid> {
    for _ in 0..200 {
        if let Some(id) = fs::read_to_string(file).ok().and_then(|id| id.trim().parse().ok()) {
            return Some(Pid::from_raw(id));
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}

async fn has_ended(process: Pid) -> bool {
    for _ in 0..200 {
        let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if kill(process, None).is_err() || state.contains(") Z ") {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn it_is_told_what_it_is_about() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("told");
    let mut hooks = hooks();
    let target = script(&format!("env > {}", file.display()));
    let asked = HookCall { backend: Some("[fd00::1]:80".parse().unwrap()), ..call(target, 10) };
    hooks.call(&about(), [(key(3), asked)]);
    assert_eq!(ended(&hooks, &key(3)).await, HookAnswer::Succeeded);
    let told = fs::read_to_string(&file).unwrap();
    for line in [
        "WEIR_ID=shop/7/preWeight/3",
        "WEIR_ROLLOUT=shop/v1.42",
        "WEIR_SERVICE=shop",
        "WEIR_REVISION=v1.42",
        "WEIR_STAGE=preWeight",
        "WEIR_STEP=2",
        "WEIR_BACKEND=[fd00::1]:80",
        "WEIR_REVERT=",
    ] {
        assert!(told.lines().any(|l| l == line), "{line} is not in {told}");
    }
    // Nothing else of the coordinator's: it may hold secrets.
    assert!(!told.contains("CARGO"), "{told}");
}

#[tokio::test]
async fn its_exit_status_is_its_answer() {
    assert_eq!(answer(command(&["true"]), 10).await, HookAnswer::Succeeded);
    for (target, expected) in [
        (command(&["false"]), "exit status 1"),
        (script("echo first; echo last; exit 3"), "exit status 3: last"),
        (script("echo out; echo err >&2; exit 3"), "exit status 3: err"),
        (script("kill -9 $$"), "it was killed"),
        (command(&["/no/such/program"]), "/no/such/program cannot be started: No such file"),
    ] {
        let answer = answer(target, 10).await;
        assert!(failed(&answer).starts_with(expected), "{answer:?}");
    }
}

#[tokio::test]
async fn in_progress_is_run_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runs");
    let file = file.display();
    let text = format!("echo run >> {file}; test $(wc -l < {file}) -ge 3 || exit 75");
    assert_eq!(answer(script(&text), 30).await, HookAnswer::Succeeded);
}

#[tokio::test]
async fn there_is_no_shell() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("made");
    let trick = format!("$(touch {0}); touch {0}", file.display());
    assert_eq!(answer(command(&["echo", &trick]), 10).await, HookAnswer::Succeeded);
    assert!(!file.exists());
}

#[tokio::test]
async fn much_output_blocks_nobody_and_is_cut() {
    let text = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1";
    assert_eq!(failed(&answer(script(text), 60).await), "exit status 1: the end");
    let text = "head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 1";
    assert!(failed(&answer(script(text), 60).await).len() < 300);
}

#[tokio::test]
async fn it_is_killed_at_its_time_with_all_that_it_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    let text = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let start = Instant::now();
    let answer = answer(script(&text), 1).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(failed(&answer), "sh did not end within 1.0 s, and was killed");
    let child = alive(&file).await.unwrap();
    assert!(has_ended(child).await);
}

#[tokio::test]
async fn it_ends_with_whoever_called_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("child");
    let mut hooks = hooks();
    let text = format!("sleep 1000 & echo $! > {}; wait", file.display());
    hooks.call(&about(), [(key(0), call(script(&text), 3600))]);
    let child = alive(&file).await.unwrap();
    kill(child, None).unwrap();
    drop(hooks);
    assert!(has_ended(child).await);
}
