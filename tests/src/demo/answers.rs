//! What `weir -o json` prints, as far as the demo reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use weir::model::TableShare;

use crate::identity::{Identity, Version};
use crate::lab::Lab;

/// New connections by service and backend, as the kernel counted them.
pub(super) type Connections = BTreeMap<(String, Identity), u64>;

/// Runs `weir shift` for services that are separated by commas; says how long the commit took.
pub(super) fn shift(lab: &Lab, services: &str, changes: &[String]) -> Result<Duration> {
    #[derive(Deserialize)]
    struct Changed {
        commit: Commit,
    }
    #[derive(Deserialize)]
    struct Commit {
        duration_us: u64,
    }
    let mut arguments = vec!["shift", services];
    arguments.extend(changes.iter().map(String::as_str));
    let Changed { commit } = ask(lab, &arguments)?;
    Ok(Duration::from_micros(commit.duration_us))
}

/// How the program is attached: `tcx`, or several such words if interfaces differ.
pub(super) fn attached(lab: &Lab) -> Result<String> {
    #[derive(Deserialize)]
    struct Status {
        interfaces: Vec<Interface>,
    }
    #[derive(Deserialize)]
    struct Interface {
        actual: Option<String>,
    }
    let status: Status = ask(lab, &["status"])?;
    let words = status.interfaces.into_iter();
    let words: BTreeSet<String> = words
        .map(|interface| interface.actual.unwrap_or_else(|| "not attached".to_owned()))
        .collect();
    Ok(words.into_iter().collect::<Vec<_>>().join(", "))
}

/// The shares of blue, green and canary in a service's table, read back from the kernel.
pub(super) fn tables(lab: &Lab, service: &str) -> Result<[TableShare; 3]> {
    #[derive(Deserialize)]
    struct Service {
        versions: BTreeMap<String, Status>,
    }
    #[derive(Deserialize)]
    struct Status {
        table: Table,
    }
    #[derive(Deserialize)]
    struct Table {
        slots: u32,
        total: u32,
    }
    let service: Service = ask(lab, &["get", service])?;
    Ok(Version::ALL.map(|version| {
        service
            .versions
            .get(version.name())
            .map(|status| TableShare { slots: status.table.slots, total: status.table.total })
            .unwrap_or_default()
    }))
}

/// The kernel's counters of new connections.
pub(super) fn connections(lab: &Lab) -> Result<Connections> {
    #[derive(Deserialize)]
    struct Counters {
        services: Vec<Service>,
    }
    #[derive(Deserialize)]
    struct Service {
        service: String,
        versions: BTreeMap<String, Traffic>,
    }
    #[derive(Deserialize)]
    struct Traffic {
        #[serde(default)]
        backends: Vec<Backend>,
    }
    #[derive(Deserialize)]
    struct Backend {
        address: IpAddr,
        traffic: Counts,
    }
    #[derive(Deserialize)]
    struct Counts {
        connections: u64,
    }
    let counters: Counters = ask(lab, &["counters"])?;
    let mut connections = Connections::new();
    for service in counters.services {
        for (version, traffic) in service.versions {
            let version: Version = version.parse()?;
            for backend in traffic.backends {
                let key = (service.service.clone(), Identity { version, address: backend.address });
                connections.insert(key, backend.traffic.connections);
            }
        }
    }
    Ok(connections)
}

/// The counts of one service by version.
pub(super) fn by_version(connections: &Connections, service: &str) -> [u64; 3] {
    Version::ALL.map(|version| {
        connections
            .iter()
            .filter(|((name, identity), _)| name == service && identity.version == version)
            .map(|(_, count)| count)
            .sum()
    })
}

fn ask<T: DeserializeOwned>(lab: &Lab, arguments: &[&str]) -> Result<T> {
    let text = lab.weir(&[&["--output", "json"], arguments].concat())?;
    serde_json::from_str(&text)
        .with_context(|| format!("reading what `weir {}` printed", arguments.join(" ")))
}
