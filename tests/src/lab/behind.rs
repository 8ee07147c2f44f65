//! Hosts one hop further away: a client behind the clients' namespace, a backend behind blue's.
//! Those two then are routers, and the way between the hosts has links that neither of them knows.
//!
//! ```text
//! far --- clients --- lb --- blue --- deep
//! ```

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::addresses::{self, FAR_END, Family};
use super::{Lab, Namespace};
use crate::identity::Version;

/// A router's interface toward the host behind it.
pub const BEHIND: &str = "behind0";

/// A host behind one of the lab's namespaces.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    networks: [&'static str; 2],
}

/// The first 24 bits of each network, or 64.
const FAR: [&str; 2] = ["10.50.200.", "fd50:0:0:200::"];
const DEEP: [&str; 2] = ["10.71.0.", "fd71::"];

impl Host {
    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address.
    ///
    /// # Errors
    ///
    /// None, as long as the plan is right.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        let text = format!("{}2", self.networks[usize::from(family == Family::V6)]);
        text.parse().with_context(|| format!("the address {text}"))
    }
}

impl Lab {
    /// A client behind the clients' namespace.
    ///
    /// # Errors
    ///
    /// It cannot be made; there may be only one.
    pub fn far_client(&self) -> Result<Host> {
        self.host_behind("far", FAR, self.clients())
    }

    /// A host behind blue's namespace, to be a backend. It runs no servers.
    ///
    /// # Errors
    ///
    /// It cannot be made; there may be only one.
    pub fn deep_backend(&self) -> Result<Host> {
        let host = self.host_behind("deep", DEEP, self.version(Version::Blue))?;
        let lines = Family::ALL.map(|family| {
            let network = DEEP[usize::from(family == Family::V6)];
            let router = addresses::backend(family, Version::Blue, 0);
            format!("route add {} via {router}", prefix(network, family))
        });
        self.lb().ip(&lines)?;
        Ok(host)
    }

    fn host_behind(
        &self,
        role: &str,
        networks: [&'static str; 2],
        router: &Namespace,
    ) -> Result<Host> {
        let namespace = Namespace::create(self.name.namespace(role))?;
        let (mut near, mut far) = (
            vec![
                format!(
                    "link add {BEHIND} type veth peer name {FAR_END} netns {}",
                    namespace.name()
                ),
                format!("link set {BEHIND} up"),
            ],
            vec![format!("link set {FAR_END} up")],
        );
        for (family, network) in Family::ALL.into_iter().zip(networks) {
            let (length, nodad) = if family == Family::V4 { (24, "") } else { (64, " nodad") };
            near.push(format!("address add {network}1/{length} dev {BEHIND}{nodad}"));
            far.push(format!("address add {network}2/{length} dev {FAR_END}{nodad}"));
            far.push(format!("route add default via {network}1"));
        }
        router.ip(&near)?;
        namespace.ip(&far)?;
        router.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        Ok(Host { namespace, networks })
    }
}

/// A network with its length, as `ip` writes it.
fn prefix(network: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{network}0/24"),
        Family::V6 => format!("{network}/64"),
    }
}
