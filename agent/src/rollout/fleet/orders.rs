//! What an agent is asked for, and how.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{
    client::{Client, ClientError},
    model::{
        self, BackendState, Fence, LeaseTerms, Rule, ServiceName, Version, Weights,
        guard::{Metric, WindowLength},
    },
    node::messages::{
        ChangeOptions, ClearGuard, InFlight, MAX_REQUEST_ID, RenewLease, RequestId, ServiceShift,
        SetBackend, SetGuard, Shift, Steer,
    },
    rollout::spec::Guard,
};

/// All that an agent is asked for at a tick, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Orders {
    /// In this order.
    pub list: Arc<[Order]>,
    /// Names the transition: `SERVICE/TRANSITION/AGENT`.
    pub name: String,
    /// The generation of the agent's service from which they were worked out.
    pub generation: u64,
    /// Who asks.
    pub fence: Option<Fence>,
}

/// The least time between two attempts at the same orders.
pub(super) const AGAIN: Duration = Duration::from_millis(900);

/// Orders with their number: later ones have higher numbers.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    pub(super) number: u64,
    /// When they were given.
    pub(super) at: Instant,
    pub(super) orders: Orders,
}

impl Numbered {
    /// Before anything is asked for.
    pub(super) fn nothing() -> Self {
        Self { number: 0, at: Instant::now(), orders: Orders::default() }
    }
}

/// One thing that an agent is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The weights, in one commit.
    Weights {
        /// All of them.
        weights: Weights,
        /// What becomes of the connections of versions that lose all.
        in_flight: InFlight,
        /// They hold only while renewed.
        lease: Option<LeaseTerms>,
    },
    /// The lease on the weights, for as long again.
    Renew(LeaseTerms),
    /// Steering rules.
    Steer {
        /// To add, or to lead elsewhere.
        add: Vec<Rule>,
        /// Prefixes whose rules go.
        remove: Vec<IpNet>,
    },
    /// Whether a backend takes new connections.
    Backend {
        /// Which.
        backend: SocketAddr,
        /// What it shall be.
        state: BackendState,
    },
    /// What it enforces on its own.
    Guard(Option<(Guard, Version, Weights)>),
}

/// The id of a request: what is asked in a transition of an agent in one state is asked once, however
/// often it is sent, and whatever is asked beside it by then. When the agent's state has changed since,
/// it is another request: somebody else has changed it, and it is to be changed back.
///
/// None where the agent's generation does not tell that, of a backend's state: to set that again does
/// nothing.
fn request_id(name: &str, generation: u64, order: &Order) -> Option<RequestId> {
    if matches!(order, Order::Backend { .. }) {
        return None;
    }
    let what = short(&format!("{order:?}"));
    let whole = format!("{name}/{generation}.{what:016x}");
    let id = if whole.len() <= MAX_REQUEST_ID {
        whole
    } else {
        format!("{:016x}/{generation}.{what:016x}", short(name))
    };
    RequestId::new(&id).ok()
}

/// A few bytes that tell one text from another.
fn short(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Carries out the order at `place`.
///
/// # Errors
///
/// What the agent says, or that it says nothing.
pub(super) async fn carry_out(
    client: &mut Client,
    service: &ServiceName,
    (orders, place): (&Orders, usize),
) -> Result<(), String> {
    let Some(order) = orders.list.get(place) else { return Ok(()) };
    let service = service.clone();
    let options = ChangeOptions {
        request_id: request_id(&orders.name, orders.generation, order),
        fence: orders.fence.clone(),
        ..ChangeOptions::default()
    };
    let done: Result<(), ClientError> = match order {
        Order::Weights { weights, in_flight, lease } => {
            let set: Vec<_> = weights.iter().collect();
            let remainder = Version::Blue;
            let shifts = vec![ServiceShift { service, set, remainder, expected_generation: None }];
            let shift = Shift { shifts, in_flight: *in_flight, lease: *lease, options };
            client.shift(&shift).await.map(drop)
        }
        Order::Renew(terms) => {
            let length = Some(terms.length);
            let fence = orders.fence.clone();
            let renew = RenewLease { service, expected_generation: None, length, fence };
            client.renew_lease(&renew).await.map(drop)
        }
        Order::Steer { add, remove } => {
            let (add, remove) = (add.clone(), remove.clone());
            let steer = Steer { service, add, remove, expected_generation: None, options };
            client.steer(&steer).await.map(drop)
        }
        Order::Backend { backend, state } => {
            let (address, port, state) = (backend.ip(), backend.port(), *state);
            let set = SetBackend { service, address, port, state, options };
            client.set_backend(&set).await.map(drop)
        }
        Order::Guard(Some((limit, version, fallback))) => {
            let guard = guard(limit, *version, *fallback)?;
            let set = SetGuard { service, guard, fence: orders.fence.clone() };
            client.set_guard(&set).await.map(drop)
        }
        Order::Guard(None) => {
            let fence = orders.fence.clone();
            client.clear_guard(&ClearGuard { service, fence }).await
        }
    };
    done.map_err(|error| error.to_string())
}

/// The guard of a rollout, as an agent takes it.
fn guard(limit: &Guard, version: Version, fallback: Weights) -> Result<model::Guard, String> {
    let window = WindowLength::try_from(limit.window.get())?;
    Ok(model::Guard {
        version,
        metric: Metric::ConnectSuccess,
        least: limit.connect_success,
        min_connections: limit.min_connections,
        window,
        fallback: Some(fallback),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn weights(version: Version) -> Order {
        let weights = Weights::all_to(version);
        Order::Weights { weights, in_flight: InFlight::Keep, lease: None }
    }

    #[test]
    fn ids_name_the_transition_and_fit() {
        let id = |name: &str, generation| {
            request_id(name, generation, &weights(Version::Blue)).map(|id| id.as_str().to_owned())
        };
        let short = id("shop/12/lb1", 7).unwrap();
        assert!(short.starts_with("shop/12/lb1/7."), "{short}");
        assert_eq!(id("shop/12/lb1", 7).unwrap(), short, "however often it is sent");
        assert_ne!(id("shop/12/lb1", 8).unwrap(), short);
        let long = id(&format!("{}/12/lb1", "x".repeat(63)), u64::MAX).unwrap();
        assert!(long.len() <= MAX_REQUEST_ID, "{long}");
        assert_ne!(long, id(&format!("{}/13/lb1", "x".repeat(63)), u64::MAX).unwrap());
    }

    /// Before it stood what has been done by now, and an agent refuses an id that comes with another
    /// request.
    #[test]
    fn an_id_is_of_what_is_asked_wherever_it_stands() {
        let id = |order: Order| request_id("shop/12/lb1", 7, &order);
        assert_ne!(id(weights(Version::Blue)), id(weights(Version::Green)));
        let backend = "10.0.0.1:80".parse().unwrap();
        assert_eq!(id(Order::Backend { backend, state: BackendState::Draining }), None);
    }
}
