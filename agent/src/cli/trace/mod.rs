//! `weir trace`
//!
//! - `flow`: one flow, by the tables
//! - `live`: packets as they come

mod flow;
mod live;

use clap::{Args, Subcommand};

use super::{fail::Failure, output::Output};
use crate::client::Client;

/// Show why packets go where they go.
#[derive(Debug, Args)]
pub(super) struct Trace {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Flow(flow::Flow),
    Live(live::Live),
}

impl Trace {
    pub(super) async fn run(self, client: Client, output: Output) -> Result<(), Failure> {
        match self.what {
            What::Flow(flow) => flow.run(client, output).await,
            What::Live(live) => live.run(client, output).await,
        }
    }
}
