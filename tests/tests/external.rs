//! What the coordinator asks others: against real servers on loopback, real programs, and a real
//! Prometheus.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "external/commands.rs"]
mod commands;
#[path = "external/measures.rs"]
mod measures;
#[path = "external/news.rs"]
mod news;
#[path = "external/server.rs"]
mod server;
#[path = "external/web_hooks.rs"]
mod web_hooks;

use std::time::Duration;

use tokio::time::timeout;
use weir::model::ServiceName;
use weir::rollout::external::{About, Hooks, Http};
use weir::rollout::machine::{HookAnswer, HookCall, HookKey};
use weir::rollout::spec::{Stage, Target};
use weir::rollout::time::Seconds;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn about() -> About {
    let service = ServiceName::new("shop").unwrap();
    About { service, revision: "v1.42".to_owned(), step: Some(2) }
}

fn key(index: u32) -> HookKey {
    HookKey { transition: 7, stage: Some(Stage::PreWeight), index }
}

fn call(target: Target, seconds: u32) -> HookCall {
    HookCall { target, timeout: Seconds::new(seconds), backend: None, revert: false }
}

fn hooks() -> Hooks {
    Hooks::new(Http::new(None).unwrap())
}

/// Waits until a call has ended, and gives its answer.
async fn ended(hooks: &Hooks, key: &HookKey) -> HookAnswer {
    let answer = async {
        loop {
            match &hooks.answers()[key] {
                HookAnswer::InProgress => hooks.news().await,
                answer => return answer.clone(),
            }
        }
    };
    timeout(LONG, answer).await.unwrap()
}

/// Calls one, and gives its answer.
async fn answer(target: Target, seconds: u32) -> HookAnswer {
    let mut hooks = hooks();
    hooks.call(&about(), [(key(0), call(target, seconds))]);
    assert_eq!(hooks.answers()[&key(0)], HookAnswer::InProgress);
    ended(&hooks, &key(0)).await
}

fn failed(answer: &HookAnswer) -> &str {
    let HookAnswer::Failed(why) = answer else { panic!("{answer:?}") };
    why
}
