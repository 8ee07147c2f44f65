//! `weir steer`

use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;

use super::{
    change::{self, ChangeArgs},
    fail::Failure,
    output::Output,
    table::{Side::Left, Table, text, version},
};
use crate::{
    client::Client,
    model::{Rule, ServiceName, Version, spec::RuleSpec, steering::prefix},
    node::messages,
};

/// Lead the clients of a prefix to a version, whatever its weight; or list these rules.
#[derive(Debug, Args)]
#[command(after_help = "\
Of several prefixes that hold a client the longest counts. Connections that stand stay where they
are.

Examples:
  weir steer shop                                the rules of shop
  weir steer shop --add 10.9.0.0/16=canary       new connections from there go to canary
  weir steer shop --add 10.9.1.0/24=blue --remove 10.8.0.0/16   both, at one instant
  weir steer shop --remove 10.9.0.0/16 --dry-run     show what would move")]
pub(super) struct Steer {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// A rule to add, or to lead to another version. May be given more than once.
    #[arg(long, value_name = "PREFIX=VERSION")]
    add: Vec<Setting>,
    /// A prefix whose rule goes. May be given more than once.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    remove: Vec<IpNet>,
    /// List the rules, and change nothing: what happens too where none is added or removed.
    #[arg(long, conflicts_with_all = ["add", "remove"])]
    list: bool,
    /// Refuse unless the service has this generation, as `weir get` shows it.
    #[arg(long, value_name = "N")]
    expect_generation: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `10.9.0.0/16=canary`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting(Rule);

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (source, version) = text
            .split_once('=')
            .ok_or_else(|| "write PREFIX=VERSION, such as 10.9.0.0/16=canary".to_owned())?;
        let version: Version = version
            .parse()
            .map_err(|error: crate::model::version::NotAVersion| error.to_string())?;
        Ok(Self(Rule { source: prefix(source)?, version }))
    }
}

impl Steer {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        if self.list || (self.add.is_empty() && self.remove.is_empty()) {
            let rules = client.get(&self.service).await?.spec.steering;
            return output.answer(&rules, |rules, colour| render(rules, colour));
        }
        let steer = messages::Steer {
            service: self.service,
            add: self.add.iter().map(|setting| setting.0).collect(),
            remove: self.remove,
            expected_generation: self.expect_generation,
            options: self.change.into(),
        };
        output.answer(&client.steer(&steer).await?, change::render)
    }
}

/// One line a rule.
fn render(rules: &[RuleSpec], colour: bool) -> String {
    if rules.is_empty() {
        return "no rules: the weights alone decide\n".to_owned();
    }
    let mut table = Table::new(&[("SOURCE", Left), ("VERSION", Left)], colour);
    for rule in rules {
        table.row([text(&rule.source), version(rule.version)]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let read = |text: &str| {
            text.parse::<Setting>().map(|Setting(rule)| (rule.source.to_string(), rule.version))
        };
        assert_eq!(read("10.9.0.0/16=canary"), Ok(("10.9.0.0/16".into(), Version::Canary)));
        assert_eq!(read("2001:db8::/32=blue"), Ok(("2001:db8::/32".into(), Version::Blue)));
        assert_eq!(
            read("10.9.0.0/16"),
            Err("write PREFIX=VERSION, such as 10.9.0.0/16=canary".into())
        );
        assert_eq!(
            read("10.9.0.1/16=blue"),
            Err("10.9.0.1/16 has bits beyond its length; write 10.9.0.0/16".into())
        );
        assert_eq!(
            read("10.9.0.0/16=pink"),
            Err("\"pink\" is not a version; the versions are blue, green and canary".into())
        );
    }
}
