//! How a service's backends are checked, as a file says it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::whole_number;
use crate::model::health::{OnDown, OnEmpty};

/// What is asked of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckType {
    /// That it takes a connection.
    Tcp,
    /// That it answers a GET.
    Http,
    /// That its `grpc.health.v1.Health` says it serves.
    Grpc,
}

/// A service's health check. What is left out has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// What is asked.
    #[serde(rename = "type")]
    pub kind: CheckType,
    /// The port; left out, the one that the backend's packets arrive at.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole_number::maybe"
    )]
    pub port: Option<u32>,
    /// With `http`, the path; left out, `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// With `http`, the host that is asked for; left out, the backend's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// With `http`, the statuses that are well (`200-299,404`); left out, 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "statuses")]
    pub status: Option<String>,
    /// With `grpc`, the service that is asked for; left out, the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The longest time from one check to the next (`2s`); left out, 2 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// The longest time for one check; left out, 1 second, or the interval if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Good checks in a row until a backend is up; left out, 2.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole_number::maybe"
    )]
    pub rise: Option<u32>,
    /// Bad checks in a row until a backend is down; left out, 3.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole_number::maybe"
    )]
    pub fall: Option<u32>,
    /// What becomes of the old flows of a backend that is down.
    #[serde(default, skip_serializing_if = "OnDown::is_default")]
    pub on_down: OnDown,
    /// What becomes of the weight of a version that has no backend left.
    #[serde(default, skip_serializing_if = "OnEmpty::is_default")]
    pub on_empty: OnEmpty,
}

impl HealthSpec {
    /// With the default of everything else.
    #[must_use]
    pub fn new(kind: CheckType) -> Self {
        Self {
            kind,
            port: None,
            path: None,
            host: None,
            status: None,
            service: None,
            interval: None,
            timeout: None,
            rise: None,
            fall: None,
            on_down: OnDown::default(),
            on_empty: OnEmpty::default(),
        }
    }
}

/// Statuses in a file: text, a number, or a list of either. What they are, the model says.
fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(Statuses).map(Some)
}

struct Statuses;

impl<'de> de::Visitor<'de> for Statuses {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statuses: 200, 200-399 or a list of these")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut parts = Vec::new();
        while let Some(Part(part)) = list.next_element()? {
            parts.push(part);
        }
        Ok(parts.join(","))
    }
}

/// One of a list.
struct Part(String);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor).map(Self)
    }
}

struct PartVisitor;

impl de::Visitor<'_> for PartVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status (200) or a range of them (200-399)")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}
