//! The spec file: right in shape, not yet in content.
//!
//! ```yaml
//! services:
//!   - name: shop                      # 1 to 63 of a-z 0-9 -
//!     listeners:                      # where clients connect
//!       - { address: 10.50.0.100, port: 80, protocol: tcp }       # tcp | udp
//!     forwarding: nat                 # the default | dsr-l2 | dsr-ipip | dsr-gue
//!     gue_port: 6080                  # only with dsr-gue
//!     affinity: connection            # the default | client | client-backend
//!     udp: tracked                    # the default | stateless | quic: what is remembered of UDP flows
//!     udp_idle: 30s                   # with tracked: 1s to 1h of silence end a flow
//!     quic: { config: 0, server_id_length: 2 }   # only with udp: quic, where connection ids name backends
//!     signals: full                   # the default | basic | off: what is counted of handshakes
//!     drain: { idle: 15m, timeout: 30m, on_timeout: keep }   # keep | reset; each may be left out
//!     seed: 000102030405060708090a0b0c0d0e0f   # default: derived from the name
//!     health: { type: http, path: /healthz, interval: 2s, fall: 3 }   # how backends are checked, see below
//!     steering:                       # clients of a prefix go to a version, whatever its weight
//!       - { source: 10.9.0.0/16, version: canary }                # the longest prefix counts
//!     versions:                       # blue | green | canary
//!       blue:
//!         release: v1.41              # a free label
//!         weight: 95%                 # share of new connections
//!         backends:
//!           - { address: 10.61.0.2, port: 80 }
//!       canary:
//!         release: v1.42
//!         weight: 5%
//!         backends:
//!           - { address: 10.63.0.2, port: 80, weight: 100 }       # 0 to 1000, the default is 100
//! ```
//!
//! A version's weight is percent with up to two decimals (`5%`, `33.34%`), basis points with their unit
//! (`500bp`) or basis points as a bare number (`500`); left out it is 0. Unknown keys are refused.
//!
//! With `udp: quic` an Initial opens a flow as a SYN does. With `quic`, short headers go by the
//! plaintext server id in their connection id (draft-ietf-quic-load-balancers): its first octet has
//! `config` in its upper three bits, and the server id follows. Each backend then has its
//! `server_id: "0a1b"`, in hexadecimal digits.
//!
//! A listener with a `version` is a preview: `{ address: 10.50.0.101, port: 80, protocol: tcp, version:
//! green }` leads all its connections there, whatever weights and rules. It counts among those that rules
//! lead, and is not changed in place. With `nat` a service has one listener of a protocol, so there a
//! preview takes a direct mode, or a service of its own.
//!
//! `health` says how backends are checked; without it they are taken to be up. `type` is `tcp`, `http`
//! (with `path`, `host`, `status: 200-399`) or `grpc` (with `service`). Further keys: `port`,
//! `interval: 2s`, `timeout: 1s`, `rise: 2`, `fall: 3`, `on_down: keep | reset`,
//! `on_empty: failover | hold`.

mod health;

pub use health::{CheckType, HealthSpec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};

use super::{
    Affinity, Forwarding, OnTimeout, Protocol, Signals, Udp, Version,
    service::DEFAULT_BACKEND_WEIGHT,
    weight::{parse_bp, percent},
};

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecFile {
    /// The services to create or replace.
    pub services: Vec<ServiceSpec>,
}

/// One service, as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// The name.
    pub name: String,
    /// Where clients connect.
    pub listeners: Vec<ListenerSpec>,
    /// How packets reach the backends.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// With `dsr-gue`, the UDP port of the backends' tunnels; left out, 6080.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole_number::maybe"
    )]
    pub gue_port: Option<u32>,
    /// Which connections stay together.
    #[serde(default)]
    pub affinity: Affinity,
    /// What is remembered of UDP flows.
    #[serde(default, skip_serializing_if = "Udp::is_default")]
    pub udp: Udp,
    /// With `udp: tracked`, the silence that ends a flow (`30s`); left out, 30 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_idle: Option<String>,
    /// With `udp: quic`, how connection ids name backends; left out, they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic: Option<QuicSpec>,
    /// What is counted beside traffic.
    #[serde(default, skip_serializing_if = "Signals::is_default")]
    pub signals: Signals,
    /// How long flows that a change leaves behind are waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSpec>,
    /// How the backends are checked; left out, they are taken to be up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSpec>,
    /// 32 hexadecimal digits, or nothing to derive them from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// Which clients go to which version, whatever its weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steering: Vec<RuleSpec>,
    /// What takes the connections.
    pub versions: VersionsSpec,
}

/// How the connection ids of a QUIC service name its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuicSpec {
    /// The upper three bits of the first octet, 0 to 6.
    #[serde(deserialize_with = "whole_number::deserialize")]
    pub config: u32,
    /// Bytes of a server id, 1 to 8.
    #[serde(deserialize_with = "whole_number::deserialize")]
    pub server_id_length: u32,
}

/// How long flows that a change leaves behind are waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainSpec {
    /// The silence that ends a flow (`15m`); left out, the agent's `--drain-idle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
    /// The longest that a drain may last (`30m`); left out, it lasts until nothing is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What becomes of flows that are left then.
    #[serde(default, skip_serializing_if = "OnTimeout::is_default")]
    pub on_timeout: OnTimeout,
}

/// A steering rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// A prefix of clients' addresses.
    pub source: String,
    /// The version that their new connections go to.
    pub version: Version,
}

/// Address, port and protocol that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSpec {
    /// An IP address.
    pub address: String,
    /// A port, or 0 for every port.
    #[serde(deserialize_with = "whole_number::deserialize")]
    pub port: u32,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// All its connections go to this version, whatever the weights; left out: by the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// The versions; one that is absent has weight 0 and no backends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionsSpec {
    /// Blue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<VersionSpec>,
    /// Green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<VersionSpec>,
    /// Canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<VersionSpec>,
}

impl VersionsSpec {
    /// One version, if it is present.
    #[must_use]
    pub fn get(&self, version: Version) -> Option<&VersionSpec> {
        match version {
            Version::Blue => self.blue.as_ref(),
            Version::Green => self.green.as_ref(),
            Version::Canary => self.canary.as_ref(),
        }
    }
}

/// One version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSpec {
    /// A free label that says what runs here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// Share of new connections, in basis points.
    #[serde(default, with = "weight_text")]
    pub weight: u32,
    /// What serves this version.
    #[serde(default)]
    pub backends: Vec<BackendSpec>,
}

/// One endpoint that serves a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSpec {
    /// An IP address.
    pub address: String,
    /// A port; left out or 0 where the packet's own is kept.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "whole_number::deserialize"
    )]
    pub port: u32,
    /// Weight among the backends of the version; 0 quiesces.
    #[serde(default = "default_backend_weight", deserialize_with = "whole_number::deserialize")]
    pub weight: u32,
    /// With `quic`, its server id in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn default_backend_weight() -> u32 {
    u32::from(DEFAULT_BACKEND_WEIGHT)
}

/// A file that is not right in shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SpecError {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong there.
    pub message: String,
}

impl SpecFile {
    /// Reads the text of a file.
    pub fn parse(yaml: &str) -> Result<Self, SpecError> {
        parse(yaml)
    }
}

/// Reads YAML that people have written.
///
/// # Errors
///
/// What is wrong with its shape, and where.
pub fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, SpecError> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // A file is bounded by its size; so many backends as fit in 16 MiB shall not be refused as odd.
        budget: serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 8_000_000 },
    };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        let place = error.location();
        SpecError {
            line: place.map_or(1, |place| place.line()),
            column: place.map_or(1, |place| place.column()),
            // The formatter for users speaks of the file, not of Rust types.
            message: UserMessageFormatter.format_message(&error).into_owned(),
        }
    })
}
/// A weight in a file: percent as text, basis points as text or as a number.
mod weight_text {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        basis_points: &u32,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::percent(*basis_points))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(Visitor)
    }

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a weight: percent (5%, 33.34%) or basis points (500)")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u32, E> {
            u32::try_from(number)
                .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u32, E> {
            super::parse_bp(text).map_err(E::custom)
        }
    }
}

/// A number in a file. What its bounds are, the model says: it knows the field.
mod whole_number {
    use std::fmt;

    use serde::{Deserializer, de};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(Visitor)
    }

    /// For a field that may be left out.
    pub(super) fn maybe<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u32>, D::Error> {
        deserialize(deserializer).map(Some)
    }

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u32, E> {
            u32::try_from(number)
                .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
        }
    }
}
