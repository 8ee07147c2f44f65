//! What crosses the rooms of weir: the lab and the tests that use it.
//!
//! - [`frames`]: frames as they stand on the wire
//! - [`program`]: the loaded program, run without an interface
//! - [`history`]: random histories of a service, and the model that flows stay where they began
//! - [`random`]: chance that can be repeated

#![forbid(unsafe_code)]

pub mod frames;
pub mod history;
pub mod program;
pub mod random;
