//! Whether traffic may come. Pure.

use crate::node::{ATTACHED, messages::NodeStatus};

/// What keeps the node from taking traffic, a line each; none: it may come.
///
/// That the stored state is restored needs no line: nothing is served before.
pub(super) fn missing(status: &NodeStatus) -> Vec<String> {
    let there = |state: &str| state == ATTACHED;
    let detached =
        status.interfaces.iter().filter(|one| one.actual.is_none() || !there(&one.state));
    let mut missing: Vec<String> =
        detached.map(|one| format!("interface {}: {}", one.name, one.state)).collect();
    if status.interfaces.is_empty() {
        missing.push("no interface is attached to".to_owned());
    }
    missing
}
