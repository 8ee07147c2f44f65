//! The agents file: which agents a coordinator works with, and where they listen.
//!
//! ```yaml
//! agents:
//!   - { name: lb1, address: "unix:/run/weir/weir.sock" }
//!   - { name: lb2, address: "https://10.0.0.2:7443" }
//! ```

use std::{collections::HashSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{model::spec, rollout::name::AgentName};

/// The most agents of a coordinator.
pub const MAX_AGENTS: usize = 1_024;

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What it is called in rollouts.
    pub name: AgentName,
    /// Where it listens.
    pub address: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agents: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    address: String,
}

/// Reads an agents file.
///
/// # Errors
///
/// What is wrong, with its place.
pub fn parse(text: &str) -> Result<Vec<Agent>, String> {
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
        let address =
            address(&entry.address).map_err(|wrong| format!("{}: {wrong}", field("address")))?;
        agents.push(Agent { name, address });
    }
    Ok(agents)
}

/// `unix:/run/weir/weir.sock`, or the path alone.
fn address(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(format!("{text:?} is not an address; write it as unix:/run/weir/weir.sock"))
}
