//! What would make the tests say what is not so.
//!
//! - [`breadth`]: one client that fails a thousand times is no thousand failures
//! - [`backend`]: one bad backend is no bad version
//! - [`incident`]: what both versions suffer from is nobody's fault
//! - [`shares`]: connections that are not shared as the table says cannot be compared
//!
//! Too little data is a guard as well: `decide` has it.

pub mod backend;
pub mod breadth;
pub mod incident;
pub mod shares;
