//! What others are asked: Prometheus, web hooks, commands.
//!
//! Everything here is bounded in time and size, and nothing here holds a rollout up: what takes time
//! runs beside it, and its answers are read when they are there.
//!
//! - [`measure`]: series of other systems, each asked at its interval and held against its conditions
//! - [`hooks`]: hooks, called until they succeed, fail, or run out of time
//! - [`notify`]: news for hooks whose answer changes nothing
//! - [`contract`]: what a hook is told and what it may answer; pure
//! - `http`, `command`: one request, one run of a program

mod command;
pub mod contract;
pub mod hooks;
mod http;
pub mod measure;
pub mod notify;

pub use self::contract::About;
pub use self::hooks::Hooks;
pub use self::http::Http;
pub use self::measure::{Measured, Series};
pub use self::notify::Notifier;
