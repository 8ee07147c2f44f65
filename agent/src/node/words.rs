//! Changes in words, for events: what was before, and what is now. Pure.

use super::messages::{Change, VersionChange};
use crate::model::Weight;

/// What a change did: `blue 100% → 95%, canary 0% → 5% (generation 2)`.
pub(super) fn of_change(change: &Change) -> String {
    let mut parts = Vec::new();
    for (version, row) in change.versions.iter().filter(|(_, row)| row.before != row.asked) {
        parts.push(format!("{version} {} → {}", row.before, row.asked));
    }
    for (version, row) in change.versions.iter().filter(|(_, row)| row.backend_slots_moved > 0) {
        parts.push(format!("{} backend slots moved within {version}", row.backend_slots_moved));
    }
    if change.steering.moved > 0 {
        let (moved, rules) = (change.steering.moved, change.steering.rules);
        parts.push(format!("steering of {moved} prefixes moved, {rules} rules now"));
    }
    if parts.is_empty() {
        parts.push("nothing moved".to_owned());
    }
    let lease = change.lease.map(|lease| format!("; lease: {lease}")).unwrap_or_default();
    format!("{} (generation {}){lease}", parts.join(", "), change.generation)
}

/// The weights before and after a change: `blue 95%, canary 5%`.
pub(super) fn weights(change: &Change) -> [String; 2] {
    let list = |of: fn(&VersionChange) -> Weight| {
        let all = change.versions.iter().map(|(version, row)| (version, of(row)));
        let some = all.filter(|(_, weight)| weight.bp() > 0);
        let words: Vec<String> =
            some.map(|(version, weight)| format!("{version} {weight}")).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    };
    [list(|row| row.before), list(|row| row.asked)]
}
