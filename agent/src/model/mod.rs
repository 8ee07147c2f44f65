//! What an operator asks for, as types that cannot be wrong.
//!
//! - [`spec`]: the form of the YAML file; right in shape, not yet in content
//! - [`parse`]: from spec to [`Service`], the only way to make one; names every field that is wrong
//! - [`set`]: the rules between the services of one node
//! - [`service`], [`version`], [`weight`]: the words themselves
//! - [`backend_state`]: what a backend is, beside its weight
//! - [`fence`]: who leads a service's rollout, and since when
//! - [`guard`]: limits that an agent enforces on its own
//! - [`health`]: how backends are checked, and what follows from it
//! - [`signals`]: how much is counted of handshakes
//! - [`steering`]: rules by clients' prefixes
//! - [`udp`]: what is remembered of UDP flows, and how QUIC names backends
//! - [`shift`]: the new weights that a change of some of them makes
//! - [`lease`]: weights that hold only as long as somebody renews them
//! - [`interface`]: where the program is attached
//! - [`handshakes`]: how long handshakes took
//! - [`logs`]: sums of what only logarithms are known of
//! - [`observed`]: shares as observed, with their interval
//! - [`sample_ratio`]: whether what was observed agrees with the table
//! - [`traffic`]: what was counted
//! - `time`: times as people write them
//! - [`violation`]: what is wrong with a request, by field
//!
//! All of it is pure: no clock, no disk, no kernel.

pub mod backend_state;
pub mod drain;
pub mod fence;
pub mod guard;
pub mod handshakes;
pub mod health;
pub mod interface;
pub mod lease;
pub mod logs;
pub mod observed;
pub mod parse;
pub mod sample_ratio;
pub mod service;
pub mod set;
pub mod shift;
pub mod signals;
pub mod spec;
pub mod steering;
pub mod table;
mod time;
pub mod traffic;
pub mod udp;
pub mod version;
pub mod violation;
pub mod weight;

pub use backend_state::BackendState;
pub use drain::{Drain, Draining, OnTimeout};
pub use fence::Fence;
pub use guard::Guard;
pub use handshakes::Handshakes;
pub use health::{Health, OnDown, OnEmpty};
pub use interface::{AttachMode, Hook, InterfaceSpec};
pub use lease::{LeaseLength, LeaseTerms, OnExpiry};
pub use observed::Observed;
pub use parse::parse_services;
pub use sample_ratio::{Agreement, SampleRatio};
pub use service::{
    Affinity, Backend, Family, Forwarding, Listener, Protocol, Seed, Service, ServiceName,
    VersionGroup,
};
pub use set::validate_set;
pub use shift::{ShiftError, resolve};
pub use signals::Signals;
pub use spec::{ServiceSpec, SpecFile};
pub use steering::Rule;
pub use table::TableShare;
pub use traffic::Traffic;
pub use udp::{Quic, ServerId, Udp};
pub use version::{PerVersion, Version};
pub use violation::{Violation, Violations};
pub use weight::{Weight, Weights};
