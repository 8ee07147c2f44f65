//! What the agent shows over HTTP: metrics, health, and a page for people. Read-only.
//!
//! - [`listen`]: where, and what is refused
//! - `server`, `patient`: connections, bounded in number, size and time
//! - `route`: from a path to an answer
//! - [`collect`]: one look at the node, shared by all who ask at the same time
//! - `ready`: what is missing until traffic may come; pure
//! - `page`: the page itself, one file; `feed`, `view`: what it is told as it happens
//! - [`metrics`], `rows`, [`families`], [`exposition`]: the look as text for Prometheus; pure

pub mod collect;
pub mod exposition;
pub mod families;
mod feed;
pub mod listen;
pub mod metrics;
mod page;
mod patient;
mod ready;
pub(crate) mod route;
mod rows;
pub(crate) mod server;
mod view;

pub use listen::{Bound, DEFAULT, Listen, bind};
pub use server::{Serving, serve};
