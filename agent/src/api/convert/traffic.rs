//! What was counted, both ways.

use std::time::Duration;

use weir_proto::v1;

use crate::each_counter;
use crate::model::{Handshakes, Traffic};

macro_rules! both_ways {
    ($($field:ident),*) => {
        /// The counters as a message.
        pub(super) fn traffic(traffic: &Traffic) -> v1::Traffic {
            v1::Traffic { $($field: traffic.$field),* }
        }

        /// The counters in a message; zeros without one.
        pub(super) fn read_traffic(traffic: Option<v1::Traffic>) -> Traffic {
            let traffic = traffic.unwrap_or_default();
            Traffic { $($field: traffic.$field),* }
        }
    };
}
each_counter!(both_ways);

/// Handshakes as a message.
pub(super) fn handshakes(handshakes: &Handshakes) -> v1::Handshakes {
    v1::Handshakes {
        buckets: handshakes.buckets().to_vec(),
        sum_ns: u64::try_from(handshakes.sum().as_nanos()).unwrap_or(u64::MAX),
    }
}

/// The handshakes in a message; none without one.
pub(super) fn read_handshakes(handshakes: Option<v1::Handshakes>) -> Handshakes {
    let handshakes = handshakes.unwrap_or_default();
    Handshakes::new(handshakes.buckets, Duration::from_nanos(handshakes.sum_ns))
}
