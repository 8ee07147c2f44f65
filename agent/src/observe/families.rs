//! All metric families, in one place: names, kinds and what they mean. `docs/metrics.md` says more.

use super::exposition::{Family, Kind};

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $help:literal;)+) => {
        $(
            #[allow(missing_docs, reason = "the help says it")]
            pub const $constant: Family =
                Family { name: $name, kind: Kind::$kind, help: $help };
        )+

        /// All of them, in the order of the text.
        pub const ALL: &[Family] = &[$($constant),+];
    };
}

families! {
    // By service and version.
    CONNECTIONS: Counter "weir_connections" "New connections: first SYNs of TCP flows, first datagrams of tracked UDP flows";
    RECEIVED_PACKETS: Counter "weir_received_packets" "Packets from clients";
    RECEIVED_BYTES: Counter "weir_received_bytes" "Bytes from clients, whole frames";
    SENT_PACKETS: Counter "weir_sent_packets" "Packets to clients";
    SENT_BYTES: Counter "weir_sent_bytes" "Bytes to clients, whole frames";
    TRACKED: Counter "weir_tracked_flows" "Flows put into a flow table";
    FALLBACK: Counter "weir_fallback_packets" "Packets of flows that kept to the old tables for want of room, by reason";
    RETRANSMISSIONS: Counter "weir_syn_retransmissions" "SYNs that came again before the handshake ended";
    HANDSHAKES: Counter "weir_handshakes" "TCP handshakes by how they ended; lost ones were lost sight of";
    RESETS: Counter "weir_resets" "RSTs after the handshake, by the side that sent them";
    EARLY_RESETS: Counter "weir_early_resets" "RSTs of servers within a second after the handshake";
    FINS: Counter "weir_fins" "FINs by the side that sent them; one that is sent again counts again";
    FAILING_CLIENTS: Counter "weir_failing_clients" "Failed connections, those of one client address within a second as one";
    STEERED: Counter "weir_steered_connections" "New connections that a steering rule led here";
    HANDSHAKE_SECONDS: Histogram "weir_handshake_seconds" "Time from the first SYN to the end of the handshake";
    OPEN: Gauge "weir_open_connections" "TCP connections that are open, about";
    WEIGHT: Gauge "weir_weight_asked_ratio" "Share of new connections that was asked for";
    TABLE_SHARE: Gauge "weir_table_share_ratio" "Share of the version table, read back from the kernel";
    OBSERVED_SHARE: Gauge "weir_observed_share_ratio" "Share of new connections that went by the table since it last changed; absent without any";
    OBSERVED_LOW: Gauge "weir_observed_share_lower_ratio" "Lower end of the 99.9 % interval of the observed share";
    OBSERVED_HIGH: Gauge "weir_observed_share_upper_ratio" "Upper end of the 99.9 % interval of the observed share";
    RELEASE: Info "weir_release" "What release runs as this version";
    DRAIN_FLOWS: Gauge "weir_drain_flows" "Remembered flows on a version that drains";
    DRAIN_AGE: Gauge "weir_drain_age_seconds" "Time since the drain of a version began";
    DRAIN_MAY_STOP: Gauge "weir_drain_may_stop" "Whether a version that drains may be stopped: 1 yes, 0 no or not known";
    DRAIN_LEFT: Gauge "weir_drain_remaining_seconds" "Time until the drain of a version is over; negative: since it was";

    // By service.
    GENERATION: Gauge "weir_service_generation" "Changes of the service, from 1";
    LEASE: Gauge "weir_lease_remaining_seconds" "Time until the lease on the weights runs out; absent without a lease";

    // By service, version and backend.
    BACKEND_CONNECTIONS: Counter "weir_backend_connections" "As weir_connections, of a backend";
    BACKEND_RECEIVED_PACKETS: Counter "weir_backend_received_packets" "As weir_received_packets, of a backend";
    BACKEND_RECEIVED_BYTES: Counter "weir_backend_received_bytes" "As weir_received_bytes, of a backend";
    BACKEND_SENT_PACKETS: Counter "weir_backend_sent_packets" "As weir_sent_packets, of a backend";
    BACKEND_SENT_BYTES: Counter "weir_backend_sent_bytes" "As weir_sent_bytes, of a backend";
    BACKEND_TRACKED: Counter "weir_backend_tracked_flows" "As weir_tracked_flows, of a backend";
    BACKEND_FALLBACK: Counter "weir_backend_fallback_packets" "As weir_fallback_packets, of a backend";
    BACKEND_RETRANSMISSIONS: Counter "weir_backend_syn_retransmissions" "As weir_syn_retransmissions, of a backend";
    BACKEND_HANDSHAKES: Counter "weir_backend_handshakes" "As weir_handshakes, of a backend";
    BACKEND_RESETS: Counter "weir_backend_resets" "As weir_resets, of a backend";
    BACKEND_EARLY_RESETS: Counter "weir_backend_early_resets" "As weir_early_resets, of a backend";
    BACKEND_FINS: Counter "weir_backend_fins" "As weir_fins, of a backend";
    BACKEND_FAILING_CLIENTS: Counter "weir_backend_failing_clients" "As weir_failing_clients, of a backend";
    BACKEND_STEERED: Counter "weir_backend_steered_connections" "As weir_steered_connections, of a backend";
    BACKEND_HANDSHAKE_SECONDS: Summary "weir_backend_handshake_seconds" "As weir_handshake_seconds, of a backend, without buckets";
    BACKEND_OPEN: Gauge "weir_backend_open_connections" "As weir_open_connections, of a backend";
    BACKEND_STATE: Gauge "weir_backend_state" "Whether a backend takes new connections: 1 for the state it is in, 0 for the others";
    BACKEND_CHECK: Gauge "weir_backend_check_up" "What the health check of a backend says: 1 up, 0 down; absent without a check";
    BACKEND_SHARE: Gauge "weir_backend_table_share_ratio" "Share of its version's backend table, read back from the kernel";
    BACKEND_RESOLVED: Gauge "weir_backend_next_hop_resolved" "Whether the agent knows the next hop; if not, the kernel looks it up for each packet";
    BACKEND_DRAIN_FLOWS: Gauge "weir_backend_drain_flows" "Remembered flows on a backend that drains or is down";
    BACKEND_DRAIN_MAY_STOP: Gauge "weir_backend_drain_may_stop" "Whether a backend that drains may be stopped: 1 yes, 0 no or not known";

    // Of the node.
    VERDICTS: Counter "weir_verdict_packets" "Packets that no service counts, or that took a way of their own, by hook, verdict and reason";
    CAPACITY_USED: Gauge "weir_capacity_used" "Use of a bounded resource";
    CAPACITY_LIMIT: Gauge "weir_capacity_limit" "Bound of a resource";
    CHECKED: Gauge "weir_checked_backends" "Backends that are health-checked";
    CHECKS_FAILING: Gauge "weir_checked_backends_down" "Backends whose health check says that they are down";
    CHECKS: Counter "weir_health_checks" "Health checks made since the agent started";
    CHECKS_WAITED: Counter "weir_health_checks_delayed" "Health checks since the agent started that had to wait for a place";
    INTERFACE: Gauge "weir_interface_attached" "Whether the program is attached to an interface that was asked for";
    EVENTS: Counter "weir_events" "Events since the agent started, by kind";
    WARNINGS: Gauge "weir_warnings" "What an operator should know: lines of warnings in `weir status`";
    NODE_GENERATION: Gauge "weir_generation" "Number of the last commit";
    EPOCH: Gauge "weir_counters_epoch_timestamp_seconds" "When the counters by version began at 0; it outlives restarts that carry them over";
    COLLECTION: Gauge "weir_collection_seconds" "Time that the look took which this text is made of";
    BUILD: Info "weir_build" "Version of the agent, of the interface to its kernel program, and of the kernel";
    START: Gauge "process_start_time_seconds" "When the agent started, since 1970";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_apart_and_helps_short() {
        let names: BTreeSet<String> = ALL.iter().map(Family::sample_name).collect();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            assert!(!family.help.ends_with('.') && family.help.len() < 120, "{family:?}");
            assert!(!family.help.contains(['\\', '\n']), "{family:?}");
            let name = family.name;
            assert!(name.starts_with("weir_") || name.starts_with("process_"), "{name}");
            assert!(!name.ends_with("_total") && !name.ends_with("_info"), "{name}");
        }
    }
}
