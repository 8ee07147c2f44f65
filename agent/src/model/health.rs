//! How a service's backends are checked, and what follows from it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{CheckType, HealthSpec};
use super::{Backend, Listener, PerVersion, VersionGroup};

/// The shortest time from one check of a backend to the next.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// The most checks in a row that a change of state may take.
pub const MAX_IN_A_ROW: u8 = 100;
/// The most characters of a path.
pub const MAX_PATH: usize = 1024;
/// The most characters of a host, and of a gRPC service.
pub const MAX_HOST: usize = 255;
/// The most ranges of statuses.
pub const MAX_RANGES: usize = 16;

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const RISE: u8 = 2;
const FALL: u8 = 3;
const STATUS: &str = "200-399";

/// What becomes of the old flows of a backend that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They stay: a check that fails is no proof of death.
    #[default]
    Keep,
    /// They are given up: the next packet of each reaches a backend that does not know it.
    Reset,
}

/// What becomes of the weight of a version that has no backend left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// The other versions take it, in proportion to theirs.
    #[default]
    Failover,
    /// It stays.
    Hold,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls them so")]
impl OnDown {
    /// Whether it is what holds where nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls them so")]
impl OnEmpty {
    /// Whether it is what holds where nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Statuses of HTTP that are well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Reads `200`, `200-399`, or several of these with commas between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let text = text.trim();
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            let status = |text: &str| {
                let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|status| digits && (100..=599).contains(status))
            };
            let range = (status(low)?, status(high)?);
            (range.0 <= range.1).then_some(range)
        };
        let ranges: Option<Vec<_>> = text.split(',').take(MAX_RANGES + 1).map(one).collect();
        match ranges {
            Some(ranges) if ranges.len() <= MAX_RANGES => Ok(Self(ranges)),
            Some(_) => Err(format!("holds more than {MAX_RANGES} ranges")),
            None => Err(format!(
                "{text:?} is not statuses from 100 to 599; write 200, 200-399 or 200-299,404"
            )),
        }
    }

    /// Whether a status is among them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (low, high)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            if low == high { write!(f, "{low}")? } else { write!(f, "{low}-{high}")? }
        }
        Ok(())
    }
}

/// What is asked of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Check {
    /// That it takes a connection.
    Tcp,
    /// That it answers a GET.
    Http {
        /// Begins with `/`.
        path: String,
        /// What the request says of the host; without it, the backend's address and port.
        host: Option<String>,
        /// What it must answer.
        status: Statuses,
    },
    /// That its `grpc.health.v1.Health` says it serves.
    Grpc {
        /// The service that is asked for; empty: the server as a whole.
        service: String,
    },
}

/// How the backends of a service are checked. Every backend has a port to be checked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    check: Check,
    port: Option<u16>,
    /// The port that packets of backends without one arrive at.
    arrival: Option<u16>,
    interval: Duration,
    timeout: Duration,
    rise: u8,
    fall: u8,
    on_down: OnDown,
    on_empty: OnEmpty,
}

impl Health {
    /// What is asked.
    #[must_use]
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// The port to check a backend at that has this one; 0 where neither says one, which no service
    /// has.
    #[must_use]
    pub fn port(&self, backend: u16) -> u16 {
        let own = Some(backend).filter(|port| *port != 0);
        self.port.or(own).or(self.arrival).unwrap_or(0)
    }

    /// The longest time from one check to the next, [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The longest time for one check, at most the interval.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Good checks in a row until a backend is up, 1 to [`MAX_IN_A_ROW`].
    #[must_use]
    pub fn rise(&self) -> u8 {
        self.rise
    }

    /// Bad checks in a row until a backend is down, 1 to [`MAX_IN_A_ROW`].
    #[must_use]
    pub fn fall(&self) -> u8 {
        self.fall
    }

    /// What becomes of the old flows of a backend that is down.
    #[must_use]
    pub fn on_down(&self) -> OnDown {
        self.on_down
    }

    /// What becomes of the weight of a version that has no backend left.
    #[must_use]
    pub fn on_empty(&self) -> OnEmpty {
        self.on_empty
    }
}

impl From<&Health> for HealthSpec {
    /// The spec that makes the same again. What is as by default is left out.
    fn from(health: &Health) -> Self {
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let kind = match &health.check {
            Check::Tcp => CheckType::Tcp,
            Check::Http { .. } => CheckType::Http,
            Check::Grpc { .. } => CheckType::Grpc,
        };
        let mut spec = Self {
            port: health.port.map(u32::from),
            interval: (health.interval != INTERVAL).then(|| time(health.interval)),
            timeout: (health.timeout != TIMEOUT.min(health.interval)).then(|| time(health.timeout)),
            rise: (health.rise != RISE).then_some(health.rise.into()),
            fall: (health.fall != FALL).then_some(health.fall.into()),
            on_down: health.on_down,
            on_empty: health.on_empty,
            ..Self::new(kind)
        };
        match &health.check {
            Check::Tcp => {}
            Check::Http { path, host, status } => {
                spec.path = Some(path.clone()).filter(|path| path != "/");
                spec.host.clone_from(host);
                spec.status = Some(status.to_string()).filter(|status| status != STATUS);
            }
            Check::Grpc { service } => {
                spec.service = Some(service.clone()).filter(|service| !service.is_empty());
            }
        }
        spec
    }
}

/// The check of a service with these listeners and backends. `note` is told each field that is wrong.
pub(super) fn health(
    spec: &HealthSpec,
    listeners: &[Listener],
    versions: &PerVersion<VersionGroup>,
    mut note: impl FnMut(&str, String),
) -> Option<Arc<Health>> {
    let mut right = true;
    let mut wrong = |field: &str, message: String| {
        right = false;
        note(field, message);
    };
    let check = check(spec, &mut wrong);
    let port = spec.port.and_then(|asked| {
        let port = u16::try_from(asked).ok().filter(|port| *port != 0);
        if port.is_none() {
            wrong("port", format!("{asked} is not a port; a port is 1 to 65535"));
        }
        port
    });
    let arrival = arrival(listeners);
    let portless = |backend: &Backend| backend.port == 0;
    let mut backends = versions.iter().flat_map(|(_, group)| &group.backends);
    if spec.port.is_none() && arrival.is_none() && backends.any(portless) {
        let message = "is missing; backends have no port of their own here, so say which to check";
        wrong("port", message.to_owned());
    }
    let within = MIN_INTERVAL..=MAX_INTERVAL;
    let interval = time(spec.interval.as_deref(), INTERVAL).and_then(|time| {
        let text = spec.interval.as_deref().unwrap_or_default();
        if within.contains(&time) {
            Ok(time)
        } else {
            Err(format!("{text} is not within 100ms and 1h"))
        }
    });
    let interval = interval.map_err(|message| wrong("interval", message)).ok();
    let longest = interval.unwrap_or(MAX_INTERVAL);
    let timeout = time(spec.timeout.as_deref(), TIMEOUT.min(longest)).and_then(|time| {
        let text = spec.timeout.as_deref().unwrap_or_default();
        match time {
            time if time.is_zero() => Err(format!("{text} leaves no time for an answer")),
            time if time > longest => Err(format!(
                "{text} is longer than the interval, {}",
                humantime::format_duration(longest)
            )),
            time => Ok(time),
        }
    });
    let timeout = timeout.map_err(|message| wrong("timeout", message)).ok();
    let mut in_a_row = |field: &str, asked: Option<u32>, default: u8| {
        let Some(asked) = asked else { return default };
        let number = u8::try_from(asked).ok().filter(|number| (1..=MAX_IN_A_ROW).contains(number));
        number.unwrap_or_else(|| {
            wrong(field, format!("{asked} is not within 1 and {MAX_IN_A_ROW}"));
            default
        })
    };
    let rise = in_a_row("rise", spec.rise, RISE);
    let fall = in_a_row("fall", spec.fall, FALL);
    let health = Health {
        check,
        port,
        arrival,
        interval: interval?,
        timeout: timeout?,
        rise,
        fall,
        on_down: spec.on_down,
        on_empty: spec.on_empty,
    };
    right.then(|| Arc::new(health))
}

/// The port that packets arrive at where backends have none of their own: the listeners', if that
/// is one.
fn arrival(listeners: &[Listener]) -> Option<u16> {
    let first = listeners.first()?.port;
    let all = first != 0 && listeners.iter().all(|listener| listener.port == first);
    all.then_some(first)
}

/// What is asked of a backend.
fn check(spec: &HealthSpec, wrong: &mut dyn FnMut(&str, String)) -> Check {
    let kind = spec.kind;
    let mut only = |field: &str, said: bool, needs: CheckType| {
        if said && kind != needs {
            let name = if needs == CheckType::Http { "http" } else { "grpc" };
            wrong(field, format!("has no meaning without type: {name}; leave it out"));
        }
    };
    only("path", spec.path.is_some(), CheckType::Http);
    only("host", spec.host.is_some(), CheckType::Http);
    only("status", spec.status.is_some(), CheckType::Http);
    only("service", spec.service.is_some(), CheckType::Grpc);
    match kind {
        CheckType::Tcp => Check::Tcp,
        CheckType::Http => {
            let path = spec.path.clone().unwrap_or_else(|| "/".to_owned());
            if !path.starts_with('/') || !path.bytes().all(is_of_url) {
                let rule = "begin with / and be the path of a URL, with a query or without";
                wrong("path", format!("{path:?} must {rule}"));
            } else if path.len() > MAX_PATH {
                wrong(
                    "path",
                    format!("has {} characters; at most {MAX_PATH} are allowed", path.len()),
                );
            }
            if let Some(host) = &spec.host {
                word("host", host, wrong);
            }
            let status = Statuses::parse(spec.status.as_deref().unwrap_or(STATUS));
            let status = status.unwrap_or_else(|message| {
                wrong("status", message);
                Statuses(Vec::new())
            });
            Check::Http { path, host: spec.host.clone(), status }
        }
        CheckType::Grpc => {
            let service = spec.service.clone().unwrap_or_default();
            if !service.is_empty() {
                word("service", &service, wrong);
            }
            Check::Grpc { service }
        }
    }
}

/// Whether a path or a query may hold it as it is (RFC 3986).
fn is_of_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// Notes a word that holds something else.
fn word(field: &str, text: &str, wrong: &mut dyn FnMut(&str, String)) {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        wrong(field, format!("{text:?} must be printable ASCII without spaces"));
    } else if text.len() > MAX_HOST {
        wrong(field, format!("has {} characters; at most {MAX_HOST} are allowed", text.len()));
    }
}

/// A time as a file says it.
fn time(text: Option<&str>, default: Duration) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(default) };
    super::time::parse(text, "500ms, 2s or 1m")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn statuses_read_as_they_are_written() {
        let well = Statuses::parse("200-299,404").unwrap();
        assert!(well.contains(200) && well.contains(299) && well.contains(404));
        assert!(!well.contains(300) && !well.contains(199) && !well.contains(403));
        assert_eq!(well.to_string(), "200-299,404");
        for wrong in
            ["", "20", "099", "600", "300-200", "200-", "2xx", "200,,300", "+20", "200-0x1"]
        {
            assert!(Statuses::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Statuses::parse(&["200"; MAX_RANGES].join(",")).is_ok());
        assert!(Statuses::parse(&["200"; MAX_RANGES + 1].join(",")).is_err());
    }
}
