//! What is remembered of UDP flows, and how the connection ids of QUIC name backends.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use weir_ebpf::abi::UDP_IDLE_SECONDS;

use super::spec::{BackendSpec, QuicSpec, ServiceSpec};
use super::{Listener, PerVersion, Protocol, VersionGroup, time};

/// The longest silence after which a UDP flow may be forgotten, in seconds.
pub const MAX_IDLE: u16 = 3_600;
/// The highest configuration; 7 stands for connection ids that name no server.
pub const MAX_CONFIG: u8 = 6;
/// The most bytes of a server id.
pub const MAX_SERVER_ID: u8 = 8;

/// What is remembered of UDP flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Udp {
    /// Each flow, from its first datagram until it is silent for long enough.
    #[default]
    Tracked,
    /// Nothing: the tables alone decide, and a shift moves flows.
    Stateless,
    /// The flows are of QUIC: an Initial opens one as a SYN does.
    Quic,
}

impl Udp {
    /// Whether it is what holds where nothing is said.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The name as written in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracked => "tracked",
            Self::Stateless => "stateless",
            Self::Quic => "quic",
        }
    }
}

impl fmt::Display for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the connection ids of a QUIC service name its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quic {
    config: u8,
    id_length: u8,
}

impl Quic {
    /// Upper three bits of a connection id's first octet, 0 to [`MAX_CONFIG`].
    #[must_use]
    pub fn config(self) -> u8 {
        self.config
    }

    /// Bytes of a server id, 1 to [`MAX_SERVER_ID`].
    #[must_use]
    pub fn id_length(self) -> u8 {
        self.id_length
    }
}

impl From<Quic> for QuicSpec {
    fn from(quic: Quic) -> Self {
        Self { config: quic.config.into(), server_id_length: quic.id_length.into() }
    }
}

/// A server id: 1 to [`MAX_SERVER_ID`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId {
    number: u64,
    length: u8,
}

impl ServerId {
    /// Reads two hexadecimal digits a byte.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let length = u8::try_from(text.len() / 2).ok()?;
        let whole = text.len().is_multiple_of(2) && (1..=MAX_SERVER_ID).contains(&length);
        if !whole || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|number| Self { number, length })
    }

    /// Its bytes as a big-endian number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }

    /// How many bytes it has.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.number, width = usize::from(self.length) * 2)
    }
}

/// Whether a service with these listeners can say so of UDP.
pub(super) fn check(udp: Udp, listeners: &[Listener]) -> Result<(), String> {
    if !udp.is_default() && !listens(listeners) {
        return Err(format!("{udp} has no meaning without a UDP listener; leave it out"));
    }
    Ok(())
}

fn listens(listeners: &[Listener]) -> bool {
    // Listeners that are wrong by themselves are not among these.
    listeners.is_empty() || listeners.iter().any(|listener| listener.protocol == Protocol::Udp)
}

/// Seconds of silence that end a flow.
pub(super) fn idle(spec: &ServiceSpec, listeners: &[Listener]) -> Result<u16, String> {
    let Some(text) = &spec.udp_idle else { return Ok(UDP_IDLE_SECONDS) };
    if !listens(listeners) {
        return Err("has no meaning without a UDP listener; leave it out".to_owned());
    }
    if spec.udp != Udp::Tracked {
        return Err(format!("has no meaning with udp: {}; leave it out", spec.udp));
    }
    let seconds = time::whole_seconds(text, (MAX_IDLE.into(), "1h"), "30s, 5m or 1h")?;
    Ok(u16::try_from(seconds).unwrap_or(MAX_IDLE))
}

/// How connection ids name backends, if they do.
pub(super) fn quic(spec: &ServiceSpec) -> Result<Option<Quic>, String> {
    let Some(QuicSpec { config, server_id_length }) = spec.quic else { return Ok(None) };
    if spec.udp != Udp::Quic {
        return Err("has no meaning without udp: quic; leave it out".to_owned());
    }
    let within = |number: u32, least: u8, most: u8| {
        u8::try_from(number).ok().filter(|number| (least..=most).contains(number))
    };
    let config = within(config, 0, MAX_CONFIG)
        .ok_or_else(|| format!("config {config} is not within 0 and {MAX_CONFIG}"))?;
    let id_length = within(server_id_length, 1, MAX_SERVER_ID).ok_or_else(|| {
        format!("server_id_length {server_id_length} is not within 1 and {MAX_SERVER_ID}")
    })?;
    Ok(Some(Quic { config, id_length }))
}

/// The server id of a backend, which it has where its service's connection ids hold them.
pub(super) fn server_id(
    spec: &BackendSpec,
    quic: Option<Quic>,
) -> Result<Option<ServerId>, String> {
    match (&spec.server_id, quic) {
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err("has no meaning without quic: { config, server_id_length }; leave it out"
                .to_owned())
        }
        (None, Some(quic)) => {
            let digits = quic.id_length * 2;
            Err(format!("is missing; name the {digits} hexadecimal digits in its connection ids"))
        }
        (Some(text), Some(quic)) => {
            let id = ServerId::from_hex(text).filter(|id| id.length == quic.id_length);
            let digits = quic.id_length * 2;
            id.map(Some).ok_or_else(|| format!("{text:?} is not {digits} hexadecimal digits"))
        }
    }
}

/// Notes server ids that two backends of a service have.
pub(super) fn compare_ids(
    versions: &PerVersion<VersionGroup>,
    path: &str,
    mut note: impl FnMut(String, String),
) {
    let mut seen = HashMap::new();
    for (version, group) in versions.iter() {
        for (index, backend) in group.backends.iter().enumerate() {
            let Some(id) = backend.server_id else { continue };
            if let Some(other) = seen.insert(id, backend.address) {
                note(
                    format!("{path}.versions.{version}.backends[{index}].server_id"),
                    format!("{id} is also that of {other}"),
                );
            }
        }
    }
}
