//! `weir shift`

use std::str::FromStr;

use clap::Args;

use super::{change::ChangeArgs, fail::Failure, output::Output, verify::VerifyArgs};
use crate::{
    client::Client,
    model::{LeaseLength, LeaseTerms, OnExpiry, ServiceName, Version, Weight, drain::seconds},
    node::messages::{self, InFlight, ServiceShift},
};

/// Change the weights of one or many services, in one atomic commit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir shift shop canary=5%                  5% to canary; blue gives or takes the rest
  weir shift shop green=100%                 everything to green
  weir shift shop blue=90% --from canary     canary gives or takes the rest
  weir shift shop,api canary=5%              the same change to two services, at one instant
  weir shift shop canary=0% --in-flight reset   nothing to canary any more, not even its connections
  weir shift shop canary=25% --dry-run       show what would move
  weir shift shop canary=25% --verify        wait until new connections are shared so, at most 10s
  weir shift shop canary=5% --lease 60s --on-expiry revert
                                             back to what was, unless `weir renew` comes in time")]
pub(super) struct Shift {
    /// The service; several with commas between them make the same change in one commit.
    #[arg(value_name = "SERVICE[,SERVICE...]")]
    services: Services,
    /// A version's new weight: percent (5%, 33.34%) or basis points (500bp).
    #[arg(required = true, value_name = "VERSION=WEIGHT")]
    set: Vec<Setting>,
    /// The version that gives or takes the rest.
    #[arg(long, default_value = "blue", value_name = "VERSION")]
    from: Version,
    /// Refuse unless the service has this generation, as `weir get` shows it. For one service.
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
    /// The new weights hold only as long as `weir renew` comes before this time has passed, 1s to 24h.
    /// A shift without it ends the lease that the service has.
    #[arg(long, value_name = "TIME")]
    lease: Option<LeaseLength>,
    /// What happens when nobody renews: hold (the weights stay) or revert (they go back to what they
    /// were before the lease, or before the first of leases that followed each other).
    #[arg(long, requires = "lease", default_value_t, value_name = "WHAT")]
    on_expiry: OnExpiry,
    #[command(flatten)]
    in_flight: InFlightArgs,
    #[command(flatten)]
    verify: VerifyArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What becomes of connections of versions that are left without weight.
#[derive(Debug, Args)]
pub(super) struct InFlightArgs {
    /// What becomes of the connections of versions that lose all their weight. Without it, what the service's spec says
    /// of drains.
    #[arg(long, value_enum, value_name = "WHAT")]
    in_flight: Option<Action>,
    /// With `--in-flight drain`, the longest that they stay, 1s to 24h, instead of what the spec says.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    timeout: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// They stay for as long as they last.
    Keep,
    /// They stay for as long as the spec's drain.timeout says.
    Drain,
    /// They are given up at once, and reset.
    Reset,
}

impl InFlightArgs {
    /// What was asked for.
    pub(super) fn read(&self) -> Result<InFlight, Failure> {
        let timeout = self.timeout;
        match self.in_flight {
            Some(Action::Drain) => Ok(InFlight::Drain { timeout, on_timeout: None }),
            _ if timeout.is_some() => {
                Err(Failure::Usage("--timeout is for --in-flight drain".to_owned()))
            }
            None => Ok(InFlight::BySpec),
            Some(Action::Keep) => Ok(InFlight::Keep),
            Some(Action::Reset) => Ok(InFlight::Reset),
        }
    }
}

/// `shop,api`
#[derive(Debug, Clone, PartialEq, Eq)]
struct Services(Vec<ServiceName>);

impl FromStr for Services {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(ServiceName::new).collect::<Result<_, _>>().map(Self)
    }
}

/// `canary=5%`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting(pub(super) Version, pub(super) Weight);

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, weight) = text
            .split_once('=')
            .ok_or_else(|| "write VERSION=WEIGHT, such as canary=5%".to_owned())?;
        Ok(Self(
            version
                .parse()
                .map_err(|error: crate::model::version::NotAVersion| error.to_string())?,
            weight.parse()?,
        ))
    }
}

impl Shift {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        if self.expect_generation.is_some() && self.services.0.len() > 1 {
            return Err(Failure::Usage("--expect-generation is for one service".to_owned()));
        }
        let in_flight = self.in_flight.read()?;
        let set: Vec<_> = self.set.iter().map(|setting| (setting.0, setting.1)).collect();
        let shift = |service| ServiceShift {
            service,
            set: set.clone(),
            remainder: self.from,
            expected_generation: self.expect_generation,
        };
        let shifts = self.services.0.into_iter().map(shift).collect();
        let on_expiry = self.on_expiry;
        let lease = self.lease.map(|length| LeaseTerms { length, on_expiry });
        let shift = messages::Shift { shifts, in_flight, lease, options: self.change.into() };
        let changed = client.shift(&shift).await?;
        self.verify.finish(&mut client, &changed, output).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read() {
        let read = |text: &str| text.parse::<Services>().map(|services| services.0.len());
        assert_eq!(read("shop"), Ok(1));
        assert_eq!(read("shop,api"), Ok(2));
        assert_eq!(read("shop,"), Err("is empty; a service needs a name".into()));
    }

    #[test]
    fn settings_are_read() {
        let read = |text: &str| text.parse::<Setting>().map(|setting| (setting.0, setting.1.bp()));
        assert_eq!(read("canary=5%"), Ok((Version::Canary, 500)));
        assert_eq!(read("green=33.34%"), Ok((Version::Green, 3_334)));
        assert_eq!(read("canary"), Err("write VERSION=WEIGHT, such as canary=5%".into()));
        assert_eq!(
            read("pink=5%"),
            Err("\"pink\" is not a version; the versions are blue, green and canary".into())
        );
        assert_eq!(read("canary=5"), Err("\"5\" has no unit; write 5% or 5bp".into()));
        assert_eq!(read("canary=101%"), Err("101% is more than 100%".into()));
    }
}
