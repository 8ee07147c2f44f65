//! What was counted of a backend, from the data plane.

use std::time::Duration;

use weir_ebpf::abi;

use crate::dataplane::DataPlane;
use crate::model::{Handshakes, Traffic};
use crate::store::StoredCounts;

/// What was counted of a backend, or of all that a version had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counted {
    pub(super) traffic: Traffic,
    pub(super) handshakes: Handshakes,
}

impl Counted {
    /// What the data plane has counted of a backend.
    pub(super) fn of(plane: &impl DataPlane, backend: u16) -> Self {
        Self { traffic: traffic_of(plane, backend), handshakes: plane.handshakes(backend) }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.traffic.add(&other.traffic);
        self.handshakes.add(&other.handshakes);
    }
}

/// The same without its handshakes' times, of which there are many numbers.
pub(super) fn traffic_of(plane: &impl DataPlane, backend: u16) -> Traffic {
    traffic(&plane.counters(backend), &plane.signals(backend))
}

fn traffic(counters: &abi::Counters, signals: &abi::Signals) -> Traffic {
    Traffic {
        connections: counters.connections,
        packets_in: counters.packets_in,
        bytes_in: counters.bytes_in,
        packets_out: counters.packets_out,
        bytes_out: counters.bytes_out,
        tracked: counters.tracked,
        fallback_full: counters.fallback_full,
        fallback_flood: counters.fallback_flood,
        retransmissions: signals.retransmissions,
        established: signals.established,
        refused: signals.refused,
        unanswered: signals.unanswered,
        abandoned: signals.abandoned,
        lost_samples: signals.lost_samples,
        resets_in: signals.resets_in,
        resets_out: signals.resets_out,
        early_resets: signals.early_resets,
        fins_in: signals.fins_in,
        fins_out: signals.fins_out,
        failing_clients: signals.failing_clients,
        steered: signals.steered,
    }
}

impl From<&Counted> for StoredCounts {
    fn from(counted: &Counted) -> Self {
        Self {
            traffic: counted.traffic,
            handshakes: counted.handshakes.buckets().to_vec(),
            handshake_ns: u64::try_from(counted.handshakes.sum().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl From<&StoredCounts> for Counted {
    fn from(stored: &StoredCounts) -> Self {
        let sum = Duration::from_nanos(stored.handshake_ns);
        let handshakes = Handshakes::new(stored.handshakes.clone(), sum);
        Self { traffic: stored.traffic, handshakes }
    }
}
