//! Names of what a lab leaves in the system. They carry the process's id, so that labs of several
//! processes do not meet, and so that the leftovers of a dead process can be told and swept.

use std::fmt;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The name of one lab: `weir-PID-N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LabName {
    /// The process that built it.
    pub(super) pid: u32,
    /// Counts the labs of that process.
    pub(super) number: u32,
}

impl LabName {
    /// A name that no lab of this process has had.
    pub(super) fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { pid: process::id(), number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The name of one of its namespaces: `weir-PID-N-ROLE`.
    pub(super) fn namespace(self, role: &str) -> String {
        format!("{self}-{role}")
    }

    /// The lab that a namespace or directory of this name belongs to; `None` if it is none of ours.
    /// Exact: what a lab would not have written itself is not taken for a lab's.
    pub(super) fn owner_of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("weir-")?.split('-');
        let lab = Self { pid: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? };
        let rest = name.strip_prefix(&lab.to_string())?;
        let known = rest.is_empty()
            || ["clients", "lb", "blue", "green", "canary", "far", "deep"]
                .iter()
                .any(|role| rest.strip_prefix('-') == Some(role));
        known.then_some(lab)
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "weir-{}-{}", self.pid, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_recognised() {
        let lab = LabName { pid: 4711, number: 3 };
        assert_eq!(LabName::owner_of("weir-4711-3-lb"), Some(lab));
        assert_eq!(LabName::owner_of("weir-4711-3"), Some(lab));
        assert_eq!(LabName::owner_of(&lab.namespace("canary")), Some(lab));
    }

    #[test]
    fn foreign_names_are_left_alone() {
        for name in [
            "",
            "weir",
            "weir-prod",
            "weir-1",
            "weir-1-",
            "weir-1-2-db",
            "weir-1-2-lb-x",
            "weir-+1-2-lb",
            "weir-01-2-lb",
            "eve-1-2-lb",
        ] {
            assert_eq!(LabName::owner_of(name), None, "{name:?}");
        }
    }
}
