//! What was counted.

use serde::{Deserialize, Serialize};

/// Everything that is counted, in one list: the names are those of `weir.proto`, of `-o json`, of the
/// store and of the metrics. Calls `$then` with them.
#[macro_export]
macro_rules! each_counter {
    ($then:ident) => {
        $then! {
            connections, packets_in, bytes_in, packets_out, bytes_out, tracked, fallback_full,
            fallback_flood, retransmissions, established, refused, unanswered, abandoned,
            lost_samples, resets_in, resets_out, early_resets, fins_in, fins_out, failing_clients,
            steered
        }
    };
}

macro_rules! traffic {
    ($($field:ident),*) => {
        /// What was counted in the kernel; `weir.proto` says when each grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[allow(missing_docs, reason = "the names say it; weir.proto says it exactly")]
        pub struct Traffic { $(pub $field: u64),* }

        impl Traffic {
            /// The names of the counters, in the order of [`Traffic::values`].
            pub const NAMES: &[&'static str] = &[$(stringify!($field)),*];

            /// All counters.
            #[must_use]
            pub const fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),*]
            }

            /// Adds what another has counted.
            pub const fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            /// What was counted since `earlier`; never less than nothing.
            #[must_use]
            pub const fn since(&self, earlier: &Self) -> Self {
                Self { $($field: self.$field.saturating_sub(earlier.$field)),* }
            }
        }
    };
}
each_counter!(traffic);

impl Traffic {
    /// Connections that are open now, about: those established, less those that ended by a FIN or a
    /// reset. A FIN is counted on either side, and again when it is sent again; the side with more of
    /// them is taken. A reset after a FIN counts as a second end. So this is a little too low where
    /// clients reset what they have closed, and too high by those that fell silent.
    #[must_use]
    pub const fn open(&self) -> u64 {
        let fins = if self.fins_in > self.fins_out { self.fins_in } else { self.fins_out };
        let resets = self.resets_in + self.resets_out;
        self.established.saturating_sub(fins).saturating_sub(resets)
    }

    /// The share of handshakes with a known end that were established: nothing if there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    pub fn success(&self) -> Option<f64> {
        let ended = self.established + self.refused + self.unanswered;
        (ended > 0).then(|| self.established as f64 / ended as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences() {
        let mut sum = Traffic { connections: 2, steered: 1, ..Traffic::default() };
        let more = Traffic { connections: 5, refused: 1, ..Traffic::default() };
        sum.add(&more);
        assert_eq!((sum.connections, sum.refused, sum.steered), (7, 1, 1));
        assert_eq!(sum.since(&more).connections, 2);
        assert_eq!(more.since(&sum).connections, 0);
        assert_eq!(Traffic::NAMES[0], "connections");
        assert_eq!(sum.values()[0], 7);
    }

    #[test]
    fn success_is_of_handshakes_that_have_ended() {
        assert_eq!(Traffic::default().success(), None);
        let some = Traffic { established: 3, refused: 1, connections: 9, ..Traffic::default() };
        assert_eq!(some.success(), Some(0.75));
    }

    #[test]
    fn what_ended_is_not_open() {
        let none = Traffic::default();
        let some = Traffic { established: 9, fins_in: 2, fins_out: 3, resets_in: 1, ..none };
        assert_eq!(some.open(), 5);
        assert_eq!(Traffic { fins_in: 4, ..none }.open(), 0);
    }
}
