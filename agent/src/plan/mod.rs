//! Planning: from a service's spec to its tables, and from the tables that are to those that shall be.
//!
//! All of it is pure: no I/O, no clock, no randomness, integers only, so every node computes the
//! same bits on every architecture.
//!
//! - [`identity`]: what names a backend on every node
//! - [`version_table`], [`backend_table`]: the two layouts
//! - [`goal`]: both together: what a spec asks for
//! - [`stand_in`]: who takes the place of backends that are not ready
//! - [`tables`]: what is in the kernel: `cur`, `base`, `tracked`
//! - [`steering`]: rules by clients' prefixes, and how they change
//! - [`transition`]: old tables + goal → new tables + moves
//! - [`settle`], [`moved`]: the two halves by which a transition ends, and when
//! - [`abandon`]: giving up what it leaves behind
//! - [`digest`], [`shares`]: what people and nodes compare

pub mod abandon;
pub mod backend_table;
pub mod digest;
pub mod goal;
pub mod identity;
pub mod moved;
pub mod settle;
pub mod shares;
pub mod stand_in;
pub mod steering;
pub mod tables;
pub mod transition;
pub mod version_table;
