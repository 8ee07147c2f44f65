//! Taking up what pinned maps hold: the services, where their tables lie, and who listens. Sets of
//! steering entries that no service names are removed.

use std::ops::Range;
use std::sync::Arc;

use aya::maps::MapError;
use weir_ebpf::abi::{
    Endpoint, Link, MAX_LINKS, MAX_SERVICES, NO_BACKEND, Return, Service, VERSION_LINES,
};

use super::load::LoadError;
use super::{Kernel, Live};
use crate::causes::causes;
use crate::dataplane::DataPlane as _;
use crate::plan::steering::Steering;

fn unreadable(map: &'static str) -> impl Fn(MapError) -> LoadError {
    move |error| LoadError::Map { map, reason: causes(&error) }
}

impl Kernel {
    /// Reads what the maps hold. New maps hold nothing.
    pub(super) fn recover(&mut self) -> Result<(), LoadError> {
        let mut sets = self.steering.read().map_err(unreadable("STEERING"))?;
        for index in 0..MAX_SERVICES {
            if let Some(record) = self.root.record(index).map_err(unreadable("SERVICES"))? {
                let entries = sets.remove(&record.steering).unwrap_or_default();
                self.recover_service(index, record, Steering::new(entries))?;
            }
        }
        for (set, entries) in sets {
            let count = entries.len();
            tracing::info!(count, "removed steering entries that no service has");
            self.steering.remove(set, &Steering::new(entries));
        }
        self.endpoints = self.root.listeners();
        for entry in &self.returns {
            let (endpoint, back): (Endpoint, Return) = entry.map_err(unreadable("RETURNS"))?;
            self.ways_back.insert(endpoint, back);
        }
        for entry in &self.server_ids {
            let (id, backend) = entry.map_err(unreadable("SERVER_IDS"))?;
            self.servers.insert(id, u16::try_from(backend).unwrap_or(NO_BACKEND));
        }
        for index in 1..MAX_LINKS {
            let link: Link = self.links.get(&index, 0).map_err(unreadable("LINKS"))?;
            if link.ifindex == 0 {
                break;
            }
            self.known_links.push(link);
        }
        Ok(())
    }

    fn recover_service(
        &mut self,
        index: u32,
        record: Service,
        steering: Steering,
    ) -> Result<(), LoadError> {
        let damaged = |reason: String| LoadError::Map { map: "POOL", reason };
        let tables = self
            .tables(index)
            .map_err(|error| damaged(error.to_string()))?
            .ok_or_else(|| damaged(format!("service {index} has no tables")))?;
        let run = |start: u32, lines: u32| start..start + lines;
        let mut backend_runs: [Range<u32>; 3] = Default::default();
        for (version, place) in backend_runs.iter_mut().enumerate() {
            *place = run(
                record.backend_table[version],
                u32::from(record.backend_mask[version]) / 16 + 1,
            );
        }
        let version_run = run(record.version_table, VERSION_LINES);
        let (tables, steering) = (Arc::new(tables), Arc::new(steering));
        let live = Live { record, tables, steering, version_run, backend_runs };
        for run in live.runs() {
            if !self.pool.claim(run) {
                return Err(damaged(format!(
                    "lines {}..{} belong to two tables; run `weir detach` to start anew",
                    run.start, run.end
                )));
            }
        }
        self.live.insert(index, live);
        Ok(())
    }
}
