//! `cargo xtask bench`: what something costs, built as it is shipped.

use std::path::Path;

use anyhow::Result;

use crate::lab::{self, Profile};

/// Runs a benchmark with its arguments.
pub(crate) fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    lab::run(root, "weir-bench", Profile::Release, arguments)
}
