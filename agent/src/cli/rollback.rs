//! `weir rollback`

use clap::Args;

use super::{
    change::ChangeArgs, fail::Failure, output::Output, shift::InFlightArgs, verify::VerifyArgs,
};
use crate::{client::Client, model::ServiceName, node::messages::RollBack};

/// Restore the weights that a service had when its tables last settled, in one atomic commit.
#[derive(Debug, Args)]
#[command(after_help = "\
New connections leave the abandoned version at once, also if the flow table is full; those that have
begun there stay, unless --in-flight says otherwise. `weir get` shows what a rollback would restore.

Examples:
  weir rollback shop                 back to the last settled weights
  weir rollback shop --dry-run       show what would move")]
pub(super) struct Rollback {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// Refuse unless the service has this generation, as `weir get` shows it.
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
    #[command(flatten)]
    in_flight: InFlightArgs,
    #[command(flatten)]
    verify: VerifyArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Rollback {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let roll_back = RollBack {
            in_flight: self.in_flight.read()?,
            service: self.service,
            expected_generation: self.expect_generation,
            options: self.change.into(),
        };
        let changed = client.roll_back(&roll_back).await?;
        self.verify.finish(&mut client, &changed, output).await
    }
}
