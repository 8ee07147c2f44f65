//! Simulated releases: what agents count while a candidate takes its share of the connections, and
//! what rules make of it.
//!
//! Nothing is sent. What a tick counts is drawn at once: connections by Poisson, failures and the
//! share of the candidate by binomial draws, handshake times by bucket.
//!
//! - [`world`]: what happens: agents, a ramp, incidents, storms, a fault; and the ticks that it counts
//! - [`scenarios`]: releases with nothing wrong, of all kinds; and faults to be found
//! - [`rules`]: the judge, and what others use instead
//! - [`report`]: how often a rule rolls back a good release, and how soon it finds a bad one

pub mod report;
pub mod rules;
pub mod scenarios;
pub mod world;
