//! Steering rules: clients of a prefix go to a version, whatever the weights say.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Family, Service, Version, Violation, Violations};

/// The most rules of a service, and of all services of a node together.
pub const MAX_RULES: usize = 100_000;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The clients: a prefix without bits beyond its length. The longest that holds a client counts.
    pub source: IpNet,
    /// Where their new connections go.
    pub version: Version,
}

/// Reads a prefix: `10.9.0.0/16`, `2001:db8::/32`.
///
/// # Errors
///
/// Why it is none, and what would be right.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!(
            "{text:?} has no length; for one client write {}",
            IpNet::from(address)
        ));
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!("{text:?} is not a prefix; write it as 10.9.0.0/16 or 2001:db8::/32")
    })?;
    if net != net.trunc() {
        return Err(format!("{net} has bits beyond its length; write {}", net.trunc()));
    }
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            Err(format!("{v6} is of IPv4-mapped addresses; write the IPv4 prefix"))
        }
        _ => Ok(net),
    }
}

/// What is wrong with a prefix as a source of a service's clients.
fn foreign(source: IpNet, family: Family) -> Option<String> {
    let own = Family::of(source.addr());
    (own != family).then(|| format!("{source} is {own}, but the service's listeners are {family}"))
}

/// The rules of a spec that are right, in order. Notes what is wrong with the others.
pub(super) fn rules(
    specs: &[super::spec::RuleSpec],
    family: Option<Family>,
    path: &str,
    mut note: impl FnMut(String, String),
) -> Arc<[Rule]> {
    if specs.len() > MAX_RULES {
        let message = format!("holds {}; a service takes at most {MAX_RULES}", specs.len());
        note(format!("{path}.steering"), message);
        return Arc::default();
    }
    let mut rules = Vec::with_capacity(specs.len());
    let mut seen = HashSet::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let source = prefix(&spec.source).and_then(|source| {
            if let Some(wrong) = family.and_then(|family| foreign(source, family)) {
                return Err(wrong);
            }
            if !seen.insert(source) {
                return Err(format!("{source} is listed twice"));
            }
            Ok(source)
        });
        match source {
            Ok(source) => rules.push(Rule { source, version: spec.version }),
            Err(message) => note(format!("{path}.steering[{index}].source"), message),
        }
    }
    rules.sort_unstable();
    rules.into()
}

/// The rules of a service once some are added, or lead to another version, and others removed.
/// Violations name fields of `add` and `remove`.
///
/// # Errors
///
/// A prefix is of another family, is named twice, or is removed though there is no rule for it; or
/// there would be too many.
pub fn revise(
    service: &Service,
    add: &[Rule],
    remove: &[IpNet],
) -> Result<Arc<[Rule]>, Vec<Violation>> {
    let mut violations = Violations::default();
    if add.is_empty() && remove.is_empty() {
        violations.push("add", "is empty, and so is remove; name at least one prefix");
    }
    let mut rules: BTreeMap<IpNet, Version> =
        service.steering().iter().map(|rule| (rule.source, rule.version)).collect();
    let mut named = HashSet::new();
    for (index, source) in remove.iter().enumerate() {
        let field = format!("remove[{index}]");
        if !named.insert(*source) {
            violations.push(field, format!("{source} is named twice"));
        } else if rules.remove(source).is_none() {
            violations.push(field, format!("there is no rule for {source}"));
        }
    }
    for (index, rule) in add.iter().enumerate() {
        let field = format!("add[{index}].source");
        if !named.insert(rule.source) {
            violations.push(field, format!("{} is named twice", rule.source));
        } else if let Some(wrong) = foreign(rule.source, service.family()) {
            violations.push(field, wrong);
        }
        rules.insert(rule.source, rule.version);
    }
    if rules.len() > MAX_RULES {
        let message =
            format!("would make {} rules; a service takes at most {MAX_RULES}", rules.len());
        violations.push("add", message);
    }
    violations.into_result()?;
    Ok(rules.into_iter().map(|(source, version)| Rule { source, version }).collect())
}
