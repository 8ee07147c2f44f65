//! `weir renew`

use clap::Args;

use super::{fail::Failure, output::Output};
use crate::{
    client::Client,
    model::{LeaseLength, ServiceName},
    node::messages::RenewLease,
};

/// Renew the lease that `weir shift --lease` has put on a service's weights.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir renew shop                  for as long as before, from now on
  weir renew shop --lease 5m       for five minutes, from now on
  weir shift shop canary=5%        no lease any more: the weights stay (here at 5% for canary)")]
pub(super) struct Renew {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// How long it lasts from now, 1s to 24h; as long as before, if not said.
    #[arg(long, value_name = "TIME")]
    lease: Option<LeaseLength>,
    /// Refuse unless the service has this generation, as `weir get` shows it.
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
}

impl Renew {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let renew = RenewLease {
            service: self.service,
            expected_generation: self.expect_generation,
            length: self.lease,
            fence: None,
        };
        let lease = client.renew_lease(&renew).await?;
        output.answer(&lease, |lease, _| format!("{}: lease renewed: {lease}\n", renew.service))
    }
}
