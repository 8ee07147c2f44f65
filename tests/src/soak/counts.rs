//! The agent's counters, watched: none may fall, and at the end they are exact.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use weir::node::messages::Traffic;

use super::deaths::is_mortal;
use crate::node::{Node, fields};

const WATCHED: [&str; 4] = ["web4", "web6", "echo4", "echo6"];
/// Of a flood the servers see connections that never are.
const FLOODED: &str = "echo4";

/// Counters of backends by service.
type All = BTreeMap<(&'static str, IpAddr), Traffic>;

pub(super) struct Counts {
    last: All,
    /// What fell.
    fell: Vec<String>,
}

impl Counts {
    pub(super) fn start(node: &mut Node) -> Result<Self> {
        Ok(Self { last: read(node)?, fell: Vec::new() })
    }

    /// Compares with the look before.
    pub(super) fn look(&mut self, node: &mut Node) -> Result<()> {
        let now = read(node)?;
        for (of, was) in &self.last {
            let is = now.get(of).copied().unwrap_or_default();
            if fields(was).into_iter().zip(fields(&is)).any(|(was, is)| was > is) {
                self.fell.push(format!("counters of {of:?} fell from {was:?} to {is:?}"));
            }
        }
        self.last = now;
        Ok(())
    }

    /// Compares the connections that were counted with those that the servers have taken. A SYN that
    /// was sent again is one connection for the server and may be two for weir, which remembers
    /// nothing in the steady state.
    pub(super) fn verify(mut self, node: &mut Node) -> Result<Vec<String>> {
        let served: BTreeMap<IpAddr, (u64, u64)> = node
            .lab()
            .served()
            .iter()
            .map(|(who, served)| (who.address, (served.http_connections, served.echo_connections)))
            .collect();
        let again = node.lab().retransmitted_syns()?;
        let mut more = 0;
        let exact = read(node)?.into_iter().filter(|((service, address), _)| {
            // Nobody counts what has come to the dead.
            *service != FLOODED && !is_mortal(node.lab(), *address)
        });
        let exact: Vec<_> = exact.collect();
        for ((service, address), traffic) in exact {
            let (http, echo) = served.get(&address).copied().unwrap_or_default();
            let taken = if service.starts_with("web") { http } else { echo };
            match traffic.connections.checked_sub(taken) {
                Some(difference) => more += difference,
                None => self.fell.push(format!(
                    "{service} at {address}: counted {}, served {taken}",
                    traffic.connections
                )),
            }
        }
        if more > again {
            self.fell.push(format!(
                "{more} connections were counted that no server saw; {again} SYNs were sent again"
            ));
        }
        Ok(self.fell)
    }
}

fn read(node: &mut Node) -> Result<All> {
    let mut all = All::new();
    for service in WATCHED {
        let traffic = node.traffic(service)?;
        all.extend(traffic.into_iter().map(|(address, traffic)| ((service, address), traffic)));
    }
    Ok(all)
}
