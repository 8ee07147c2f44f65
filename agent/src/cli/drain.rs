//! `weir drain`, `weir undrain`, `weir down`

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clap::Args;

use super::{
    change::{self, ChangeArgs},
    drains,
    fail::Failure,
    output::Output,
};
use crate::{
    client::Client,
    model::{BackendState, ServiceName, Version, Weight, drain::seconds},
    node::messages::{self, ChangeOptions, InFlight, ServiceShift, SetBackend},
};

/// Take a version or one of its backends out: it keeps the connections it has, and gets no new ones.
#[derive(Debug, Args)]
#[command(after_help = "\
`weir drains` says when it may be stopped.

Examples:
  weir drain shop canary                     canary's weight goes to blue
  weir drain shop blue --to green            blue's weight goes to green
  weir drain shop canary --timeout 10m --reset   what is left after 10 minutes is reset
  weir drain shop 10.63.0.2:80               one backend; the others of its version take its share")]
pub(super) struct Drain {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// The version, or the backend.
    #[arg(value_name = "VERSION|ADDRESS[:PORT]")]
    what: What,
    /// The version that takes the weight. Default: blue.
    #[arg(long, value_name = "VERSION")]
    to: Option<Version>,
    /// The longest that it may last, 1s to 24h, instead of what the service's spec says.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    timeout: Option<u32>,
    /// Reset the connections that are left then, some at a time.
    #[arg(long)]
    reset: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Take a backend back that was drained or taken down by hand.
#[derive(Debug, Args)]
pub(super) struct Undrain {
    #[command(flatten)]
    backend: BackendArgs,
}

/// Take a backend for dead: it gets no new connections, and its UDP flows go elsewhere at once.
#[derive(Debug, Args)]
#[command(after_help = "`weir undrain` takes it back.")]
pub(super) struct Down {
    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Debug, Args)]
struct BackendArgs {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// The backend.
    #[arg(value_name = "ADDRESS[:PORT]")]
    backend: At,
    #[command(flatten)]
    change: ChangeArgs,
}

/// An address, with a port where the backend has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At(SocketAddr);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alone = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
        let at = text.parse().or_else(|_| alone()).map_err(|_| {
            format!("{text:?} is not a backend; write ADDRESS:PORT, such as 10.63.0.2:80")
        });
        at.map(Self)
    }
}

/// What to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Version(Version),
    Backend(At),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        let at = text.parse().map(Self::Backend);
        at.map_err(|_: String| {
            format!(
                "{text:?} is neither a version (blue, green, canary) nor a backend (10.63.0.2:80)"
            )
        })
    }
}

impl Drain {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let version = match self.what {
            What::Version(version) => version,
            What::Backend(_) if self.to.is_some() || self.timeout.is_some() || self.reset => {
                return Err(Failure::Usage(
                    "--to, --timeout and --reset are for a version; how long a backend drains, the \
                     service's spec says"
                        .to_owned(),
                ));
            }
            What::Backend(at) => {
                let options = self.change.into();
                return set(client, output, self.service, at, BackendState::Draining, options)
                    .await;
            }
        };
        let to = self.to.unwrap_or(Version::Blue);
        if to == version {
            return Err(Failure::Usage(format!(
                "{version}'s weight must go to another version: name it with --to"
            )));
        }
        let on_timeout = self.reset.then_some(crate::model::OnTimeout::Reset);
        let shift = ServiceShift {
            service: self.service.clone(),
            set: vec![(version, Weight::ZERO)],
            remainder: to,
            expected_generation: None,
        };
        let options: ChangeOptions = self.change.into();
        let dry_run = options.dry_run;
        let in_flight = InFlight::Drain { timeout: self.timeout, on_timeout };
        let changed = client
            .shift(&messages::Shift { shifts: vec![shift], in_flight, lease: None, options })
            .await?;
        let status = if dry_run { Vec::new() } else { client.drains(&[self.service]).await? };
        output.answer(&changed, |changed, colour| {
            let mut text = change::render(changed, colour);
            if !status.is_empty() {
                text.push('\n');
                text.push_str(&drains::render(&status, colour));
            }
            text
        })
    }
}

impl Undrain {
    pub(super) async fn run(self, client: Client, output: Output) -> Result<(), Failure> {
        let BackendArgs { service, backend, change } = self.backend;
        set(client, output, service, backend, BackendState::Active, change.into()).await
    }
}

impl Down {
    pub(super) async fn run(self, client: Client, output: Output) -> Result<(), Failure> {
        let BackendArgs { service, backend, change } = self.backend;
        set(client, output, service, backend, BackendState::Down, change.into()).await
    }
}

async fn set(
    mut client: Client,
    output: Output,
    service: ServiceName,
    At(at): At,
    state: BackendState,
    options: ChangeOptions,
) -> Result<(), Failure> {
    let (address, port) = (at.ip(), at.port());
    let set = SetBackend { service, address, port, state, options };
    output.answer(&client.set_backend(&set).await?, change::render)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drains_is_read() {
        assert_eq!("canary".parse(), Ok(What::Version(Version::Canary)));
        let at = |text: &str| Ok(What::Backend(At(text.parse().unwrap_or(([0; 4], 0).into()))));
        assert_eq!("10.63.0.2:80".parse(), at("10.63.0.2:80"));
        assert_eq!("10.63.0.2".parse(), at("10.63.0.2:0"));
        assert_eq!("[fd00::2]:80".parse(), at("[fd00::2]:80"));
        assert_eq!("fd00::2".parse(), at("[fd00::2]:0"));
        assert!("pink".parse::<What>().is_err());
    }
}
