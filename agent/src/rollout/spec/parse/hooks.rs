//! Hooks.

use super::super::reader::{Field, Map};
use super::super::{Hook, Stage, Target};
use crate::rollout::time::Seconds;

/// The most hooks of a rollout.
const MAX_HOOKS: usize = 64;
/// The most words of a command.
const MAX_WORDS: usize = 64;
/// How long a hook may be in progress, if nothing is said.
const TIMEOUT: Seconds = Seconds::minutes(5);
/// The three answers, as documents may repeat them.
const CONTRACT: &str = "SUCCEEDED | FAILED | IN_PROGRESS";

pub(super) fn hooks(field: &Field<'_>) -> Vec<Hook> {
    field.list(MAX_HOOKS).iter().filter_map(hook).collect()
}

fn hook(field: &Field<'_>) -> Option<Hook> {
    let mut map = field.map()?;
    let words = Stage::ALL.map(|stage| (stage.name(), stage));
    let stage = map.need("stage").and_then(|field| field.word(&words));
    let target = target(&mut map, true);
    let timeout = map.or("timeout", TIMEOUT, Field::time);
    if let Some(contract) = map.get("contract") {
        contract.word(&[(CONTRACT, ())])?;
    }
    Some(Hook { stage: stage?, target: target?, timeout })
}

/// Either `url` or `command`.
pub(super) fn target(map: &mut Map<'_>, needed: bool) -> Option<Target> {
    let url = map.get("url");
    let command = map.get("command");
    match (url, command) {
        (Some(url), None) => address(&url).map(Target::Url),
        (None, Some(command)) => words(&command).map(Target::Command),
        (None, None) if !needed => None,
        _ => {
            map.field.wrong("names not exactly one of url and command");
            None
        }
    }
}

/// An HTTP address.
pub(super) fn address(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if !host || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        field.wrong(format!("{text:?} is not an address; write it as http://host:port/path"));
        return None;
    }
    Some(text)
}

/// A program and its arguments.
fn words(field: &Field<'_>) -> Option<Vec<String>> {
    let words: Vec<String> = field.list(MAX_WORDS).iter().filter_map(Field::text).collect();
    if words.first().is_none_or(String::is_empty) {
        field.wrong("names no program; write it as [program, argument, …]");
        return None;
    }
    Some(words)
}
