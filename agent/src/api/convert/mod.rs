//! Between `weir.v1` and the node's messages.
//!
//! Requests are checked on their way in and collect violations; answers are checked on their way out of the wire
//! (in the client) and are [`Malformed`] if a field does not hold what this version knows.

pub mod answer;
pub mod drain;
pub mod events;
pub mod guard;
mod health;
pub mod interval;
pub mod lease;
pub mod read;
pub mod request;
pub mod spec;
pub mod trace;
mod traffic;

use weir_proto::v1;

use crate::model::{OnTimeout, Protocol, Version};

/// An answer that this version does not understand; names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the agent's answer holds something unknown in {0}: are agent and command line of the same version?"
)]
pub struct Malformed(pub &'static str);

/// The version, unless it is unspecified or unknown.
fn version(number: i32) -> Option<Version> {
    match v1::Version::try_from(number).ok()? {
        v1::Version::Unspecified => None,
        v1::Version::Blue => Some(Version::Blue),
        v1::Version::Green => Some(Version::Green),
        v1::Version::Canary => Some(Version::Canary),
    }
}

fn version_number(version: Version) -> i32 {
    match version {
        Version::Blue => v1::Version::Blue,
        Version::Green => v1::Version::Green,
        Version::Canary => v1::Version::Canary,
    }
    .into()
}

/// The protocol, unless it is unspecified or unknown.
fn protocol(number: i32) -> Option<Protocol> {
    match v1::Protocol::try_from(number).ok()? {
        v1::Protocol::Unspecified => None,
        v1::Protocol::Tcp => Some(Protocol::Tcp),
        v1::Protocol::Udp => Some(Protocol::Udp),
    }
}

/// What happens at the end of a drain's time, unless the number is unknown.
fn on_timeout(number: i32) -> Option<OnTimeout> {
    match v1::OnTimeout::try_from(number).ok()? {
        v1::OnTimeout::Unspecified | v1::OnTimeout::Keep => Some(OnTimeout::Keep),
        v1::OnTimeout::Reset => Some(OnTimeout::Reset),
    }
}

fn on_timeout_number(on_timeout: OnTimeout) -> i32 {
    match on_timeout {
        OnTimeout::Keep => v1::OnTimeout::Keep,
        OnTimeout::Reset => v1::OnTimeout::Reset,
    }
    .into()
}
