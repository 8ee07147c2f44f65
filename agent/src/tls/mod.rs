//! Mutual TLS: what both ends of a connection over TCP need.
//!
//! - [`files`]: certificate, key and authority, read from disk and made into configurations
//! - [`reload`]: files that change while they are in use
//! - [`identity`]: who a certificate says somebody is, and in which role
//! - [`explain`]: what went wrong in a handshake, and what to do about it
//!
//! TLS 1.3 only, and nothing is resumed: whoever connects shows a certificate, which is looked at.

pub mod explain;
pub mod files;
pub mod identity;
pub mod reload;

pub use files::{Files, LoadError};
pub use identity::{Identity, Role};
