//! Holds the leadership of a state, and saves what it is told to. See `weir_tests::ledger::holder`.

#![forbid(unsafe_code)]

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let place = std::env::args().nth(1).context("usage: weir-holder PLACE")?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(weir_tests::ledger::holder::hold(&place))
}
