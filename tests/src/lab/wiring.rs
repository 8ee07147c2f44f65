//! Links, addresses, routes and kernel settings of the namespaces.

use std::iter;

use anyhow::{Context, Result};

use super::addresses::{self, CLIENT_SIDE, DIRECT_VIPS, FAR_END, Family};
use super::namespace::Namespace;
use super::{LabBuilder, Offloads};
use crate::identity::Version;

/// The namespaces of a lab.
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) clients: Namespace,
    pub(super) lb: Namespace,
    /// In the order of [`Version::ALL`].
    pub(super) versions: [Namespace; 3],
}

impl Namespaces {
    pub(super) fn version(&self, version: Version) -> &Namespace {
        let [blue, green, canary] = &self.versions;
        match version {
            Version::Blue => blue,
            Version::Green => green,
            Version::Canary => canary,
        }
    }

    fn far_ends(&self) -> impl Iterator<Item = &Namespace> {
        iter::once(&self.clients).chain(&self.versions)
    }
}

/// Joins the namespaces as planned. Links come up at once: no duplicate address detection.
pub(super) fn wire(namespaces: &Namespaces, plan: &LabBuilder) -> Result<()> {
    for namespace in namespaces.far_ends().chain([&namespaces.lb]) {
        namespace.sysctl(SETTINGS)?;
        if plan.families.contains(&Family::V6) {
            namespace.sysctl(SETTINGS_V6)?;
        }
    }
    namespaces.lb.ip(&links(namespaces))?;
    namespaces.clients.ip(&client_addresses(plan))?;
    for version in Version::ALL {
        namespaces.version(version).ip(&backend_addresses(plan, version))?;
    }
    namespaces.lb.ip(&lb_addresses(plan))?;
    namespaces.lb.sysctl(&[("net/ipv4/ip_forward", "1")])?;
    if plan.families.contains(&Family::V6) {
        namespaces.lb.sysctl(&[("net/ipv6/conf/all/forwarding", "1")])?;
    }
    if plan.offloads == Offloads::Off {
        switch_offloads_off(namespaces)?;
    }
    Ok(())
}

/// Joins a version's namespace anew, after its pair was deleted.
pub(super) fn rewire(namespaces: &Namespaces, plan: &LabBuilder, version: Version) -> Result<()> {
    let (near, far) = (addresses::version_side(version), namespaces.version(version));
    namespaces.lb.ip(&pair(near, far))?;
    far.ip(&backend_addresses(plan, version))?;
    let own = plan.families.iter().map(|&family| lb_address(family, version));
    namespaces.lb.ip(&own.collect::<Vec<_>>())?;
    if plan.offloads == Offloads::Off {
        offloads_off(&namespaces.lb, near)?;
        offloads_off(far, FAR_END)?;
    }
    Ok(())
}

/// Room for load, and rules that do not depend on the machine's own settings.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/ip_local_port_range", "1024 65535"),
    ("net/ipv4/tcp_max_syn_backlog", "16384"),
    ("net/core/somaxconn", "16384"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // Neighbours learn the address of the link, not one of the hundreds behind it.
    ("net/ipv4/conf/all/arp_announce", "2"),
    // Nobody answers for an address that another interface has, as backends that answer directly.
    ("net/ipv4/conf/all/arp_ignore", "1"),
];

const SETTINGS_V6: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
];

fn links(namespaces: &Namespaces) -> Vec<String> {
    let near_ends = iter::once(CLIENT_SIDE).chain(Version::ALL.map(addresses::version_side));
    near_ends.zip(namespaces.far_ends()).flat_map(|(near, far)| pair(near, far)).collect()
}

fn pair(near: &str, far: &Namespace) -> [String; 2] {
    [
        format!("link add {near} type veth peer name {FAR_END} netns {}", far.name()),
        format!("link set {near} up"),
    ]
}

fn client_addresses(plan: &LabBuilder) -> Vec<String> {
    let mut lines = vec![format!("link set {FAR_END} up")];
    for &family in plan.families {
        let router = addresses::client_router(family);
        lines.push(address(&format!("{router}/{}", family.link_prefix()), FAR_END, family));
        for index in 0..plan.clients {
            let client = addresses::client(family, index);
            lines.push(address(&format!("{client}/{}", family.host_prefix()), FAR_END, family));
        }
        lines.push(format!("route add default via {}", addresses::lb_for_clients(family)));
    }
    lines
}

fn backend_addresses(plan: &LabBuilder, version: Version) -> Vec<String> {
    let mut lines = vec![format!("link set {FAR_END} up")];
    for &family in plan.families {
        for index in 0..plan.backends {
            let backend = addresses::backend(family, version, index);
            lines.push(address(&format!("{backend}/{}", family.link_prefix()), FAR_END, family));
        }
        lines
            .push(format!("route add default via {}", addresses::lb_for_backends(family, version)));
        for index in (0..DIRECT_VIPS).filter(|_| plan.direct) {
            let vip = addresses::vip(family, index);
            lines.push(address(&format!("{vip}/{}", family.host_prefix()), "lo", family));
        }
    }
    lines
}

fn lb_addresses(plan: &LabBuilder) -> Vec<String> {
    let mut lines = Vec::new();
    for &family in plan.families {
        let prefix = family.link_prefix();
        lines.push(address(
            &format!("{}/{prefix}", addresses::lb_for_clients(family)),
            CLIENT_SIDE,
            family,
        ));
        for version in Version::ALL {
            lines.push(lb_address(family, version));
        }
        // More specific than this, the link's own route stays in force for the next hop itself.
        lines.push(format!(
            "route add {} via {}",
            family.clients(),
            addresses::client_router(family)
        ));
    }
    lines
}

fn lb_address(family: Family, version: Version) -> String {
    let own = addresses::lb_for_backends(family, version);
    let prefix = family.link_prefix();
    address(&format!("{own}/{prefix}"), addresses::version_side(version), family)
}

fn address(with_prefix: &str, interface: &str, family: Family) -> String {
    let usable_at_once = match family {
        Family::V4 => "",
        Family::V6 => " nodad",
    };
    format!("address add {with_prefix} dev {interface}{usable_at_once}")
}

/// Without `tx` checksums are complete, without `tso` and `gso` packets have the wire's size. With
/// `gro` a veth end polls (NAPI), which is what lets its peer send it frames of an XDP program.
fn switch_offloads_off(namespaces: &Namespaces) -> Result<()> {
    let near_ends = iter::once(CLIENT_SIDE).chain(Version::ALL.map(addresses::version_side));
    let near = near_ends.map(|interface| (&namespaces.lb, interface));
    let far = namespaces.far_ends().map(|namespace| (namespace, FAR_END));
    near.chain(far).try_for_each(|(namespace, interface)| offloads_off(namespace, interface))
}

fn offloads_off(namespace: &Namespace, interface: &str) -> Result<()> {
    let off = ["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "on"];
    namespace
        .exec("ethtool", &off)
        .context("switching offloads off for XDP (package ethtool)")
        .map(drop)
}
