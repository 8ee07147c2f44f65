//! What a change did: the answer to `apply` and `shift`, and the options they share.

use clap::Args;

use super::{
    figures::{interval, observed, short_time, table_share},
    table::{
        Side::{Left, Right},
        Table, dim, text, version, warning,
    },
};
use crate::node::messages::{Change, ChangeOptions, Changed, Commit, RequestId};

/// Options of verbs that change something.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Allow weight for a version that has no backend to take it.
    #[arg(long)]
    force: bool,
    /// Name this change, so that repeating it is harmless.
    #[arg(long, value_name = "ID", value_parser = RequestId::new)]
    request_id: Option<RequestId>,
}

impl From<ChangeArgs> for ChangeOptions {
    fn from(args: ChangeArgs) -> Self {
        Self { request_id: args.request_id, dry_run: args.dry_run, force: args.force, fence: None }
    }
}

/// The change as tables: asked, table and observed share by version, then what moved.
pub(super) fn render(changed: &Changed, colour: bool) -> String {
    let columns = [
        ("SERVICE", Left),
        ("GEN", Right),
        ("VERSION", Left),
        ("BEFORE", Right),
        ("ASKED", Right),
        ("TABLE", Right),
        ("OBSERVED BEFORE", Right),
        ("99.9% INTERVAL", Right),
    ];
    let mut table = Table::new(&columns, colour);
    for change in &changed.changes {
        let mut first = true;
        for (name, row) in change.versions.iter() {
            if row.before == row.asked && row.asked.bp() == 0 && row.table.slots == 0 {
                continue;
            }
            let asked = if row.before == row.asked { text(row.asked) } else { warning(row.asked) };
            table.row([
                text(if first { change.service.as_str() } else { "" }),
                text(if first { change.generation.to_string() } else { String::new() }),
                version(name),
                if change.created { dim("-") } else { text(row.before) },
                asked,
                text(table_share(row.table)),
                text(observed(row.observed)),
                dim(interval(row.observed)),
            ]);
            first = false;
        }
    }
    let mut lines = table.render();
    lines.push('\n');
    for change in &changed.changes {
        lines.push_str(&moved(change));
        lines.push_str(&lease(change));
    }
    lines.push_str(&commit(&changed.commit));
    lines
}

/// `shop: 819 of 16384 slots blue -> canary; digest 1f2e…`
fn moved(change: &Change) -> String {
    let mut parts = Vec::new();
    for slots in &change.moves {
        let total = change.versions[slots.to].table.total;
        parts.push(format!("{} of {total} slots {} -> {}", slots.slots, slots.from, slots.to));
    }
    for (version, row) in change.versions.iter().filter(|(_, row)| row.backend_slots_moved > 0) {
        parts.push(format!("{} backend slots within {version}", row.backend_slots_moved));
    }
    match change.steering.moved {
        0 => {}
        1 => parts.push("1 prefix of clients".to_owned()),
        moved => parts.push(format!("{moved} prefixes of clients")),
    }
    let what = match (change.created, parts.is_empty()) {
        (true, _) => "created".to_owned(),
        (false, true) => "nothing moved".to_owned(),
        (false, false) => format!("moved {}", parts.join(", ")),
    };
    format!("{}: {what}; digest {}\n", change.service, change.digest)
}

/// `shop: lease: 1m left of 1m, then back to blue 100%; renew it with weir renew shop`
fn lease(change: &Change) -> String {
    let Some(lease) = &change.lease else { return String::new() };
    format!("{0}: lease: {lease}; renew it with `weir renew {0}`\n", change.service)
}

/// `committed as generation 12 in 1.3 ms`
pub(super) fn commit(commit: &Commit) -> String {
    let (generation, time) = (commit.generation, short_time(commit.duration));
    if commit.dry_run {
        format!("dry run: nothing was changed; the node is at generation {generation}\n")
    } else {
        format!("committed as generation {generation} in {time}\n")
    }
}
