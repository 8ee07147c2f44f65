//! The agents file: which agents a coordinator works with, and where they listen.
//!
//! ```yaml
//! agents:
//!   - { name: lb1, address: "unix:/run/weir/weir.sock" }
//!   - { name: lb2, address: "https://10.0.0.2:7443", tlsName: lb2.example }
//! ```
//!
//! `tlsName` is the name that the agent's certificate must have, where that is not the host.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{client::Address, model::spec, rollout::name::AgentName, tls::Files};

/// The most agents of a coordinator.
pub const MAX_AGENTS: usize = 1_024;

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What it is called in rollouts.
    pub name: AgentName,
    /// Where it listens.
    pub address: Address,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agents: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    address: String,
    #[serde(default)]
    tls_name: Option<String>,
}

/// Reads an agents file. Addresses over TLS take `files`.
///
/// # Errors
///
/// What is wrong, with its place.
pub fn parse(text: &str, files: Option<&Files>) -> Result<Vec<Agent>, String> {
    let file: File = spec::parse(text).map_err(|error| error.to_string())?;
    if file.agents.is_empty() {
        return Err("agents: is empty; name at least one agent".to_owned());
    }
    if file.agents.len() > MAX_AGENTS {
        return Err(format!(
            "agents: holds {}; at most {MAX_AGENTS} are allowed",
            file.agents.len()
        ));
    }
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    let mut agents = Vec::with_capacity(file.agents.len());
    for (index, entry) in file.agents.into_iter().enumerate() {
        let field = |name: &str| format!("agents[{index}].{name}");
        let name =
            AgentName::new(&entry.name).map_err(|wrong| format!("{}: {wrong}", field("name")))?;
        if !names.insert(name.clone()) {
            return Err(format!("{}: {name} is listed twice", field("name")));
        }
        if !addresses.insert(entry.address.clone()) {
            return Err(format!("{}: {} is listed twice", field("address"), entry.address));
        }
        let address = Address::parse(&entry.address, files, entry.tls_name.as_deref())
            .map_err(|wrong| format!("{}: {wrong}", field("address")))?;
        agents.push(Agent { name, address });
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn a_file_names_agents_and_where_they_listen() {
        let text = r#"agents: [{ name: lb1, address: "unix:/run/a.sock" }, { name: lb2, address: "unix:/run/b.sock" }]"#;
        let agents = parse(text, None).unwrap();
        assert_eq!(agents[1].name.as_str(), "lb2");
        assert_eq!(agents[1].address, Address::from("/run/b.sock"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |entries: &str| parse(&format!("agents: [{entries}]"), None).unwrap_err();
        let one = r#"{ name: a, address: "unix:/a" }"#;
        for (entries, message) in [
            ("", "agents: is empty"),
            (r#"{ name: "-", address: "unix:/a" }"#, "agents[0].name: \"-\" is not the name"),
            (&format!("{one}, {one}"), "agents[1].name: a is listed twice"),
            (
                &format!(r#"{one}, {{ name: b, address: "unix:/a" }}"#),
                "agents[1].address: unix:/a is listed twice",
            ),
            ("{ name: a, address: here }", "agents[0].address: \"here\" is neither"),
            (r#"{ name: a, address: "https://a:1" }"#, "takes --tls-cert"),
            ("{ name: a, adress: b }", "adress"),
        ] {
            let said = wrong(entries);
            assert!(said.contains(message), "{entries}: {said}");
        }
    }
}
