//! What counters say of a candidate: counts of a tick, to evidence, to a verdict. Pure.
//!
//! A release is looked at twice a second, so a test must hold however often one looks. Each test here
//! is a bet against "the candidate is no worse": what it has won is its *evidence*, and who bets
//! against the truth wins a factor of `1 / alpha` with a chance of at most `alpha`, in all looks
//! together (Ville's inequality). `docs/statistics.md` says it for people.
//!
//! - [`config`]: what is judged, and how strictly
//! - [`tick`]: what one agent counted in one tick, of the candidate and of the baseline
//! - [`stratum`]: both versions, side by side, as the tests compare them
//! - [`guards`]: what would make the tests say what is not so: one client that fails a thousand times,
//!   one bad backend, an incident that both versions share, connections that are shared otherwise
//! - [`counts`]: the test for what is rare: failures, resets, retransmissions
//! - [`proportions`]: the test for what is not
//! - [`quantiles`]: handshake times as proportions
//! - [`reserve`]: evidence kept back for what begins late
//! - [`ratio`]: how many times worse, with its interval
//! - [`external`]: what others have measured
//! - [`series`]: one metric's tests
//! - [`state`]: what is kept of an analysis
//! - [`decide`]: from evidence to a verdict
//! - [`verdict`], [`explain`]: the answer, in numbers and in a sentence
//! - [`need`]: how many connections a decision takes

pub mod config;
pub mod counts;
pub mod decide;
pub mod explain;
pub mod external;
pub mod guards;
pub mod need;
pub mod proportions;
pub mod quantiles;
pub mod ratio;
pub mod reserve;
pub mod series;
pub mod state;
pub mod stratum;
pub mod tick;
pub mod verdict;

pub use config::{Config, External, Metric, OnInsufficient};
pub use explain::{Explanation, Finding};
pub use external::Outcome;
pub use need::{HardRule, Load, Need};
pub use state::Judge;
pub use tick::{Arm, BackendArm, Tick};
pub use verdict::{Role, Verdict};

#[cfg(test)]
mod tests;
